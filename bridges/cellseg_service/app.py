"""The routes: HTTP in, the service's answers out."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cellseg_engine.errors import CellSegError
from cellseg_service.errors import QueueFullError, RequestError, StoppingError
from cellseg_service.exchange import create_private, is_full, remove
from cellseg_service.jobs import Job
from cellseg_service.messages import describe_error, encode_event
from cellseg_service.page import page_routes
from cellseg_service.security import UPLOAD_PATH, Gate
from cellseg_service.service import Service
from cellseg_service.training import Training
from cellseg_service.wire import contract

log = logging.getLogger(__name__)

ALIVE_EVERY_S = 0.5
RETRY_AFTER_S = 5
_WRITE_BYTES = 4 << 20
_NONCE = re.compile(r"[0-9a-fA-F]{0,128}")


def make_app(service: Service, token: str, hosts: set[str]) -> ASGIApp:
    """Give the application, with its gate."""
    routes = _Routes(service)
    app = Starlette(
        routes=[
            *page_routes(),
            Route("/v1/health", routes.health),
            Route("/v1/schema", routes.schema),
            Route("/v1/models", routes.models),
            Route("/v1/weights", routes.weights, methods=["POST"]),
            Route("/v1/status", routes.status),
            Route("/v1/thumbnails/{job}.png", routes.thumbnail),
            Route(UPLOAD_PATH, routes.upload, methods=["POST"]),
            Route("/v1/downloads/{name}", routes.download, methods=["GET", "DELETE"]),
            Route("/v1/segment", routes.segment, methods=["POST"]),
            Route("/v1/training/folder", routes.training_folder, methods=["POST"]),
            Route("/v1/training/images", routes.add_to_folder, methods=["POST"]),
            Route("/v1/train", routes.train, methods=["POST"]),
            Route("/v1/jobs/{job}", routes.cancel, methods=["DELETE"]),
        ],
        exception_handlers={
            CellSegError: _refuse,
            HTTPException: _refuse_http,
            ClientDisconnect: _end,
            OSError: _refuse_full,
            Exception: _fail,
        },
    )
    limit = service.options.upload_limit_bytes
    return Gate(app, token=token, hosts=hosts, upload_limit_bytes=limit)


class JobStream(StreamingResponse):
    """The events of a job; however the stream ends, ``on_close`` is called."""

    def __init__(self, events: AsyncIterator[bytes], on_close: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies: do not wait
        super().__init__(events, media_type="application/x-ndjson", headers=headers)
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the last one, or until the client closes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_close()


class Download(FileResponse):
    """A file of a result; ``on_chunk`` is called with each part of it, however slow the line."""

    def __init__(self, path: Path, on_chunk: Callable[[], None]) -> None:
        super().__init__(path, media_type="application/octet-stream")
        self._on_chunk = on_chunk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""

        async def send_on(message: Message) -> None:
            self._on_chunk()
            await send(message)

        await super().__call__(scope, receive, send_on)


class _Routes:
    """One method per route."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def health(self, request: Request) -> Response:
        nonce = request.query_params.get("nonce", "")
        if not _NONCE.fullmatch(nonce):
            raise RequestError("The nonce is not hexadecimal.")
        return _json(self._service.health(nonce, request.scope["cellseg_authorized"]))

    async def schema(self, _request: Request) -> Response:
        self._service.touch()
        return _json(contract())

    async def models(self, _request: Request) -> Response:
        return _json(await run_in_threadpool(self._service.models))

    async def weights(self, request: Request) -> Response:
        body = await request.body()
        return _json(await run_in_threadpool(self._service.weights, body))

    async def status(self, _request: Request) -> Response:
        return _json(self._service.status())

    async def thumbnail(self, request: Request) -> Response:
        picture = await run_in_threadpool(self._service.thumbnail, request.path_params["job"])
        if not picture:
            raise HTTPException(404, "There is no thumbnail of that job.")
        return Response(picture, media_type="image/png", headers={"Cache-Control": "no-store"})

    async def upload(self, request: Request) -> Response:
        path = self._service.new_upload(int(request.headers["content-length"]))
        try:
            await _save_body(request, path)
        except BaseException:
            remove(path)
            raise
        return _json({"upload": self._service.transfers.keep_upload(path)})

    async def download(self, request: Request) -> Response:
        name = request.path_params["name"]
        self._service.keep_results(name)
        if request.method == "DELETE":
            return _json({"removed": self._service.transfers.drop_download(name)})
        path = self._service.transfers.download(name)
        if path is None:
            raise HTTPException(
                404, "There is no such download; results are kept for a while only."
            )
        return Download(path, lambda: self._service.keep_results(name))

    async def segment(self, request: Request) -> Response:
        body = await request.body()
        job, position = self._service.accept(body, asyncio.get_running_loop())
        close = self._service.scheduler.abandon
        return JobStream(_events(job, position), lambda: close(job))

    async def training_folder(self, request: Request) -> Response:
        body = await request.body()
        return _json(await run_in_threadpool(self._service.describe_folder, body))

    async def add_to_folder(self, request: Request) -> Response:
        body = await request.body()
        return _json(await run_in_threadpool(self._service.add_to_folder, body))

    async def train(self, request: Request) -> Response:
        body = await request.body()
        loop = asyncio.get_running_loop()
        training = await run_in_threadpool(self._service.train, body, loop)
        close = self._service.trainings.abandon
        return JobStream(_events(training, 0), lambda: close(training))

    async def cancel(self, request: Request) -> Response:
        job = request.path_params["job"]
        state = self._service.cancel(job)
        if not state:
            raise HTTPException(404, "There is no such job, or it is over.")
        return _json({"job": job, "state": state})


async def _events(job: Job | Training, position: int) -> AsyncIterator[bytes]:
    yield encode_event({"event": "queued", "job": job.id, "position": position})
    while True:
        event = await job.mailbox.next(ALIVE_EVERY_S)
        yield encode_event(event or {"event": "alive", "job": job.id})
        if event is not None and event["event"] == "result":
            return


async def _save_body(request: Request, path: Path) -> None:
    file = await run_in_threadpool(create_private, path)
    try:
        buffer = bytearray()
        async for chunk in request.stream():
            buffer += chunk
            if len(buffer) >= _WRITE_BYTES:
                await run_in_threadpool(file.write, bytes(buffer))
                buffer.clear()
        await run_in_threadpool(file.write, bytes(buffer))
    finally:
        await run_in_threadpool(file.close)


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(content, allow_nan=False).encode("ascii")
    return Response(
        body,
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


async def _refuse(_request: Request, error: Exception) -> Response:
    """Answer a mistake found before the stream began."""
    if not isinstance(error, CellSegError):
        raise error
    is_busy = isinstance(error, QueueFullError | StoppingError)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if is_busy else None
    content = {"status": "refused", "error": describe_error(error)}
    return _json(content, 503 if is_busy else 400, headers)


async def _refuse_http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    about = {"code": "http", "message": str(error.detail), "hint": ""}
    headers = dict(error.headers or {})
    return _json({"status": "refused", "error": about}, error.status_code, headers)


async def _end(_request: Request, _error: Exception) -> Response:
    """End a request whose client has gone before its body was complete."""
    return Response(status_code=400)


async def _refuse_full(_request: Request, error: Exception) -> Response:
    if not isinstance(error, OSError) or not is_full(error):
        raise error
    about = {
        "code": "exchange-full",
        "message": "There is no space left in the exchange folder of the engine.",
        "hint": "Free some space there, or start it with another --temporary-folder.",
    }
    return _json({"status": "refused", "error": about}, 507)


async def _fail(_request: Request, error: Exception) -> Response:
    """Answer a defect of ours; the traceback goes to the log."""
    log.error("internal error", exc_info=error)
    message = f"Internal error of the engine: {type(error).__name__}: {error}"
    about = {"code": "internal", "message": message[:1000], "hint": ""}
    return _json({"status": "failed", "error": about}, 500)
