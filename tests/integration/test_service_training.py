"""Trainings through the service: a process of their own, and never half a result."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cellseg_engine.io.rois import encode_rois
from cellseg_engine.train.folder import RECORD, Correction, add_image, read_folder
from cellseg_engine.zoo.store import models_folder
from cellseg_service.errors import RequestError
from cellseg_service.training_messages import FolderRequest, parse_training
from tests.integration.cli import listing
from tests.integration.service import Place, ask, place, wait_until
from tests.integration.training import disks

LONG_S = 120.0
"""A training has to import torch, which takes its time beside other work."""
FOREVER = {"epochs": 5000, "size_model": False}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give a service with made-up models for images; its trainings are real."""
    with place(tmp_path_factory.mktemp("training")) as there:
        there.start(fake=True)
        yield there


def annotated(seed: int = 0, side: int = 64) -> Correction:
    image, labels = disks(side, seed, radius=6.0)
    rois = encode_rois(labels.astype(np.int32), "YX")
    return Correction(image, "YX", rois, title=f"disks {seed}.tif")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a training folder with one image."""
    add_image(tmp_path / "cells", annotated())
    return tmp_path / "cells"


class Asked:
    """A training that was asked for, its events read as they come."""

    def __init__(self, engine: Place, folder: Path, **values: Any) -> None:
        found = engine.find()
        assert found is not None
        host = found.connection.url.removeprefix("http://")
        self.connection = HTTPConnection(host, timeout=LONG_S)
        body = json.dumps({"wire": 1, "folder": str(folder), **values}).encode()
        headers = {"X-CellSeg-Token": found.connection.token}
        self.connection.request("POST", "/v1/train", body, headers)
        self.response = self.connection.getresponse()

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self.connection.close()

    def events(self) -> Iterator[dict[str, Any]]:
        for line in self.response:
            yield json.loads(line)

    def until(self, kind: str) -> dict[str, Any]:
        """Read on to the next event of a kind and give it."""
        return next(event for event in self.events() if event["event"] == kind)

    def refusal(self) -> dict[str, Any]:
        with self:
            content = json.loads(self.response.read())
        assert (self.response.status, content["status"]) == (400, "refused")
        error: dict[str, Any] = content["error"]
        return error


def exchange(engine: Place, array: np.ndarray, name: str) -> dict[str, str]:
    """Put an array into the exchange folder."""
    path = engine.exchange_folders()[0] / f"{name}.npy"
    np.save(path, array)
    return {"array": path.name}


def post(engine: Place, path: str, **values: Any) -> tuple[int, dict[str, Any]]:
    return ask(engine.find(), "POST", path, json.dumps({"wire": 1, **values}).encode())


def trainer(engine: Place) -> psutil.Process:
    """Give the process of the training that runs."""
    service = psutil.Process(int(engine.record()["pid"]))
    (child,) = service.children()
    return child


def training(engine: Place) -> dict[str, Any] | None:
    described: dict[str, Any] | None = ask(engine.find(), "GET", "/v1/status")[1]["training"]
    return described


# --- the folder ----------------------------------------------------------------------------------


def test_an_image_is_added_and_the_folder_described(engine: Place, tmp_path: Path) -> None:
    folder = tmp_path / "new cells"
    assert post(engine, "/v1/training/folder", folder=str(folder))[1]["images"] == []
    assert not folder.exists()
    given = annotated(side=96)
    status, answer = post(
        engine, "/v1/training/images", folder=str(folder), axes="YX", title="a.tif",
        image=exchange(engine, given.pixels, "image"), source="/data/a.tif", model="nuclei",
        rois=exchange(engine, np.frombuffer(given.rois, np.uint8)[np.newaxis], "rois"),
        predicted=exchange(engine, np.frombuffer(given.rois, np.uint8)[np.newaxis], "before"),
    )  # fmt: skip
    assert status == 200, answer
    assert answer["image"]["edits"] == {
        "kept": answer["objects"], "changed": 0, "drawn": 0, "removed": 0,
    }  # fmt: skip
    assert answer["objects"] == read_folder(folder).objects > 5
    assert post(engine, "/v1/training/folder", folder=str(folder))[1] == {
        key: answer[key] for key in answer if key not in ("image", "remarks")
    }
    assert engine.exchanged() == []
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):  # the user's own, unlike what is on its way
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path


def test_what_is_refused_leaves_nothing(engine: Place, tmp_path: Path) -> None:
    given = annotated()
    status, answer = post(
        engine, "/v1/training/images", folder=str(tmp_path / "t"), axes="YX", title="a.tif",
        image=exchange(engine, given.pixels, "image"),
        rois=exchange(engine, np.zeros((1, 9), np.uint8), "rois"),
    )  # fmt: skip
    assert status == 400
    assert answer["error"]["message"].startswith("The file of a.tif is damaged or holds no ROIs")
    assert engine.exchanged() == []
    assert list(tmp_path.iterdir()) == []
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"folder": "relative"}, "The training folder 'relative' is no whole path."),
        ({"folder": ""}, "The request is wrong at folder"),
        ({"folder": str(tmp_path), "more": 1}, "The request is wrong at more"),
    ]
    for values, words in wrong:
        status, answer = post(engine, "/v1/training/folder", **values)
        assert (status, words in answer["error"]["message"]) == (400, True)


def test_an_engine_for_others_keeps_away_from_folders() -> None:
    body = b'{"wire": 1, "folder": "/etc"}'
    with pytest.raises(RequestError, match="does not read or write training folders"):
        parse_training(body, FolderRequest, is_local=False)
    assert parse_training(body, FolderRequest, is_local=True).folder == "/etc"


# --- trainings -----------------------------------------------------------------------------------


def test_a_model_is_trained_beside_other_work_and_appears_in_the_list(
    engine: Place, folder: Path
) -> None:
    with Asked(engine, folder, name="mine-1", epochs=2, size_model=False, client="test") as asked:
        job = asked.until("progress")["job"]
        described = training(engine)
        assert described is not None
        assert (described["id"], described["model"], described["client"]) == (job, "mine-1", "test")
        assert trainer(engine).nice() > psutil.Process(int(engine.record()["pid"])).nice()
        busy = Asked(engine, folder, name="mine-2").refusal()
        assert busy["code"] == "training-busy"
        assert "The model mine-1 is being trained" in busy["message"]
        image = np.zeros((20, 20), np.uint8)
        assert engine.engine().segment(image, "YX", {"model": "fake"}).labels is not None
        assert training(engine) is not None, "the image did not wait for the training"
        events = list(asked.events())
        assert {event["event"] for event in events} <= {"progress", "alive", "result"}
        assert [e["epoch"] for e in events if e.get("stage") == "training"][-1] == 2
    result = events[-1]
    assert (result["status"], result["model"], result["images"]) == ("ok", "mine-1", 1)
    assert result["objects"] == read_folder(folder).objects
    names = [model["name"] for model in engine.engine().models()]
    assert "mine-1" in names
    assert read_folder(folder).models[-1].name == "mine-1"
    assert training(engine) is None
    assert "is there already" in Asked(engine, folder, name="mine-1").refusal()["message"]


@pytest.mark.parametrize("how", ["delete", "close", "engine killed", "training killed"])
def test_a_training_that_is_stopped_leaves_everything_as_it_was(
    folder: Path, tmp_path: Path, how: str
) -> None:
    with place(tmp_path / "engine") as engine:
        engine.start(fake=True)
        before, models = listing(folder), listing(models_folder())
        with Asked(engine, folder, name="never", **FOREVER) as asked:
            event = asked.until("progress")
            assert listing(folder) != before, "there is something to clean up"
            child = trainer(engine)
            if how == "delete":
                answer = ask(engine.find(), "DELETE", f"/v1/jobs/{event['job']}")[1]
                assert answer == {"job": event["job"], "state": "running"}
                result = asked.until("result")
                assert result["status"] == "cancelled"
                assert result["error"]["message"] == "The training was cancelled."
            elif how == "engine killed":
                os.kill(int(engine.record()["pid"]), signal.SIGKILL)
            elif how == "training killed":
                child.kill()
                result = asked.until("result")
                assert result["status"] == "failed"
                assert "The training ended by itself (exit code -9)" in result["error"]["message"]
        wait_until(lambda: not child.is_running() or child.status() == "zombie", "the end", 60)
        wait_until(lambda: listing(folder) == before, "cleaning up", 60)
        assert listing(models_folder()) == models
        assert sorted(path.name for path in folder.iterdir()) == sorted(before)


def test_reasons_of_the_training_itself_are_told_in_its_words(engine: Place, folder: Path) -> None:
    assert "There is no model" in Asked(engine, folder, start_from="no").refusal()["message"]
    wrong = Asked(engine, folder, settings={"diameter_px": 3}).refusal()["message"]
    assert wrong.startswith("diameter_px is no setting of a training; those are channel,")
    with Asked(engine, folder, settings={"channel": "7"}, **FOREVER) as asked:
        result = asked.until("result")
    assert result["status"] == "refused"
    assert "7" in result["error"]["message"]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_the_end_of_the_engine_ends_its_training(folder: Path, tmp_path: Path) -> None:
    with place(tmp_path / "engine") as engine:
        process = engine.start(fake=True)
        with Asked(engine, folder, **FOREVER) as asked:
            asked.until("progress")
            child = trainer(engine)
            process.terminate()
            process.wait(60)
        wait_until(lambda: not child.is_running() or child.status() == "zombie", "the end", 60)
    assert json.loads((folder / RECORD).read_text())["models"] == []
