"""A learning curve in which something fails: networks, images, the plan."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tifffile

from cellseg_engine.errors import ImageError, SettingsError
from cellseg_engine.pipeline import prepare as pipeline
from cellseg_engine.train import validate
from cellseg_engine.train.batches import Batch
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.learning_curve import CurveOptions, make_learning_curve
from cellseg_engine.train.loop import Trainer
from cellseg_engine.train.run import train
from tests.integration.cli import Cli
from tests.integration.training import disks, draw_pairs, quick_options

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture
def curve(tmp_path: Path) -> CurveOptions:
    """Give a curve of the first model and two networks, and write its images."""
    draw_pairs(tmp_path / "train", n=2)
    draw_pairs(tmp_path / "test", n=1, first=7)
    train(quick_options(tmp_path / "train", tmp_path / "base", epochs=1, held_out_share=0.0))
    training = quick_options(
        tmp_path / "train",
        tmp_path / "curve",
        start_from=str(tmp_path / "base" / "base.safetensors"),
        diam_mean_px=0.0,
    )
    return CurveOptions(training, [tmp_path / "test"], sizes=(5,), subsets=(1,), steps=1)


def starts(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["start"], row["wanted"]) for row in rows]


def test_a_network_that_diverges_is_said_and_made_anew(
    curve: CurveOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._step

    def explode(self: Trainer, batch: Batch) -> list[float]:
        is_bad = self._card.name == "pretrained-5-1"
        return [float("nan")] * 2 if is_bad else step(self, batch)

    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", explode)
        for _ in range(2):
            rows = make_learning_curve(curve, warn=told.append)
            assert starts(rows) == [("pretrained", 0), ("scratch", 5)]
    assert len(told) == 2
    assert told[0].startswith(
        "The point pretrained-5-1 is missing: The loss became infinite or NaN"
    )
    assert "--overwrite" not in told[0]
    rows = make_learning_curve(curve, warn=told.append)
    assert starts(rows) == [("pretrained", 0), ("pretrained", 5), ("scratch", 5)]
    assert len(told) == 2


def test_scores_that_are_not_finite_leave_a_point_out(
    curve: CurveOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ImageError("The network gave values that are NaN or infinite.")

    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(validate, "predict_at_scale", fail)
        assert make_learning_curve(curve, warn=told.append) == []
    assert "The network base gave values that are NaN or infinite for 7" in told[0]
    assert len(make_learning_curve(curve)) == 3


def test_what_was_left_out_is_in_a_table(
    cli: Cli, curve: CurveOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "train" / "lonely.tif", disks(64)[0])
    draw_pairs(tmp_path / "test", n=1, side=160, first=8)
    monkeypatch.setattr(pipeline, "MAX_SCALED_PIXELS", 100 * 100)
    outcome = cli(
        *("learning-curve", tmp_path / "train", "--test", tmp_path / "test"),
        *("--out", tmp_path / "curve", "--start-from", tmp_path / "base" / "base.safetensors"),
        *("--crop-px", 32, "--sizes", 5, "--subsets", 1, "--steps", 1, "--batch-size", 2),
        *("--starts", "pretrained", "--precision", "fp32"),
    )
    assert outcome.code == 0, outcome.err
    table = tmp_path / "curve" / "left_out.csv"
    assert f"Warning: 2 images are left out; {table} says why." in outcome.err
    with table.open() as file:
        rows = [(Path(row["image"]).name, row["what"]) for row in csv.DictReader(file)]
    assert rows == [("lonely.tif", "image left out"), ("8", "image left out")]
    (tmp_path / "test" / "7_img.tif").unlink()
    with pytest.raises(
        TrainingDataError, match="None of the 1 test images can be scored"
    ) as caught:
        make_learning_curve(curve)
    assert "--diameter-px" in caught.value.hint


def test_test_images_need_not_be_of_all_kinds(curve: CurveOptions, tmp_path: Path) -> None:
    table = tmp_path / "manifest.csv"
    table.write_text("path,role,kind\ntrain/0,train,a\ntrain/1,train,b\ntest/7,val,b\n")
    training = replace(curve.training, paths=[table], kinds=("a", "b"))
    assert len(make_learning_curve(replace(curve, training=training, test=[table]))) == 3


def test_points_of_other_kinds_and_diameters_are_refused(
    curve: CurveOptions, tmp_path: Path
) -> None:
    table = tmp_path / "list.csv"
    given = replace(curve, training=replace(curve.training, paths=[table]), starts=("pretrained",))
    for kinds in ("aa", "ab"):
        table.write_text("path,kind\n" + "".join(f"train/{n},{k}\n" for n, k in enumerate(kinds)))
        if kinds == "aa":
            make_learning_curve(given)
    with pytest.raises(SettingsError, match="was made with other images"):
        make_learning_curve(given)
