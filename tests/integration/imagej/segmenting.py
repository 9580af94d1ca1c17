"""An image of ImageJ through the real engine, in this process and by its service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import cellseg_client
from cellseg_engine import Segmenter, make_settings
from cellseg_engine.errors import ChannelError
from cellseg_imagej import (
    Calibration,
    segment_imageplus,
    to_array,
    to_imageplus,
)
from cellseg_imagej.errors import JavaTypeError
from tests.integration.fiji_runs import DIAMETER_PX, crop
from tests.integration.imagej.conftest import Java
from tests.integration.service import place

MICRON = Calibration(0.5, 0.5, 2.0, "micron", "micron", "micron")
SETTINGS = {"diameter_px": DIAMETER_PX}


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(make_settings(SETTINGS))


def two_planes() -> np.ndarray:
    """Give a stack of two planes with two channels, the second of which shows nuclei."""
    stack = np.zeros((2, 2, 80, 90), np.uint8)
    for z in range(2):
        stack[z, 1] = crop(60 * z, 90, 80, 90)
    return stack


def test_in_process_and_by_the_service_are_the_same(segmenter: Segmenter, tmp_path: Path) -> None:
    stack = two_planes()
    wanted = segmenter.segment(stack, "ZCYX", settings=make_settings(SETTINGS, channel="2"))
    names = ["Actin", "DAPI"]
    outcomes = []
    with place(tmp_path) as there:
        for engine in (segmenter, there.engine()):
            image = to_imageplus(stack, "ZCYX", MICRON, title="two", channel_names=names)
            outcome = segment_imageplus(image, SETTINGS | {"channel": "DAPI"}, engine=engine)
            labels = to_array(outcome.labels)
            np.testing.assert_array_equal(labels.array, wanted.labels)
            assert (labels.axes, labels.calibration) == ("ZYX", MICRON)
            assert outcome.labels.getTitle() == "two-labels"
            assert image.getOverlay().size() == len(outcome.rois) == wanted.n_objects > 2
            outcomes.append(outcome)
        with pytest.raises(cellseg_client.RefusedError, match="2 channels and none is chosen"):
            segment_imageplus(image, SETTINGS, engine=there.engine())
    mine, theirs = outcomes
    assert mine.objects.keys() == theirs.objects.keys() >= {"area_px", "area_um2"}
    for name, values in mine.objects.items():
        np.testing.assert_allclose(values, theirs.objects[name], rtol=1e-8)
    assert mine.objects["area_um2"] == pytest.approx(mine.objects["area_px"] / 4)
    for one, other in zip(mine.rois, theirs.rois, strict=True):
        assert one.getName() == other.getName() and one.getZPosition() == other.getZPosition()
        assert one.getBounds().equals(other.getBounds()) and one.getCPosition() == 0


def test_a_virtual_stack_is_named_in_the_warnings(
    java: Java, segmenter: Segmenter, tmp_path: Path
) -> None:
    path = tmp_path / "disk.tif"
    tifffile.imwrite(path, two_planes()[:, 1], imagej=True, metadata={"axes": "ZYX"})
    image = java("ij.IJ").openVirtual(str(path))
    outcome = segment_imageplus(image, engine=segmenter, overlay=False)
    assert "disk.tif is a virtual stack: its 2 planes were read from disk" in outcome.warnings[0]
    assert image.getOverlay() is None and outcome.n_objects > 2


def test_no_objects_are_a_result(segmenter: Segmenter) -> None:
    outcome = segment_imageplus(to_imageplus(np.zeros((60, 60), np.uint8)), engine=segmenter)
    assert (outcome.n_objects, outcome.rois) == (0, ())
    assert "No objects were found." in outcome.warnings
    assert not to_array(outcome.labels).array.any()


def test_what_cannot_be_segmented(segmenter: Segmenter) -> None:
    image = to_imageplus(two_planes(), "ZCYX")
    with pytest.raises(ChannelError, match="has 2 channels and none is chosen"):
        segment_imageplus(image, engine=segmenter)
    with pytest.raises(JavaTypeError, match=r"takes an ij\.ImagePlus; this is numpy"):
        segment_imageplus(two_planes())
    with pytest.raises(JavaTypeError, match=r"An engine is a .*; this is str"):
        segment_imageplus(image, engine="service")  # type: ignore[arg-type]
