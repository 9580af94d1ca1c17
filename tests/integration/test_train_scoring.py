"""Held-out images: those that cannot be scored, and networks that have no scores."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg_engine.errors import ImageError
from cellseg_engine.nets.card import read_weights
from cellseg_engine.pipeline import prepare as pipeline
from cellseg_engine.train import validate
from cellseg_engine.train.dataset import TrainingData, TrainingImage
from cellseg_engine.train.faults import TrainingDataError, TrainingDivergedError
from cellseg_engine.train.prepare import prepare_data
from cellseg_engine.train.run import train
from cellseg_engine.train.validate import leave_out_unscorable
from tests.integration.training import draw_pairs, quick_options

pytestmark = pytest.mark.usefixtures("small_networks")


def image(name: str, height: int, width: int, diameter_px: float) -> TrainingImage:
    shape = (height, width)
    empty = np.zeros(shape, np.int32)
    flows = np.zeros((2, *shape), np.float32)
    return TrainingImage(name, "k", name, flows[:1], empty, flows, diameter_px, 1, name)


def test_narrow_and_large_images_are_left_out_by_the_limits_of_the_pipeline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "MAX_SCALED_PIXELS", 10_000)
    images = [image("good", 40, 40, 20), image("narrow", 1, 90, 40), image("large", 80, 80, 10)]
    kept, remarks = leave_out_unscorable(images, 16)
    assert [one.name for one in kept] == ["good"]
    assert [(one.image, one.what) for one in remarks] == [
        ("narrow", "image left out"),
        ("large", "image left out"),
    ]
    assert "1 x 90 px shrinks to nothing" in remarks[0].reason
    assert "80 x 80 px would grow to 128 x 128 px" in remarks[1].reason
    assert len(leave_out_unscorable(images, 16, diameter_px=16)[0]) == 3
    (enlarged,) = leave_out_unscorable(images[:1], 400)[1]
    assert "diameter_px = 20 is too small: the smallest" in enlarged.reason


def test_slices_of_thin_volumes_do_not_end_a_training(tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :48]
    (tmp_path / "in").mkdir()
    for seed in range(2):
        labels = np.stack([(np.hypot(y - 24, x - 24) < 21 + seed).astype(np.uint16)] * 2)
        pixels = np.random.default_rng(seed).normal(200 + 500 * labels, 20).astype(np.uint16)
        for name, stack in (("img", pixels), ("masks", labels)):
            path = tmp_path / "in" / f"{seed}_{name}.tif"
            tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
    options = quick_options(
        tmp_path / "in",
        tmp_path / "m",
        epochs=1,
        slices="all",
        min_objects=1,
        held_out_share=0.5,
    )
    result = train(options)
    assert result.trained.validation
    with (tmp_path / "m" / "left_out.csv").open() as file:
        left_out = [row for row in csv.DictReader(file) if "cannot be scored" in row["reason"]]
    assert {row["image"].split()[1] for row in left_out} == {"XZ", "YZ"}
    assert {row["what"] for row in left_out} == {"image left out"}


def test_where_none_can_be_scored_the_sentence_is_about_training(tmp_path: Path) -> None:
    data = TrainingData([image("good", 40, 40, 20)], [image("narrow", 1, 90, 40)], {}, [])
    with pytest.raises(
        TrainingDataError, match=r"None of the 1 images held out .* can be"
    ) as caught:
        prepare_data(quick_options(tmp_path, tmp_path / "m", start="scratch"), None, data, 1)
    assert "narrow: it cannot be scored: diameter_px = 40 does not fit" in caught.value.message
    assert "1 x 90 px" in caught.value.message
    assert "--held-out-share 0" in caught.value.hint
    assert "estimate" not in str(caught.value)


def test_scores_that_are_not_finite_are_a_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, calls = pipeline.predict_at_scale, 0

    def fail_later(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise ImageError("The network gave values that are NaN or infinite.")
        return predict(*arguments)

    monkeypatch.setattr(validate, "predict_at_scale", fail_later)
    options = quick_options(draw_pairs(tmp_path / "in"), tmp_path / "m")
    words = (
        r"in the scores of epoch 2, .* the last good weights, of epoch 1, are in .*m\.safetensors"
    )
    with pytest.raises(TrainingDivergedError, match=words):
        train(options)
    assert read_weights(tmp_path / "m" / "m.safetensors").arrays
    assert not (tmp_path / "m" / "checkpoints").exists()
