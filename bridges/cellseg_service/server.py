"""From the lock to the last request: socket, ``engine.json``, uvicorn, and tidying up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import os
import secrets
import socket
import stat
import sys
import threading
import time
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cellseg_client.places import LOG_NAME, OUTPUT_NAME
from cellseg_engine._version import __version__
from cellseg_engine.settings import Settings
from cellseg_service.app import make_app
from cellseg_service.exchange import Exchange
from cellseg_service.options import ServiceOptions
from cellseg_service.record import Record
from cellseg_service.security import own_names
from cellseg_service.service import Service
from cellseg_service.worker import MakeSegmenter, SegmenterLike

log = logging.getLogger(__name__)

EXIT_BROKEN = 1
EXIT_USE = 2
GRACE_S = 5
FIRST_REQUEST_S = 10.0
"""Who connects, or has an answer, and asks nothing for so long is sent away."""
FAULT_TOLD_S = 10.0
"""An engine that cannot be loaded says why to all who ask meanwhile, and ends."""
OPEN_FILES = 4096
"""Wanted at least; a connection is one, and some systems allow 256."""
CHECK_EVERY_S = 1.0
TIDY_EVERY_S = 30.0
BACKLOG = 256
MIN_TOKEN_CHARACTERS = 32
_LOG_BYTES = 1_000_000


def load_segmenter(settings: Settings) -> SegmenterLike:
    """Load a model: the same class and the same call as ``cellseg segment``."""
    from cellseg_engine.pipeline.segmenter import Segmenter

    return Segmenter(settings)


def run(options: ServiceOptions, folder: Path, make_segmenter: MakeSegmenter) -> int:
    """Serve until the end and give the exit code; the caller holds the engine's lock.

    Parameters
    ----------
    options
        As started.
    folder
        The runtime folder.
    make_segmenter
        Loads a model, `load_segmenter` or one that costs nothing.
    """
    _start_log(folder, options.background)
    _allow_open_files()
    try:
        token = _read_token(options.token_file) or secrets.token_hex(32)
        listener = _listen(options.host, options.port)
        exchange = Exchange(options.fast_folder, options.temporary_folder)
        port = listener.getsockname()[1]
        record = Record(folder, _url(options.host, port), token, exchange)
    except (OSError, ValueError) as error:
        log.error("cannot start: %s", error)
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USE
    service = Service(options, token, exchange, make_segmenter)
    try:
        hosts = own_names(options.host, port, options.allowed_hosts)
        server = _Server(_configure(service, token, hosts), service, record)
        server.run(sockets=[listener])
    finally:
        record.withdraw()
        exchange.close()
        listener.close()
        log.info("ended")
        logging.shutdown()
    return EXIT_BROKEN if service.scheduler.is_broken else 0


class _Server(uvicorn.Server):
    """uvicorn's server, with what happens besides requests."""

    def __init__(self, config: uvicorn.Config, service: Service, record: Record) -> None:
        super().__init__(config)
        self._service = service
        self._record = record
        self._watcher: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open for requests, then tell where."""
        await super().startup(sockets)
        self._record.write()
        log.info("listening at %s, version %s", self._record.url, __version__)
        if not self._service.options.background:
            _greet(self._record)
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()
        self._watcher = asyncio.create_task(self._watch())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop the jobs at the next tile, so that the end does not wait for them."""
        log.info("signal %d", sig)
        threading.Thread(target=self._service.stop, daemon=True).start()
        super().handle_exit(sig, frame)

    def _warm_up(self) -> None:
        try:
            self._service.warm_up()
        except Exception as error:
            log.exception("the engine cannot be loaded")
            print(f"Error: {self._service.break_down(error)}", file=sys.stderr, flush=True)  # noqa: T201
            time.sleep(FAULT_TOLD_S)
            self.should_exit = True

    async def _watch(self) -> None:
        """End when it is over; remove what nobody fetched. What goes wrong is tried again."""
        waited = 0.0
        while not self.should_exit:
            await asyncio.sleep(CHECK_EVERY_S)
            waited += CHECK_EVERY_S
            try:
                reason = self._service.why_over() or self._record.make_sure()
                if reason:
                    log.info("ends: %s", reason)
                    self._end()
                if waited >= min(TIDY_EVERY_S, self._service.options.keep_s):
                    waited = 0.0
                    self._record.refresh()
                    await asyncio.to_thread(self._service.tidy)
            except Exception:
                log.exception("the folders cannot be looked after now")

    def _end(self) -> None:
        """End, found by nobody any more; jobs that run without exchange folders are told."""
        self._record.withdraw()
        if self._service.is_busy():
            threading.Thread(target=self._service.stop, daemon=True).start()
        self.should_exit = True


class _Protocol(H11Protocol):
    """uvicorn's HTTP, which would wait for the rest of a request for ever."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._patience.cancel()
        if not self.transport.is_closing():
            self._wait()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._patience.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._patience = self.loop.call_later(FIRST_REQUEST_S, self._send_away)

    def _send_away(self) -> None:
        cycle = getattr(self, "cycle", None)
        if cycle is None or cycle.response_complete:  # no request, or half of one
            self.transport.close()


def _configure(service: Service, token: str, hosts: set[str]) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(service, token, hosts),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
    )


def _allow_open_files() -> None:
    """Raise the soft limit of open files, where there is one and the system lets us."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    With its protocol named, since asyncio switches Nagle's algorithm off only then, which costs
    44 ms a request otherwise; without SO_REUSEADDR on a free port, which nobody can take over.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if port and sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(
            f"The engine cannot listen at {host}, port {port}: {error.strerror}. Use --port 0 for "
            "a free one, or end the program that has it."
        ) from error
    listener.setblocking(False)
    return listener


def _read_token(path: Path | None) -> str:
    if path is None:
        return ""
    about = path.stat()
    if sys.platform != "win32" and stat.S_IMODE(about.st_mode) & 0o077:
        raise ValueError(f"Others may read the token file {path}: use chmod 600.")
    token = path.read_text(encoding="ascii").strip()
    if len(token) < MIN_TOKEN_CHARACTERS or not token.isalnum():
        raise ValueError(
            f"The token in {path} must be {MIN_TOKEN_CHARACTERS} or more letters and digits, for "
            'example from python -c "import secrets; print(secrets.token_hex(32))".'
        )
    return token


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    return f"http://[{name}]:{port}" if ":" in name and "[" not in name else f"http://{name}:{port}"


def _greet(record: Record) -> None:
    print(f"The engine runs at {record.url} (process {os.getpid()}).", flush=True)  # noqa: T201
    if sys.stdout.isatty():
        print(f"Status page: {record.url}/#token={record.token}", flush=True)  # noqa: T201
    print("Ctrl-C ends it.", flush=True)  # noqa: T201


class _PrivateLog(logging.handlers.RotatingFileHandler):
    """A log whose files, also those that it begins later, only this user can read."""

    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_open_private
        )


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _start_log(folder: Path, background: bool) -> None:
    """Write the log into the runtime folder, and when started by hand also to the terminal."""
    with contextlib.suppress(OSError):
        output = folder / OUTPUT_NAME
        if output.stat().st_size > _LOG_BYTES:
            os.truncate(output, 0)
    log_file = folder / LOG_NAME
    handlers: list[logging.Handler] = [
        _PrivateLog(
            log_file,
            maxBytes=_LOG_BYTES,
            backupCount=1,
            encoding="utf-8",
            errors="backslashreplace",
        )
    ]
    if not background:
        handlers.append(logging.StreamHandler())
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=handlers,
        force=True,
    )
    logging.getLogger("numba").setLevel(logging.WARNING)
    logging.captureWarnings(True)
