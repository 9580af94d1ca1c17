"""What the engine does besides requests: it tidies up, and ends when it is idle."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cellseg_service import server, update
from cellseg_service import service as service_module
from cellseg_service.options import ServiceOptions
from cellseg_service.service import Service


class _Exchange:
    def remove_old(self, keep_s: float, in_use: object) -> None:
        pass

    def make_sure(self) -> None:
        pass


class _Gone:
    """A file that is not there; while it is looked for, requests bring and take others."""

    def __init__(self, files: dict[str, Any]) -> None:
        self._files = files

    def exists(self) -> bool:
        self._files.pop("taken", None)
        self._files[f"new {len(self._files)}"] = Path(__file__)
        return False


def test_files_that_come_and_go_meanwhile_do_not_disturb_the_tidying() -> None:
    exchange: Any = _Exchange()
    service = Service(ServiceOptions(), "t" * 64, exchange, lambda _: pytest.fail("no model"))
    for files in (service.transfers._uploads, service.transfers._downloads):
        there: dict[str, Any] = files
        there |= {"gone": _Gone(there), "taken": _Gone(there), "gone too": _Gone(there)}
    service.tidy()
    for files in (service.transfers._uploads, service.transfers._downloads):
        assert files
        assert all(name.startswith("new ") for name in files)


def test_what_goes_wrong_is_logged_and_the_idle_engine_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def tidy() -> None:
        asked.append("tidy")
        raise RuntimeError("dictionary changed size during iteration")

    def why_over() -> str:
        asked.append("why_over")
        return "idle for 5 s" if asked.count("tidy") > 2 else ""

    monkeypatch.setattr(server, "CHECK_EVERY_S", 0.001)
    watched: Any = object.__new__(server._Server)
    watched.should_exit = False
    options = ServiceOptions(keep_s=0.001)
    watched._record = SimpleNamespace(
        withdraw=lambda: asked.append("withdraw"),
        make_sure=lambda: "",
        refresh=lambda: asked.append("refresh"),
    )
    watched._service = SimpleNamespace(
        options=options, tidy=tidy, why_over=why_over, is_busy=lambda: False
    )
    with caplog.at_level(logging.INFO, "cellseg_service"):
        asyncio.run(watched._watch())
    assert watched.should_exit
    assert asked.count("tidy") == asked.count("refresh") >= 3
    assert asked.count("withdraw") == 1
    assert "ends: idle for 5 s" in caplog.text
    assert "dictionary changed size during iteration" in caplog.text


@pytest.mark.parametrize(
    ("idle_s", "idle_timeout_s", "reason"),
    [
        (1, 3600, ""),  # results may still be read
        (60, 3600, "version 0.1 runs, and 0.2 is installed"),
        (60, 0, ""),  # never ends by itself
        (60, 30, "idle for 30 s"),
    ],
)
def test_an_idle_engine_ends_when_another_version_is_installed(
    monkeypatch: pytest.MonkeyPatch, idle_s: float, idle_timeout_s: float, reason: str
) -> None:
    exchange: Any = _Exchange()
    options = ServiceOptions(idle_timeout_s=idle_timeout_s)
    service = Service(options, "t" * 64, exchange, lambda _: pytest.fail("no model"))
    monkeypatch.setattr(update, "newer_version", lambda: "0.2")
    monkeypatch.setattr(service_module, "__version__", "0.1")
    service._active -= idle_s
    assert service.why_over() == reason
    monkeypatch.setattr(service, "is_busy", lambda: True)
    assert service.why_over() == ""
