"""Files of clients on other machines: results that are fetched one by one, however slowly."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cellseg_service.app import Download, make_app
from cellseg_service.exchange import Exchange
from cellseg_service.options import ServiceOptions
from cellseg_service.service import Service
from cellseg_service.transfers import Transfers

TOKEN = "t" * 64
OLD = (1.0, 1.0)
PLAIN = {"type": "http", "query_string": b"", "root_path": "", "asgi": {"spec_version": "2.4"}}


def offered(transfers: Transfers, folder: Path, name: str, job: str) -> tuple[str, Path]:
    path = folder / name
    path.write_bytes(b"a result")
    os.utime(path, OLD)
    return str(transfers.offer(path, job)["download"]), path


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_one_job_gave_is_kept_while_it_is_fetched(tmp_path: Path, method: str) -> None:
    exchange = Exchange(None, tmp_path)
    service = Service(ServiceOptions(), TOKEN, exchange, lambda _: pytest.fail("no model"))
    give = service.transfers, exchange.large
    labels, labels_path = offered(*give, "labels.npy", "a")
    _, flows = offered(*give, "flows.npy", "a")
    _, other = offered(*give, "other.npy", "b")
    status = asyncio.run(request(service, method, f"/v1/downloads/{labels}"))
    service.tidy()
    left = {labels_path, flows, other}
    assert {path for path in left if path.exists()} == (
        {labels_path, flows} if method == "GET" else {flows}
    )
    assert status == 200
    exchange.close()


def test_each_part_of_a_download_keeps_the_others(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 * Download.chunk_size))
    sent: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    download = Download(tmp_path / "large", lambda: sent.append("kept"))
    scope: dict[str, Any] = {**PLAIN, "method": "GET", "headers": []}
    asyncio.run(download(scope, SimpleNamespace(), send))  # type: ignore[arg-type]
    assert sent.count("http.response.body") >= 3
    assert sent.count("kept") == len(sent) / 2


async def request(service: Service, method: str, path: str) -> int:
    """Send a request to the routes and give its status."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"host", b"x"), (b"x-cellseg-token", TOKEN.encode()), (b"content-length", b"0")]
    scope = {**PLAIN, "method": method, "path": path, "headers": headers}
    await make_app(service, TOKEN, {"x"})(scope, receive, send)
    return statuses[0]
