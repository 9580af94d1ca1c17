"""Who may ask, and how much: Host, Origin, token and length, before anything is read."""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN_HEADER = b"x-cellseg-token"
JSON_LIMIT_BYTES = 1_000_000
UPLOAD_PATH = "/v1/uploads"
OPEN_PATHS = frozenset({"/", "/v1/health"})
"""What needs no token: the page, which holds nothing, and the engine's proof."""

_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class RefusalError(Exception):
    """A request that is answered without being read."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "status": "refused",
            "error": {"code": code, "message": message, "hint": hint},
        }


class Gate:
    """ASGI middleware that lets pass only what may come in.

    Parameters
    ----------
    app
        What is behind it.
    token
        The secret.
    hosts
        Values of the Host header that are ours; a page of another site, even one whose name was
        turned to 127.0.0.1, sends its own name.
    upload_limit_bytes
        Largest upload.
    """

    def __init__(
        self, app: ASGIApp, *, token: str, hosts: Collection[str], upload_limit_bytes: int
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(host.lower() for host in hosts)
        self._upload_limit_bytes = upload_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            return
        try:
            self._check(scope)
        except RefusalError as refusal:
            await _answer(refusal, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        host = _one(headers, b"host").lower()
        if host not in self._hosts:
            raise RefusalError(
                421,
                "host",
                f"This engine is not called {host[:100]!r}.",
                "Use the address that the engine printed, or start it with --allow-host NAME.",
            )
        origin = _one(headers, b"origin")
        if origin and not _is_same(origin, host):
            raise RefusalError(403, "origin", f"Pages of {origin[:100]!r} may not use this engine.")
        scope["cellseg_authorized"] = self._knows_token(headers)
        if scope["path"] not in OPEN_PATHS and not scope["cellseg_authorized"]:
            raise RefusalError(
                401,
                "token",
                "The token is missing or wrong.",
                "Let the client find the engine again; it may have been started anew.",
            )
        self._check_length(scope, headers)

    def _knows_token(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name == TOKEN_HEADER]
        return len(given) == 1 and hmac.compare_digest(given[0], self._token)

    def _check_length(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> None:
        text = _one(headers, b"content-length")
        has_length = text.isascii() and text.isdigit()
        if _one(headers, b"transfer-encoding") or (
            scope["method"] in _BODY_METHODS and not has_length
        ):
            raise RefusalError(411, "length", "A request needs a Content-Length.")
        limit = self._upload_limit_bytes if scope["path"] == UPLOAD_PATH else JSON_LIMIT_BYTES
        if has_length and int(text[:20]) > limit:
            raise RefusalError(
                413,
                "too-large",
                f"The body has {int(text[:20]):,} bytes; this engine takes {limit:,}.",
                "Segment a part of the image, or start the engine with a larger --upload-limit."
                if scope["path"] == UPLOAD_PATH
                else "Send images as files of the exchange folder, or as uploads.",
            )


def own_names(host: str, port: int, more: Collection[str]) -> set[str]:
    """Give the values of the Host header under which a service may be called."""
    names = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - these are no names
        names.add(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    for name in more:
        names |= {name, f"{name}:{port}"}
    return names


def _one(headers: list[tuple[bytes, bytes]], name: bytes) -> str:
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise RefusalError(
            400, "request", f"The header {name.decode()} is there {len(values)} times."
        )
    return values[0].decode("latin-1") if values else ""


def _is_same(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin.lower())
        port = parts.port
    except ValueError:
        return False
    default = _DEFAULT_PORTS.get(parts.scheme)
    if default is None:
        return False
    return host in (parts.netloc, f"{parts.netloc}:{port or default}")


async def _answer(refusal: RefusalError, send: Send) -> None:
    body = json.dumps(refusal.body).encode("ascii")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
