"""HTTP to the engine: one connection per request, no proxies, every wait bounded."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import socket
from typing import Any, Callable, Dict, Iterable, List, Optional, Union
from urllib.parse import SplitResult, urlsplit

from cellseg_client.errors import (
    AccessError,
    EngineError,
    EngineLostError,
    EngineTimeoutError,
    FailedError,
    RefusedError,
)

TOKEN_HEADER = "X-CellSeg-Token"  # noqa: S105 - the name of the header
CONNECT_TIMEOUT_S = 5.0
HEALTH_TIMEOUT_S = 2.0
SILENCE_TIMEOUT_S = 30.0
"""The engine says that it is alive twice a second; this long without a word it hangs."""

_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 65536

Body = Union[bytes, Iterable[bytes], None]


class NotRunningError(EngineLostError):
    """Nothing listens at the address: no request was sent."""


class Connection:
    """Where an engine is and how it is asked.

    Parameters
    ----------
    url
        For example ``http://127.0.0.1:40321``; https and a path below which it lives are allowed.
    token
        Its secret.
    pid
        Of a local engine, for messages; 0 for one on another machine.
    """

    def __init__(self, url: str, token: str, pid: int = 0) -> None:
        parts = _split(url)
        if parts is None:
            raise RefusedError(
                "{!r} is not the address of an engine.".format(url),
                hint="Give http://HOST:PORT or https://HOST, with a port of 1 to 65535.",
                code="url",
            )
        self.url = url.rstrip("/")
        self.token = token
        self.pid = pid
        self._parts = parts

    @property
    def name(self) -> str:
        """The engine, for messages."""
        where = "the engine at {}".format(self.url)
        return "{} (process {})".format(where, self.pid) if self.pid else where

    def open(
        self,
        method: str,
        path: str,
        *,
        body: Body = None,
        length: Optional[int] = None,
        content_type: str = "application/json",
        timeout_s: float = SILENCE_TIMEOUT_S,
        with_token: bool = True,
    ) -> "Exchange":
        """Send a request and give the answer's headers, the body still to be read.

        Raises
        ------
        NotRunningError, EngineLostError, EngineTimeoutError, AccessError
            One sentence says why.
        """
        parts = self._parts
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT_S)
        headers = {"Connection": "close"}
        if with_token:
            headers[TOKEN_HEADER] = self.token
        if body is not None:
            headers["Content-Type"] = content_type
            if length is None and isinstance(body, bytes):
                length = len(body)
            headers["Content-Length"] = str(length)
        try:
            connection.connect()
        except socket.timeout as error:
            connection.close()
            raise self._timeout(CONNECT_TIMEOUT_S) from error
        except OSError as error:
            connection.close()
            raise NotRunningError(
                "{} cannot be reached: {}.".format(capital(self.name), error.strerror or error),
                hint="It has ended; the next image, or cellseg_client.ensure(), starts another one."
                if self.pid
                else "Is it running, and does a firewall let you through?",
            ) from error
        connection.sock.settimeout(timeout_s)
        return self._send(
            connection, method, parts.path.rstrip("/") + path, body, headers, timeout_s
        )

    def ask(self, method: str, path: str, value: Any = None, **options: Any) -> Dict[str, Any]:
        """Send JSON and give the answer's JSON.

        Raises
        ------
        RefusedError, FailedError
            The engine's own sentence.
        NotRunningError, EngineLostError, EngineTimeoutError, AccessError
            One sentence says why.
        """
        body = None if value is None else json.dumps(value).encode("ascii")
        with self.open(method, path, body=body, **options) as answer:
            return answer.json()

    def proven(self, timeout_s: float = SILENCE_TIMEOUT_S) -> "Connection":
        """Give this connection once what listens has proved that it is the engine.

        Raises
        ------
        AccessError
            It does not know the token, and is not told it.
        NotRunningError, EngineTimeoutError
            Nothing answers.
        """
        try:
            health = self.prove(timeout_s)
        except NotRunningError:
            raise
        except EngineLostError:
            health = None  # something listens, but does not answer as an engine
        if health is None:
            raise AccessError(
                "What listens at {} is no engine with this token.".format(self.url),
                hint=""
                if self.pid
                else "Take address and token from the terminal where `cellseg serve` runs.",
            )
        return self

    def prove(self, timeout_s: float = HEALTH_TIMEOUT_S) -> Optional[Dict[str, Any]]:
        """Ask for a proof that the listener knows the token, without telling it the token.

        Returns
        -------
        Its health, or None if the listener is not the engine.

        Raises
        ------
        NotRunningError, EngineLostError, EngineTimeoutError
            Nothing answers.
        """
        nonce = os.urandom(16).hex()
        try:
            health = self.ask(
                "GET",
                "/v1/health?nonce=" + nonce,
                timeout_s=timeout_s,
                with_token=False,
            )
        except (RefusedError, FailedError, AccessError):
            return None
        expected = hmac.new(self.token.encode(), nonce.encode(), hashlib.sha256).hexdigest()
        proof = str(health.get("proof", ""))
        if not hmac.compare_digest(expected.encode(), proof.encode("utf-8", "replace")):
            return None
        if self.pid and health.get("pid") != self.pid:
            return None
        return health

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Body,
        headers: Dict[str, str],
        timeout_s: float,
    ) -> "Exchange":
        try:
            try:
                connection.request(method, path, body=body, headers=headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before the body was read: the answer says why
            response = connection.getresponse()
        except socket.timeout as error:
            connection.close()
            raise self._timeout(timeout_s) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self.lost() from error
        exchange = Exchange(self, connection, response, timeout_s)
        if response.status >= 400:
            with exchange:
                raise exchange.refusal()
        return exchange

    def lost(self) -> EngineLostError:
        """Give the error for an engine that ended in the middle."""
        return EngineLostError(
            "{} ended, or the connection to it broke, before there was a result.".format(
                capital(self.name)
            ),
            hint="Try again: the next call starts a new engine; its log says more (engine.log, "
            "engine.err)."
            if self.pid
            else "Try again.",
        )

    def _timeout(self, seconds: float) -> EngineTimeoutError:
        return EngineTimeoutError(
            "{} has not answered for {:g} s.".format(capital(self.name), seconds),
            hint="If it hangs, end process {} and try again.".format(self.pid) if self.pid else "",
        )


class Exchange:
    """One request whose answer is being read; a context manager that closes the connection."""

    def __init__(
        self,
        owner: Connection,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        timeout_s: float,
    ) -> None:
        self._owner = owner
        self._connection = connection
        self.response = response
        self._timeout_s = timeout_s

    def __enter__(self) -> "Exchange":
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self._connection.close()

    def readline(self) -> bytes:
        """Give the next line, empty at the end of the answer."""
        line: bytes = self._guard(self.response.readline)
        return line

    def readinto(self, view: memoryview) -> int:
        """Read some bytes into a buffer and give how many."""
        count: int = self._guard(self.response.readinto, view)
        return count

    def read(self, limit: int = _MAX_ANSWER_BYTES) -> bytes:
        """Give what is left, at most ``limit`` bytes."""
        parts: List[bytes] = []
        left = limit
        while left > 0:
            # In pieces: some Pythons first make a buffer of all that is asked for.
            part = self._guard(self.response.read, min(left, _CHUNK_BYTES))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def json(self) -> Dict[str, Any]:
        """Give the whole answer as JSON."""
        try:
            value = json.loads(self.read().decode("utf-8"))
        except ValueError as error:
            raise FailedError(
                "{} answered something that is not JSON: is it an engine?".format(
                    capital(self._owner.name)
                )
            ) from error
        return value if isinstance(value, dict) else {"items": value}

    def refusal(self) -> EngineError:
        """Give the error that an answer with a status of 400 or more stands for."""
        status = self.response.status
        try:
            error = self.json().get("error")
        except EngineError:
            error = None
        if not isinstance(error, dict):
            error = {
                "message": "{} answered {} {}.".format(
                    capital(self._owner.name), status, self.response.reason
                )
            }
        return make_error("failed" if status == 500 else "refused", error, status)

    def _guard(self, read: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return read(*arguments)
        except socket.timeout as error:
            raise self._owner._timeout(self._timeout_s) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._owner.lost() from error


def make_error(status: str, error: Dict[str, Any], http_status: int = 0) -> EngineError:
    """Give the exception for the ``error`` of an answer."""
    from cellseg_client.errors import SegmentationCancelledError

    kinds = {"refused": RefusedError, "cancelled": SegmentationCancelledError}
    kind = AccessError if http_status == 401 else kinds.get(status, FailedError)
    return kind(
        str(error.get("message", "The engine gave no reason.")),
        hint=str(error.get("hint", "")),
        code=str(error.get("code", "")),
    )


def _split(url: str) -> Optional[SplitResult]:
    """Give the parts of the address of an engine, or None for what is none."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # also of a port that is none
        return None
    return parts if is_one else None


def capital(text: str) -> str:
    """Let a sentence begin with a capital."""
    return text[:1].upper() + text[1:]
