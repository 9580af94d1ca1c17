"""The Python client: which engine it takes, and what it does when that one has ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cellseg_client
from cellseg_client import Engine, EngineLostError, EngineStartError, RefusedError
from cellseg_client.connection import Connection
from cellseg_client.start import Found, child_environment, find_or_start
from cellseg_client.wanted import check_wanted
from cellseg_engine.zoo.store import models_folder
from tests.integration.service import Place, place

ENDED = Connection("http://127.0.0.1:9", "t" * 64, pid=4711)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as there:
        yield there


def make_environment(folder: Path) -> Path:
    """Make what a virtual environment looks like, without its packages; give its Python."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n", encoding="utf-8")
    (python.parent / "python3").symlink_to(os.path.realpath(sys.executable))
    python.symlink_to("python3")
    return python


# --- another Python ------------------------------------------------------------------------------


def test_an_engine_of_another_python_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CELLSEG_ENGINE_PYTHON", raising=False)
    mine, other = (str(make_environment(tmp_path / name)) for name in ("mine", "other"))
    record: dict[str, Any] = {"pid": 4711, "python": mine}
    check_wanted(record, None)
    check_wanted({"pid": 4711}, other)  # too old to say
    sentence = rf"The engine that runs \(process 4711\) is of the Python {mine}, and {other} was"
    with pytest.raises(EngineStartError, match=sentence) as caught:
        check_wanted(record, other)
    assert "4711) and try again, or ask for the one that runs." in caught.value.hint
    monkeypatch.setenv("CELLSEG_ENGINE_PYTHON", other)
    with pytest.raises(EngineStartError, match=sentence) as caught:
        check_wanted(record, None)
    assert "or unset CELLSEG_ENGINE_PYTHON." in caught.value.hint
    check_wanted(record, mine)  # what is given counts before the variable


def test_other_names_of_the_same_python_are_the_same(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "linked-python").symlink_to(python)
    (tmp_path / "script").write_text(f'#!/bin/sh\nexec {python} "$@"\n', encoding="utf-8")
    (tmp_path / "script").chmod(0o755)
    for name in ("mine/bin/python3", "link/bin/python", "linked-python", "script"):
        check_wanted({"pid": 4711, "python": str(python)}, str(tmp_path / name))
    base = os.path.realpath(sys.executable)
    with pytest.raises(EngineStartError):  # the same file, but not the same packages
        check_wanted({"pid": 4711, "python": str(python)}, base)


# --- another folder of models --------------------------------------------------------------------


def test_an_engine_with_another_folder_of_models_is_refused(
    there: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = there.start(fake=True)
    monkeypatch.setenv("CELLSEG_RUNTIME", str(there.runtime))
    assert there.record()["models"] == str(models_folder())
    assert find_or_start(None, 5).record["pid"] == process.pid
    (tmp_path / "same").symlink_to(models_folder())
    monkeypatch.setenv("CELLSEG_MODELS", str(tmp_path / "same"))
    has = models_folder().resolve()
    assert find_or_start(None, 5).record["pid"] == process.pid
    monkeypatch.setenv("CELLSEG_MODELS", str(tmp_path / "mine"))
    sentence = rf"has the models of {has}, and CELLSEG_MODELS={tmp_path / 'mine'} was asked for"
    with pytest.raises(EngineStartError, match=sentence) as caught:
        find_or_start(None, 5)
    assert f"{process.pid}) and try again, or unset CELLSEG_MODELS." in caught.value.hint
    monkeypatch.delenv("CELLSEG_MODELS")
    assert find_or_start(None, 5).record["pid"] == process.pid


def test_the_engine_gets_the_whole_path_of_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELLSEG_MODELS", "mine")
    assert child_environment()["CELLSEG_MODELS"] == str(tmp_path / "mine")


# --- paths of models -----------------------------------------------------------------------------


def test_a_path_of_a_model_is_the_callers_and_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.safetensors", "nuclei", "sub/net"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    local, remote = Engine(ENDED, Found(ENDED, {})), Engine(ENDED)
    for given, whole in (
        ("mine.safetensors", str(tmp_path / "mine.safetensors")),
        ("./sub/net", str(tmp_path / "sub" / "net")),
        ("nuclei", "nuclei"),
        ("gone.safetensors", "gone.safetensors"),
        ("~/mine.safetensors", "~/mine.safetensors"),
    ):
        for setting in ("model", "model_side_views"):
            settings = {setting: given, "channel": "./sub/net"}
            assert local._with_whole_paths(settings) == {**settings, setting: whole}
            assert remote._with_whole_paths(settings) == settings


# --- an engine that has ended --------------------------------------------------------------------


def test_what_can_be_asked_of_any_engine_is_asked_of_the_next_one(there: Place) -> None:
    there.start(fake=True)
    running = there.find()
    assert running is not None
    calls: list[tuple[str, Any]] = [("models", list), ("schema", dict)]
    for name, kind in calls:
        engine = Engine(ENDED, running, lambda: running)
        assert isinstance(getattr(engine, name)(), kind)
        assert engine.pid == running.record["pid"]
    for name in ("health", "status"):
        engine = Engine(ENDED, running, lambda: pytest.fail("this starts none"))
        with pytest.raises(EngineLostError, match="cannot be reached") as caught:
            getattr(engine, name)()
        assert caught.value.hint.startswith("It has ended; the next image")


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:abc", "127.0.0.1:0", "[::1"])
def test_a_port_that_cannot_be_is_a_sentence(address: str) -> None:
    with pytest.raises(RefusedError, match="is not the address of an engine") as caught:
        cellseg_client.connect(f"http://{address}", "t" * 64)
    assert "a port of 1 to 65535" in caught.value.hint
