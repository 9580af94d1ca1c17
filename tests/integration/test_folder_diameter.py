"""One diameter for all images of a run: which are looked at, and what if they show nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cellseg_engine.batch import run
from cellseg_engine.batch.plan import Job
from cellseg_engine.batch.results import RunOptions
from cellseg_engine.errors import ReadError
from cellseg_engine.settings import make_settings
from tests.integration.cli import Cli, draw

N_IMAGES = 30


def find(
    monkeypatch: pytest.MonkeyPatch,
    shown: dict[int, float],
    errors: dict[int, Exception],
) -> tuple[tuple[float, int] | None, list[int]]:
    """Give the common diameter of images of which some show objects, and those looked at."""
    looked_at: list[int] = []

    def load(job: Job, _: RunOptions) -> SimpleNamespace:
        number = int(job.name)
        looked_at.append(number)
        if number in errors:
            raise errors[number]
        return SimpleNamespace(pixels=number, axes="YX", channel_names=())

    def estimate(number: int, *_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(found_objects=number in shown, diameter_px=shown.get(number, 30.0))

    monkeypatch.setattr(run, "load_image", load)
    segmenter: Any = SimpleNamespace(
        estimate=estimate, model=SimpleNamespace(size_model=object()), size_model_sha256=""
    )
    jobs = [Job(str(number), (Path(f"{number}.tif"),)) for number in range(N_IMAGES)]
    options = RunOptions(Path("nowhere"))
    return run.folder_diameter(jobs, segmenter, make_settings(), options), looked_at


def test_others_are_looked_at_until_one_shows_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    found, looked_at = find(monkeypatch, {17: 12.0, 18: 40.0}, {})
    assert found == (12.0, 1)
    assert len(looked_at) == len(set(looked_at))
    assert looked_at[-1] == 17
    found, looked_at = find(monkeypatch, {0: 10.0, 1: 50.0, N_IMAGES - 1: 20.0}, {})
    assert found == (15.0, 2)
    assert len(looked_at) == run.SCOPE_SAMPLE


def test_images_that_cannot_be_read_fail_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {0: ReadError("gone"), 1: ValueError("odd"), N_IMAGES - 1: MemoryError()}
    assert find(monkeypatch, {1: 9.0, 2: 12.0}, errors)[0] == (12.0, 1)
    assert find(monkeypatch, {}, dict.fromkeys(range(N_IMAGES), ReadError("gone")))[0] is None


def test_a_folder_without_objects(cli: Cli, tmp_path: Path) -> None:
    for name in "ab":
        draw(tmp_path / "in" / f"{name}.tif", n=0)
    call = ("segment", tmp_path / "in", "--out", tmp_path / "out", "--diameter-scope", "folder")
    outcome = cli(*call, "--outputs", "labels", "--json")
    assert outcome.code == 0
    messages = [event["message"] for event in outcome.events if event["event"] == "warning"]
    assert any("None of 2 images showed objects to measure" in message for message in messages)
    assert all("the model's own" in " ".join(image["warnings"]) for image in outcome.images)
    record = json.loads((tmp_path / "out/a_run.json").read_text(encoding="utf-8"))
    assert record["diameter_source"] == "training mean"
    assert [image["status"] for image in cli(*call, "--outputs", "labels", "--json").images] == [
        "skipped",
        "skipped",
    ]
