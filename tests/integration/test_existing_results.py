"""Results that are there already: whose they are, and what is looked at to tell."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellseg_engine.batch.record import read_record
from cellseg_engine.errors import ReadError
from cellseg_engine.nets.size_model import STYLE_LENGTH, SizeModel, write_official_size_model
from cellseg_engine.pipeline.segmenter import Segmenter
from tests.integration.cli import Cli, draw, listing, official

OPTIONS = ("--device", "cpu", "--outputs", "labels", "--json")


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a run.json, as an early version would have written it."""
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def test_another_size_model_is_another_request(cli: Cli, tmp_path: Path) -> None:
    model, out = official(tmp_path / "mine.pth"), tmp_path / "out"
    call = ("segment", draw(tmp_path / "a.tif"), "--out", out, "--model", model, *OPTIONS)
    assert [cli(*call).images[0]["status"] for _ in range(2)] == ["ok", "skipped"]
    zeros = np.zeros(STYLE_LENGTH)
    write_official_size_model(tmp_path / "size_mine.npy", SizeModel(zeros, zeros, 30.0, 0.0))
    (image,) = cli(*call).images
    assert image["status"] == "failed"
    assert "made with another size model of mine: none instead of " in image["error"]
    edit(out / "a_run.json", lambda record: record["model"].pop("size_model_sha256"))
    assert cli(*call).images[0]["status"] == "skipped"


def test_the_size_model_matters_only_where_the_diameter_is_estimated(
    cli: Cli, tmp_path: Path
) -> None:
    image = draw(tmp_path / "a.tif")
    call = ("segment", image, "--out", tmp_path / "out", *OPTIONS, "--diameter-px", 24)
    assert cli(*call).code == 0
    edit(tmp_path / "out/a_run.json", lambda record: record["model"].update(size_model_sha256="0"))
    assert cli(*call).images[0]["status"] == "skipped"


def test_a_plate_with_a_channel_fewer_is_another_image(cli: Cli, tmp_path: Path) -> None:
    first, second = draw(tmp_path / "in/A1_w1.tif"), draw(tmp_path / "in/A1_w2.tif")
    out = tmp_path / "out"
    call = (
        *("segment", first.parent, "--out", out, "--pattern", "{well}_{channel}"),
        *("--channel", "w1", "--diameter-px", 24, *OPTIONS),
    )
    assert [cli(*call).images[0]["status"] for _ in range(2)] == ["ok", "skipped"]
    second.unlink()
    (image,) = cli(*call).images
    assert image["status"] == "failed"
    assert "made of 2 files of this image instead of 1" in image["error"]
    draw(second)
    edit(out / "A1_run.json", lambda record: record.pop("files_given"))
    assert cli(*call).images[0]["status"] == "skipped"


@pytest.mark.parametrize("existing", ["skip", "error", "overwrite"])
def test_what_another_run_wrote_meanwhile_stays(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: str
) -> None:
    out = tmp_path / "out"
    segment = Segmenter.segment

    def write_first(self: Segmenter, *arguments: Any, **options: Any) -> Any:
        out.mkdir()
        (out / "a_run.json").write_text("another run")
        return segment(self, *arguments, **options)

    monkeypatch.setattr(Segmenter, "segment", write_first)
    call = ("segment", draw(tmp_path / "a.tif"), "--out", out, *OPTIONS, "--diameter-px", 24)
    (image,) = cli(*call, "--existing", existing).images
    if existing == "overwrite":
        assert (image["status"], read_record(out / "a_run.json")["objects"]) == ("ok", 4)
        return
    assert image["status"] == "failed"
    assert "a_run.json meanwhile, so its results stay" in image["error"]
    assert listing(out).pop("a_run.json") == b"another run"
    assert sorted(listing(out)) == ["a_run.json", "summary.csv"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has another limit")
def test_a_name_without_room_for_endings(cli: Cli, tmp_path: Path) -> None:
    path = draw(tmp_path / ("x" * 250 + ".tif"))
    (image,) = cli("segment", path, "--out", tmp_path / "out", *OPTIONS).images
    assert "the name is too long for the disk" in image["error"]
    assert not (tmp_path / "out").exists()


def test_a_record_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ReadError, match=r"a_run\.json cannot be read: Permission denied\. Ask for"):
        read_record(tmp_path / "a_run.json")
