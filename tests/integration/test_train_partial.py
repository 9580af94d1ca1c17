"""Trainings on images of which a part is annotated, from files to a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg_engine.errors import ReadError
from cellseg_engine.io.images import read_labels
from cellseg_engine.train.part import Part, mark_part
from cellseg_engine.train.run import train
from tests.integration.training import disks, draw_pairs, quick_options, small_network

PART = Part(0, 0, 96, 40)


def annotate_parts(folder: Path, n: int) -> Path:
    """Write images of disks whose lower half nobody annotated."""
    draw_pairs(folder, n, side=96)
    for number in range(n):
        labels = disks(96, number)[1].astype(np.int32)
        marked, _ = mark_part(labels, PART, "")
        tifffile.imwrite(folder / f"{number}_masks.tif", marked)
    return folder


@pytest.mark.slow
def test_a_model_learns_from_parts_and_is_scored_there(tmp_path: Path) -> None:
    with small_network():
        result = train(
            quick_options(
                annotate_parts(tmp_path / "in", 8),
                tmp_path / "disks",
                epochs=8,
                images_per_epoch=16,
                batch_size=4,
                crop_px=64,
                min_objects=3,
                validate_every=4,
                checkpoint_every_s=60.0,
            )
        )
    # Objects that are found where nothing is annotated are no false ones.
    assert result.trained.validation["held_out_ap_0.50"] > 0.8
    shares = [one.reason for one in result.remarks if "is annotated" in one.reason]
    assert len(shares) == 8
    assert all(text.endswith("% of the image is annotated; the rest is not learned")
               for text in shares)  # fmt: skip


def test_elsewhere_negative_labels_are_refused(tmp_path: Path) -> None:
    path = annotate_parts(tmp_path, 1) / "0_masks.tif"
    with pytest.raises(ReadError, match="has negative numbers, down to -1"):
        read_labels(path)
    assert read_labels(path, lowest=-1)[0].min() == -1
    tifffile.imwrite(path, read_labels(path, lowest=-1)[0] * 2)
    with pytest.raises(ReadError, match="has negative numbers, down to -2"):
        read_labels(path, lowest=-1)
