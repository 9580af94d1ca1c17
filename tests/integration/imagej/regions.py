"""Labels as images and ROIs of ImageJ, and drawn ROIs as labels."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellseg_imagej
from cellseg_engine.errors import AxesError, ImageError
from cellseg_imagej import (
    Calibration,
    JavaError,
    RoiError,
    labels_to_imageplus,
    labels_to_rois,
    rois_to_labels,
    show_rois,
    to_array,
    to_imageplus,
)
from cellseg_imagej.errors import JavaTypeError
from tests.integration.imagej.conftest import Java


def disks(seed: int, size: int = 40) -> np.ndarray:
    """Give labels of a few disks with a hole here and there."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.int32)
    y, x = np.ogrid[:size, :size]
    for label in range(1, 7):
        centre, radius = rng.integers(0, size, 2), rng.integers(2, 7)
        distance = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
        labels[distance <= radius**2] = 3 * label
        if label % 2:
            labels[distance <= 1] = 0
    return labels


def open_rois(*rois: Any, names: list[str] | None = None) -> list[Any]:
    for roi, name in zip(rois, names or [], strict=False):
        roi.setName(name)
    return list(rois)


def ints(values: list[int]) -> Any:
    import jpype

    return jpype.JArray(jpype.JInt)(values)


def blank(axes: str = "YX", shape: tuple[int, ...] = (40, 40)) -> Any:
    return to_imageplus(np.zeros(shape, np.uint8), axes, title="blank")


# -- labels as images ------------------------------------------------------------------------


def test_a_label_image_is_16_bits_and_32_where_that_is_too_few(java: Java) -> None:
    image = to_imageplus(
        np.zeros((2, 3, 4, 5), np.float32),
        "TZYX",
        Calibration(0.5, 0.25, 2.0, "micron", "micron", "micron", frame_interval=30.0),
        title="cells.tif",
    )
    labels = np.arange(120, dtype=np.int32).reshape(2, 3, 4, 5)
    shown = labels_to_imageplus(labels, "TZYX", like=image)
    assert (shown.getTitle(), shown.getBitDepth()) == ("cells.tif-labels", 16)
    assert [int(n) for n in shown.getDimensions()] == [5, 4, 1, 3, 2]
    again = to_array(shown)
    np.testing.assert_array_equal(again.array, labels)
    assert again.calibration == to_array(image).calibration
    assert (shown.getDisplayRangeMin(), shown.getDisplayRangeMax()) == (0, 255)
    many = labels_to_imageplus(labels * 1000, "TZYX")
    assert many.getBitDepth() == 32 and many.getDisplayRangeMax() == 119_000
    np.testing.assert_array_equal(to_array(many).array, labels * 1000)
    table = shown.getProcessor().getLut().getBytes()
    colours = {tuple(int(table[256 * c + n]) for c in range(3)) for n in range(256)}
    assert len(colours) > 250 and [int(table[256 * c]) for c in range(3)] == [0, 0, 0]


def test_labels_that_are_none() -> None:
    with pytest.raises(AxesError, match="has 3 dimensions"):
        labels_to_imageplus(np.zeros((2, 3, 4), np.int32))
    with pytest.raises(AxesError, match="axes of T, Z, Y, X; these are CYX"):
        labels_to_imageplus(np.zeros((2, 3, 4), np.int32), "CYX")
    with pytest.raises(ImageError, match="whole numbers; these are float64"):
        labels_to_imageplus(np.zeros((3, 4)))
    with pytest.raises(ImageError, match="from -1 to 0; an image of ImageJ holds"):
        labels_to_imageplus(np.array([[-1, 0]]))
    with pytest.raises(ImageError, match="from 0 to 16,777,217"):
        labels_to_imageplus(np.array([[(1 << 24) + 1, 0]]))


# -- labels as ROIs --------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from(["YX", "ZYX", "TYX", "TZYX"]), st.booleans())
@settings(max_examples=20, deadline=None)
def test_labels_become_rois_and_labels_again(seed: int, axes: str, has_channels: bool) -> None:
    n_planes = {"YX": 1, "ZYX": 2, "TYX": 2, "TZYX": 4}[axes]
    shape = {"YX": (), "ZYX": (2,), "TYX": (2,), "TZYX": (2, 2)}[axes]
    labels = np.stack([disks(seed + n) for n in range(n_planes)]).reshape(*shape, 40, 40)
    image = blank(axes, labels.shape)
    if has_channels:
        image = to_imageplus(np.zeros((3, *labels.shape), np.uint8), "C" + axes)
    rois = labels_to_rois(labels, axes, like=image)
    if ("T" in axes and "Z" in axes) or (has_channels and axes != "YX"):
        assert all(roi.hasHyperStackPosition() and roi.getCPosition() == 0 for roi in rois)
    show_rois(image, rois)
    for found in (rois, image.getOverlay()):
        drawn = rois_to_labels(found, image)
        assert (drawn.axes, drawn.remarks) == (axes, ())
        np.testing.assert_array_equal(drawn.labels, labels)


def test_positions_are_those_that_imagej_draws_at() -> None:
    labels = np.zeros((2, 3, 10, 10), np.int32)
    labels[1, 2, 2:5, 2:5] = 7
    (roi,) = labels_to_rois(labels, "TZYX", like=blank("TZYX", labels.shape))
    assert str(roi.getName()) == "0007-3-2"
    assert (roi.getCPosition(), roi.getZPosition(), roi.getTPosition()) == (0, 3, 2)
    (roi,) = labels_to_rois(labels[1], "ZYX")
    assert (roi.getPosition(), roi.hasHyperStackPosition()) == (3, False)
    with pytest.raises(RoiError, match="The labels have 1 frames, 3 slices"):
        labels_to_rois(labels[1], "ZYX", like=blank("ZYX", (2, 10, 10)))


def test_our_rois_replace_earlier_ones_of_ours_and_leave_the_users(java: Java) -> None:
    image = blank()
    mine = java("ij.gui.Roi")(1, 1, 5, 5)
    mine.setName("0001")
    image.setOverlay(java("ij.gui.Overlay")(mine))
    for seed in (1, 2):
        rois = labels_to_rois(disks(seed))
        show_rois(image, rois)
        assert image.getOverlay().size() == 1 + len(rois)
    assert image.getOverlay().get(0).getName() == "0001"
    assert image.getOverlay().get(0).getProperty("cellseg") is None
    colours = {str(image.getOverlay().get(n).getStrokeColor()) for n in range(1, 1 + len(rois))}
    assert len(colours) == len(rois)


def test_headless_there_is_no_roi_manager() -> None:
    with pytest.raises(JavaError, match="headless ImageJ has no ROI Manager"):
        cellseg_imagej.add_to_roi_manager(labels_to_rois(disks(1)))


# -- drawn ROIs ------------------------------------------------------------------------------


def test_kinds_of_rois_that_are_areas(java: Java) -> None:
    rois = open_rois(
        java("ij.gui.Roi")(2, 3, 6, 4),
        java("ij.gui.OvalRoi")(20, 3, 10, 8),
        java("ij.gui.PolygonRoi")(ints([20, 30, 30]), ints([20, 20, 30]), 3, 2),
        names=["box", "oval", "triangle"],
    )
    both = java("ij.gui.ShapeRoi")(java("ij.gui.Roi")(0, 30, 4, 4))
    rois.append(both.or_(java("ij.gui.ShapeRoi")(java("ij.gui.Roi")(10, 30, 4, 4))))
    drawn = rois_to_labels(rois, blank())
    sizes = np.bincount(drawn.labels.ravel(), minlength=5)[1:]
    assert sizes[0] == 24 and sizes[3] == 32
    assert sizes[1] == pytest.approx(np.pi * 20, rel=0.08)
    assert sizes[2] == pytest.approx(50, rel=0.15)
    assert drawn.remarks == (
        "The names of the ROIs are no labels, so they were numbered in their order.",
    )


def test_lines_points_and_scale_bars_are_refused_by_name(java: Java) -> None:
    rois = open_rois(
        java("ij.gui.Roi")(2, 3, 6, 4),
        java("ij.gui.Line")(1, 1, 9, 9),
        java("ij.gui.PointRoi")(5, 5),
        java("ij.gui.TextRoi")(3, 3, "10 um"),
        java("ij.gui.Roi")(30, 36, 9, 2),
        names=["cell", "scale", "seed", "length", "|SB|"],
    )
    sentence = (
        r"4 of 5 ROIs have no area: scale \(straight line\), seed \(point\), length \(text\), "
        r"\|SB\| \(rectangle\)"
    )
    with pytest.raises(RoiError, match=sentence):
        rois_to_labels(rois, blank())


def test_rois_on_other_slices(java: Java) -> None:
    image = blank("ZYX", (3, 40, 40))
    first, second, all_planes = (java("ij.gui.Roi")(10 * n, 0, 5, 5) for n in range(3))
    first.setPosition(1)
    second.setPosition(3)
    drawn = rois_to_labels(open_rois(first, second, all_planes, names=["a", "b", "c"]), image)
    assert drawn.axes == "ZYX"
    found = [sorted(set(plane[plane > 0].tolist())) for plane in drawn.labels]
    assert found == [[1, 3], [3], [2, 3]]
    second.setPosition(4)
    sentence = r"1 of 3 ROIs lie on planes that blank does not have .*: b \(slice 4, frame any\)"
    with pytest.raises(RoiError, match=sentence):
        rois_to_labels([first, second, all_planes], image)


def test_rois_on_a_channel_of_one_plane_are_on_that_plane(java: Java) -> None:
    image = to_imageplus(np.zeros((3, 40, 40), np.uint8), "CYX")
    first, second = java("ij.gui.Roi")(0, 0, 5, 5), java("ij.gui.Roi")(10, 0, 5, 5)
    for channel, roi in ((1, first), (3, second)):
        image.setC(channel)
        roi.setPosition(image)
    assert (second.getPosition(), second.hasHyperStackPosition()) == (3, False)
    drawn = rois_to_labels(open_rois(first, second, names=["a", "b"]), image)
    assert (drawn.axes, set(np.unique(drawn.labels))) == ("YX", {0, 1, 2})


def test_overlaps_are_settled_and_said(java: Java) -> None:
    box = java("ij.gui.Roi")
    rois = open_rois(
        box(0, 0, 10, 4), box(6, 0, 10, 4), box(1, 1, 2, 2), box(90, 0, 5, 5), box(35, 35, 9, 9),
        names=["left", "right", "inside", "away", "cut"],
    )  # fmt: skip
    drawn = rois_to_labels(rois, blank())
    assert (drawn.labels[:4, :8] == 1).all() and (drawn.labels[:4, 8:16] == 2).all()
    assert set(np.unique(drawn.labels)) == {0, 1, 2, 5} and (drawn.labels == 5).sum() == 25
    assert drawn.remarks[1:] == (
        "1 ROIs left out (outside the image): away",
        "1 ROIs left out (more than 75 % of them under other ROIs): inside",
        "16 px of overlapping ROIs given to the ROI with the nearest centroid",
    )


def test_names_that_are_labels_are_kept(java: Java) -> None:
    box = java("ij.gui.Roi")
    rois = open_rois(box(0, 0, 5, 5), box(20, 20, 5, 5), names=["0012", "7"])
    drawn = rois_to_labels(rois, blank())
    assert set(np.unique(drawn.labels)) == {0, 7, 12} and drawn.remarks == ()
    for other in ("12", "cell 3", "0"):  # twice the same, no label, background
        rois[1].setName(other)
        assert set(np.unique(rois_to_labels(rois, blank()).labels)) == {0, 1, 2}


def test_no_rois_and_what_is_none(java: Java) -> None:
    several: list[Any] = [[], None, java("ij.gui.Overlay")()]
    for nothing in several:
        with pytest.raises(RoiError, match="There are no ROIs"):
            rois_to_labels(nothing, blank())
    with pytest.raises(JavaTypeError, match="or the RoiManager; this is str"):
        rois_to_labels(["cell.roi"], blank())
    with pytest.raises(JavaTypeError, match=r"rois_to_labels takes an ij\.ImagePlus; this is None"):
        rois_to_labels([java("ij.gui.Roi")(0, 0, 1, 1)], None)
    from cellseg_imagej.rois import decode_rois

    with pytest.raises(RoiError, match="no archive of ROIs"):
        decode_rois(b"nonsense")
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    assert decode_rois(stream.getvalue()) == []
