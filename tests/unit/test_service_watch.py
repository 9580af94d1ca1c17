"""What the engine does besides requests: it tidies up, and ends when it is idle."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cellseg_service import server
from cellseg_service.options import ServiceOptions
from cellseg_service.service import Service


class _Exchange:
    def remove_old(self, keep_s: float, in_use: object) -> None:
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
    for files in (service._uploads, service._downloads):
        there: dict[str, Any] = files
        there |= {"gone": _Gone(there), "taken": _Gone(there), "gone too": _Gone(there)}
    service.tidy()
    for files in (service._uploads, service._downloads):
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
    watched._record = SimpleNamespace(withdraw=lambda: asked.append("withdraw"))
    watched._service = SimpleNamespace(
        options=options, tidy=tidy, why_over=why_over, is_busy=lambda: False
    )
    with caplog.at_level(logging.INFO, "cellseg_service"):
        asyncio.run(watched._watch())
    assert watched.should_exit
    assert asked.count("tidy") >= 3
    assert asked.count("withdraw") == 1
    assert "ends: idle for 5 s" in caplog.text
    assert "dictionary changed size during iteration" in caplog.text
