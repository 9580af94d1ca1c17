"""A real headless Chromium for tests, and an engine's status made up for it to look at."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import imagecodecs
import numpy as np
import uvicorn
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cellseg_service.page import page_routes
from tests.conftest import require

Found = TypeVar("Found")
TOKEN = "right-token-0123456789"
PATIENCE_S = 20.0
HOSTILE = "<img src=x onerror=\"window.pwned=1\"> & 'plate' \u202e.tif"


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """Start a browser that talks to nobody but the pages it is given."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    reason = "needs a Chromium and its driver (Debian: apt-get install chromium chromium-driver)"
    require(program and driver, reason)
    options = ChromeOptions()
    options.binary_location = str(program)
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-proxy-server",
        "--window-size=1100,1000",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=Service(executable_path=driver))
    try:
        yield browser
    finally:
        browser.quit()


def wait_for(look: Callable[[], Found], what: str) -> Found:
    """Look again until something true is seen; what vanishes under the look is looked at again."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(StaleElementReferenceException):
            found = look()
            if found:
                return found
        time.sleep(0.05)
    raise AssertionError(f"never seen: {what}")


def text_of(browser: Chrome, selector: str) -> str:
    """Give the visible text of the first element that fits, or nothing."""
    found = browser.find_elements(By.CSS_SELECTOR, selector)
    try:
        return found[0].text if found else ""
    except StaleElementReferenceException:  # the page has just put another in its place
        return text_of(browser, selector)


def complaints(browser: Chrome) -> list[dict[str, Any]]:
    """Take what the browser wrote to its console since the last time."""
    log: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return log


def example_status() -> dict[str, Any]:
    """Give a status with something of every kind in it."""
    return {
        "version": "0.1.0",
        "wire": 1,
        "pid": 4242,
        "state": "ready",
        "device": "cpu (8 threads)",
        "uptime_s": 5025,
        "memory": {"rss_bytes": 1_430_000_000, "total_bytes": 16_600_000_000, "gpu": None},
        "counters": {
            "models_loaded": 1,
            "jobs_done": 231,
            "jobs_failed": 1,
            "jobs_refused": 2,
            "jobs_cancelled": 4,
        },
        "running": [
            {
                "id": "job-7",
                "client": "CellProfiler on lab-3",
                "title": "plate 12, well B07, site 3",
                "stage": "network",
                "fraction": 0.62,
                "seconds": 4.2,
            }
        ],
        "training": None,
        "queued": [
            {"id": "job-8", "client": "Fiji on lab-1", "title": HOSTILE, "position": 0},
            {"id": "job-9", "client": "CellProfiler on lab-3", "title": "B08", "position": 1},
        ],
        "recent": [
            recent("job-6", "plate 12, well B07, site 2", objects=187, thumbnail=True),
            recent("job-5", "plate 12, well B07, site 1", objects=1, thumbnail=True),
            recent(
                "job-4",
                "empty well.tif",
                objects=0,
                warnings=["No objects were found: the result is empty."],
            ),
            recent(
                "job-3",
                "stack of the whole embryo.tif",
                status="refused",
                error={
                    "code": "memory",
                    "message": "This image needs about 41 GB and the device has 8 GB.",
                    "hint": "Cut it into parts, or use a machine with more memory.",
                },
            ),
            recent("job-2", "B06.tif", status="cancelled"),
        ],
        "recent_trainings": [],
    }


def example_training() -> dict[str, Any]:
    """Give a training that runs, as the status has it."""
    return {
        "id": "training-1",
        "client": "Fiji on lab-1",
        "model": "mine",
        "stage": "training",
        "fraction": 0.25,
        "epoch": 25,
        "epochs": 100,
        "seconds": 125.0,
    }


def recent(job: str, title: str, **more: Any) -> dict[str, Any]:
    """Give one entry of the last results."""
    thumbnail = f"/v1/thumbnails/{job}.png" if more.pop("thumbnail", False) else None
    entry: dict[str, Any] = {
        "id": job,
        "title": title,
        "client": "CellProfiler on lab-3",
        "status": "ok",
        "objects": None,
        "seconds": 3.14,
        "diameter_px": 17.25,
        "warnings": [],
        "error": None,
        "thumbnail": thumbnail,
    }
    return entry | more


class PretendEngine:
    """Serves the page and a status that a test can change; records what it is asked."""

    def __init__(self, thumbnail: bytes | None = None) -> None:
        self.status = example_status()
        self.token = TOKEN
        self.trouble = 0
        self.is_stuck = False  # half an answer, and no more
        self.asked: list[tuple[str, str, str]] = []
        self.thumbnail = thumbnail or make_thumbnail()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Serve, again on the same port after a stop."""
        routes = [
            *page_routes(),
            Route("/v1/status", self._answer_status),
            Route("/v1/thumbnails/{name}", self._answer_thumbnail),
            Route("/v1/jobs/{job}", self._answer_cancel, methods=["DELETE"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), port=self.port, log_level="critical", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        wait_for(lambda: self._server and self._server.started, "a server")

    async def _serve(self) -> None:
        assert self._server is not None
        await self._server.serve()

    def stop(self) -> None:
        """End as an engine does that was killed."""
        if self._server and self._thread:
            self._server.force_exit = self._server.should_exit = True
            self._thread.join(PATIENCE_S)

    def _refuses(self, request: Request) -> Response | None:
        given = request.headers.get("X-CellSeg-Token", "")
        self.asked.append((request.method, str(request.url), given))
        if self.trouble:
            error = {"code": "busy", "message": "The queue is full.", "hint": "Wait a little."}
            return JSONResponse({"status": "refused", "error": error}, self.trouble)
        if given == self.token:
            return None
        return JSONResponse({"status": "refused", "error": {"code": "token"}}, 401)

    async def _answer_status(self, request: Request) -> Response:
        refused = self._refuses(request)
        if self.is_stuck and not refused:
            return StreamingResponse(self._half_an_answer(), media_type="application/json")
        return refused or JSONResponse(copy.deepcopy(self.status))

    async def _half_an_answer(self) -> AsyncIterator[bytes]:
        yield b'{"state": '
        while self.is_stuck:
            await asyncio.sleep(0.05)

    async def _answer_thumbnail(self, request: Request) -> Response:
        return self._refuses(request) or Response(self.thumbnail, media_type="image/png")

    async def _answer_cancel(self, request: Request) -> Response:
        job = request.path_params["job"]
        refused = self._refuses(request)
        if not refused:
            self.status["queued"] = [j for j in self.status["queued"] if j["id"] != job]
        return refused or JSONResponse({"job": job, "state": "queued"})


def make_thumbnail() -> bytes:
    """Draw a small picture as PNG."""
    y, x = np.mgrid[:128, :192]
    disks = (((y % 64) - 32) ** 2 + ((x % 64) - 32) ** 2 < 500) * np.uint8(200)
    picture = np.stack([disks // 2, disks, disks], axis=-1).astype(np.uint8)
    return bytes(imagecodecs.png_encode(picture))
