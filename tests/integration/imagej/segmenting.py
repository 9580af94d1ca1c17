"""An image of ImageJ through the real engine, in this process and by its service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cellseg_client
from cellseg_engine import Segmenter, make_settings
from cellseg_engine.errors import ChannelError, SettingsError
from cellseg_imagej import (
    Calibration,
    Outcome,
    segment_imageplus,
    to_array,
    to_imageplus,
)
from cellseg_imagej.errors import JavaTypeError
from tests.integration.cli import disks
from tests.integration.fiji_runs import DIAMETER_PX, crop
from tests.integration.imagej.conftest import Java
from tests.integration.service import place

MICRON = Calibration(0.5, 0.5, 2.0, "micron", "micron", "micron")
SETTINGS = {"diameter_px": DIAMETER_PX}


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(make_settings(SETTINGS))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[cellseg_client.Engine]:
    with place(tmp_path_factory.mktemp("service")) as there:
        yield there.engine()


def two_planes() -> np.ndarray:
    """Give a stack of two planes with two channels, the second of which shows nuclei."""
    stack = np.zeros((2, 2, 80, 90), np.uint8)
    for z in range(2):
        stack[z, 1] = crop(60 * z, 90, 80, 90)
    return stack


def test_in_process_and_by_the_service_are_the_same(
    segmenter: Segmenter, service: cellseg_client.Engine
) -> None:
    stack = two_planes()
    wanted = segmenter.segment(stack, "ZCYX", settings=make_settings(SETTINGS, channel="2"))
    names = ["Actin", "DAPI"]
    outcomes = []
    for engine in (segmenter, service):
        image = to_imageplus(stack, "ZCYX", MICRON, title="two", channel_names=names)
        outcome = segment_imageplus(image, SETTINGS | {"channel": "DAPI"}, engine=engine)
        labels = to_array(outcome.labels)
        np.testing.assert_array_equal(labels.array, wanted.labels)
        assert (labels.axes, labels.calibration) == ("ZYX", MICRON)
        assert outcome.labels.getTitle() == "two-labels"
        assert image.getOverlay().size() == len(outcome.rois) == wanted.n_objects > 2
        outcomes.append(outcome)
    with pytest.raises(cellseg_client.RefusedError, match="2 channels and none is chosen"):
        segment_imageplus(image, SETTINGS, engine=service)
    mine, theirs = outcomes
    assert mine.objects.keys() == theirs.objects.keys() >= {"area_px", "area_um2"}
    for name, values in mine.objects.items():
        np.testing.assert_allclose(values, theirs.objects[name], rtol=1e-8)
    assert mine.objects["area_um2"] == pytest.approx(mine.objects["area_px"] / 4)
    for one, other in zip(mine.rois, theirs.rois, strict=True):
        assert one.getName() == other.getName() and one.getZPosition() == other.getZPosition()
        assert one.getBounds().equals(other.getBounds()) and one.getCPosition() == 0


def by_both(
    segmenter: Segmenter,
    service: cellseg_client.Engine,
    pixels: np.ndarray,
    axes: str,
    values: dict[str, Any],
) -> tuple[Outcome, Outcome]:
    """Segment an image in this process and by the service; the labels must be the engine's."""
    wanted = segmenter.segment(
        pixels,
        axes,
        settings=make_settings(values),
        pixel_size_um=MICRON.pixel_size_um(axes),
    )
    assert wanted.n_objects > 1
    mine, theirs = (
        segment_imageplus(to_imageplus(pixels, axes, MICRON), values, engine=engine)
        for engine in (segmenter, service)
    )
    for outcome in (mine, theirs):
        labels = to_array(outcome.labels)
        assert labels.axes == axes
        np.testing.assert_array_equal(labels.array, wanted.labels)
    return mine, theirs


def test_tracks_come_with_the_outcome(segmenter: Segmenter, service: cellseg_client.Engine) -> None:
    movie = np.stack([np.roll(disks(n=2), 4 * t, axis=1) for t in range(3)])
    values = {"diameter_px": 24, "track_threshold": 0.3}
    mine, theirs = by_both(segmenter, service, movie, "TYX", values)
    assert list(mine.tracks) == list(theirs.tracks)
    for name, column in mine.tracks.items():
        np.testing.assert_allclose(column, theirs.tracks[name], rtol=1e-8)
    for outcome in (mine, theirs):
        assert np.asarray(outcome.tracks["track"]).tolist() == [1, 2]
        assert np.asarray(outcome.tracks["n_frames"]).tolist() == [3, 3]
        assert outcome.tracks["path_um"] == pytest.approx(outcome.tracks["path_px"] / 2)
        assert sorted(roi.getPosition() for roi in outcome.rois) == [1, 1, 2, 2, 3, 3]
    plain = segment_imageplus(to_imageplus(movie, "TYX"), {"diameter_px": 24}, engine=service)
    assert plain.tracks == {}


def test_slices_are_one_volume_if_asked(
    segmenter: Segmenter, service: cellseg_client.Engine
) -> None:
    stack = np.stack([crop(60, 90, 60, 60)] * 4)
    values = SETTINGS | {"volume_mode": "fuse"}
    for outcome in by_both(segmenter, service, stack, "ZYX", values):
        facts = outcome.provenance["volume"]
        assert (facts["mode"], facts["anisotropy"]) == ("fuse", 4)
        volume_px = np.asarray(outcome.objects["volume_px"])
        assert outcome.objects["volume_um3"] == pytest.approx(volume_px / 2)
        assert {roi.getPosition() for roi in outcome.rois} == {1, 2, 3, 4}
        assert len(outcome.rois) > outcome.n_objects


@pytest.mark.parametrize(
    ("name", "value", "held"),
    [
        ("model", "phase", "nuclei"),
        ("model_side_views", "phase", "same"),
        ("device", "cuda:7", ""),
        ("precision", "fp16", ""),
    ],
)
def test_another_model_than_the_one_loaded_is_refused(
    segmenter: Segmenter, name: str, value: str, held: str
) -> None:
    image = to_imageplus(crop(60, 90, 80, 90))
    held = held or getattr(segmenter.model, name)
    said = (
        f"The settings ask for {name} {value}, and the engine given was loaded with {held}. "
        f"Leave {name} out of the settings, or give a Segmenter made with it."
    )
    for settings in (SETTINGS | {name: value}, make_settings(SETTINGS | {name: value})):
        with pytest.raises(SettingsError) as error:
            segment_imageplus(image, settings, engine=segmenter)
        assert str(error.value) == said
    assert image.getOverlay() is None


def test_what_is_loaded_may_be_asked_for(segmenter: Segmenter) -> None:
    network = segmenter.model
    for more in (
        {"model": "nuclei", "device": network.device, "precision": network.precision},
        {"model_side_views": "nuclei", "device": "auto", "precision": "auto"},
        {"model_side_views": "same"},
    ):
        image = to_imageplus(crop(60, 90, 80, 90))
        assert segment_imageplus(image, SETTINGS | more, engine=segmenter).n_objects > 2


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
