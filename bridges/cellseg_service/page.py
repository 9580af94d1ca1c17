"""The status page for people: one answer, nothing loaded from elsewhere.

The page asks ``/v1/status`` like any other client, with the token that stands behind the ``#`` of
its address (a browser never sends that part). So this answer holds nothing secret and needs no
token itself.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def page_routes() -> list[Route]:
    """Give the routes of the page: ``GET /``."""
    return [Route("/", _answer, methods=["GET"])]


async def _answer(_request: Request) -> Response:
    body, headers = build_page()
    return Response(body, media_type="text/html; charset=utf-8", headers=headers)


@lru_cache(maxsize=1)
def build_page() -> tuple[bytes, dict[str, str]]:
    """Give the page and its headers.

    Style and script stand in the page itself; the headers let the browser use these two, known by
    their SHA-256, and nothing else: a text that slipped through as HTML could run nothing.
    """
    html, style = _read("page.html"), _read("page.css")
    script = _read("page_board.js") + _read("page.js")
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return html.replace("@style@", style).replace("@script@", script).encode(), headers


def _read(name: str) -> str:
    return files("cellseg_service").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
