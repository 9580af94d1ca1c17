"""Stacks with linked planes, from the network to the files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import roifile
import tifffile

from cellseg_engine import Segmentation, Segmenter, make_settings
from cellseg_engine.batch.outputs import object_columns
from cellseg_engine.io.overlays import render_overlay
from tests.integration.cli import Cli, disks

OPTIONS = ("--diameter-px", 24, "--device", "cpu")
OBJECTS_OF_PLANES = (2, 4, 4, 3, 2)
"""The third of the four objects lies in planes 1 to 3, the fourth in 1 and 2."""
COLUMNS = [
    "label", "centroid_z_px", "centroid_y_px", "centroid_x_px", "volume_px", "z_first", "z_last",
    "mean_probability", "flow_error", "touches_edge", "intensity_mean_1",
]  # fmt: skip


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(make_settings(device="cpu", diameter_px=24))


def run(segmenter: Segmenter, image: np.ndarray, axes: str, **values: Any) -> Segmentation:
    return segmenter.segment(image, axes, settings=make_settings(segmenter.settings, **values))


def stack() -> np.ndarray:
    """Four upright columns of disks; uint16 of shape (5, 96, 120)."""
    return np.stack([disks(n=n, seed=z) for z, n in enumerate(OBJECTS_OF_PLANES)])


@pytest.fixture(scope="module")
def linked(segmenter: Segmenter) -> Segmentation:
    return run(segmenter, stack(), "ZYX", stitch_threshold=0.5)


def test_an_object_of_several_planes_is_one(linked: Segmentation) -> None:
    image, result = stack(), linked
    assert result.n_objects == 4
    assert result.labels.dtype == np.int32
    assert list(result.objects) == COLUMNS
    by_place = {
        (round(y, -1), round(x, -1)): row
        for row, (y, x) in enumerate(
            zip(result.objects["centroid_y_px"], result.objects["centroid_x_px"], strict=True)
        )
    }
    rows = [by_place[place] for place in ((20, 20), (20, 80), (70, 30), (70, 90))]
    assert result.objects["z_first"][rows].tolist() == [0, 0, 1, 1]
    assert result.objects["z_last"][rows].tolist() == [4, 4, 3, 2]
    assert result.objects["centroid_z_px"][rows] == pytest.approx([2, 2, 2, 1.5], abs=0.1)
    assert result.objects["volume_px"].tolist() == np.bincount(result.labels.flat)[1:].tolist()
    for row, label in enumerate(result.objects["label"]):
        inside = result.labels == label
        assert result.objects["mean_probability"][row] == pytest.approx(
            result.probability[inside].mean(dtype=np.float64)
        )
        assert result.objects["intensity_mean_1"][row] == pytest.approx(image[inside].mean())


def test_linking_changes_nothing_but_the_ids(segmenter: Segmenter, linked: Segmentation) -> None:
    plain = run(segmenter, stack(), "ZYX")
    assert plain.n_objects == sum(OBJECTS_OF_PLANES)
    assert plain.objects["z"].max() == 4, "a threshold of 0 links nothing"
    np.testing.assert_array_equal(linked.labels > 0, plain.labels > 0)
    for ours, theirs in zip(linked.labels, plain.labels, strict=True):
        pairs = np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(ours)) == len(np.unique(theirs))
    assert linked.warnings == plain.warnings == ()


def test_time_points_are_never_linked(segmenter: Segmenter) -> None:
    image = np.stack([stack()[1:3]] * 2)
    result = run(segmenter, image, "TZYX", stitch_threshold=0.5)
    assert result.n_objects == 8
    assert result.objects["t"].tolist() == [0] * 4 + [1] * 4
    np.testing.assert_array_equal(
        result.labels[1], np.where(result.labels[0] > 0, result.labels[0] + 4, 0)
    )
    turned = run(segmenter, image.swapaxes(0, 1), "ZTYX", stitch_threshold=0.5)
    np.testing.assert_array_equal(turned.labels, result.labels)


@pytest.mark.parametrize(
    ("image", "axes"),
    [(disks(), "YX"), (disks()[np.newaxis], "ZYX"), (np.stack([disks()] * 2), "TYX")],
    ids=["no Z", "one plane", "time only"],
)
def test_one_plane_has_nothing_to_link(segmenter: Segmenter, image: np.ndarray, axes: str) -> None:
    plain = run(segmenter, image, axes)
    result = run(segmenter, image, axes, stitch_threshold=0.5)
    np.testing.assert_array_equal(result.labels, plain.labels)
    assert list(result.objects) == list(plain.objects)
    for name, column in plain.objects.items():
        np.testing.assert_array_equal(result.objects[name], column)
    told = "stitch_threshold links planes along Z and was not looked at: the image has the axes TYX"
    assert [told in warning for warning in result.warnings] == [True] * (axes == "TYX")


def test_a_stack_without_objects_is_a_valid_answer(segmenter: Segmenter) -> None:
    result = run(segmenter, np.zeros((3, 60, 70), np.uint16), "ZYX", stitch_threshold=0.5)
    assert result.n_objects == 0
    assert list(result.objects) == COLUMNS
    assert result.warnings[-1] == "No objects were found."


def test_edge_objects_leave_the_planes_where_they_touch_the_edge(segmenter: Segmenter) -> None:
    image = np.stack([disks(seed=0), disks(seed=1)])
    image[1] = np.roll(image[1], -14, axis=1)  # two objects over the left edge
    options = {"stitch_threshold": 0.2, "min_area_px": 100}
    assert run(segmenter, image, "ZYX", **options).objects["touches_edge"].any()
    result = run(segmenter, image, "ZYX", exclude_edge_objects=True, **options)
    assert not result.objects["touches_edge"].any()
    assert np.unique(result.labels[0]).tolist() == [0, 1, 2, 3, 4]
    assert not np.unique(result.labels[1][:, 0]).any()


def test_the_files_of_a_linked_stack(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tifffile.imwrite(
        tmp_path / "z.tif", stack(), imagej=True, resolution=(2, 4),
        metadata={"unit": "um", "axes": "ZYX", "spacing": 1.5},
    )  # fmt: skip
    outcome = cli(
        "segment", tmp_path / "z.tif", "--out", out, "--stitch-threshold", 0.5, "--json",
        "--outputs", "labels,rois,overlay,table,geojson", *OPTIONS,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.images[0]["objects"] == 4
    assert json.loads((out / "z_run.json").read_text())["objects"] == 4
    labels = tifffile.imread(out / "z_labels.tif")
    assert labels.max() == 4

    with (out / "z_objects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["1", "2", "3", "4"]
    for row in rows:
        assert float(row["volume_um3"]) == pytest.approx(float(row["volume_px"]) * 1.5 * 0.25 * 0.5)
        for name, size in (("z", 1.5), ("y", 0.25), ("x", 0.5)):
            centre_px = float(row[f"centroid_{name}_px"])
            assert float(row[f"centroid_{name}_um"]) == pytest.approx(centre_px * size)
    assert not [name for name in rows[0] if name.startswith(("area", "diameter"))]

    check_rois(out / "z_rois.zip", labels)
    check_geojson(out / "z_objects.geojson", labels, rows)
    # The overlay shows the middle plane, whose ids need not be 1 to n.
    picture = imagecodecs.png_decode((out / "z_overlay.png").read_bytes())
    ids = np.unique(labels[2], return_inverse=True)[1].reshape(labels[2].shape)
    np.testing.assert_array_equal(picture, render_overlay(stack()[2], ids))


def check_rois(path: Path, labels: np.ndarray) -> None:
    """Each ROI is where its id is, in its plane; none is missing."""
    rois = roifile.roiread(path)
    assert isinstance(rois, list)
    assert len({roi.name for roi in rois}) == len(rois) == sum(OBJECTS_OF_PLANES)
    for roi in rois:
        label, plane, _ = map(int, roi.name.split("-"))
        assert roi.position == plane
        rows, columns = np.nonzero(labels[plane - 1] == label)
        assert (roi.top, roi.bottom) == (rows.min(), rows.max() + 1)
        assert (roi.left, roi.right) == (columns.min(), columns.max() + 1)


def check_geojson(path: Path, labels: np.ndarray, rows: list[dict[str, str]]) -> None:
    """Each part of an object carries its plane and the measurements of the whole."""
    features = json.loads(path.read_text())["features"]
    places = [(f["properties"]["name"], f["geometry"]["plane"]["z"]) for f in features]
    assert sorted(places) == sorted(
        (str(label), z) for z, plane in enumerate(labels) for label in np.unique(plane) if label
    )
    for feature in features:
        row = rows[int(feature["properties"]["name"]) - 1]
        found = feature["properties"]["measurements"]
        assert found["volume_px"] == int(row["volume_px"])
        assert (found["z_first"], found["z_last"]) == (int(row["z_first"]), int(row["z_last"]))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"Y": 0.5, "X": 0.5}, {"centroid_y_um", "centroid_x_um"}),
        ({"Z": 2.0}, set()),
        (
            {"Z": 2.0, "Y": 0.5, "X": 0.5},
            {"centroid_z_um", "centroid_y_um", "centroid_x_um", "volume_um3"},
        ),
    ],
)
def test_columns_in_um_need_what_they_are_made_of(
    linked: Segmentation, sizes: dict[str, float], expected: set[str]
) -> None:
    columns = object_columns(linked, sizes, {})
    assert {name for name in columns if name not in linked.objects} == expected
