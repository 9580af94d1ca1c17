"""Stacks as one volume, from the network to the files."""

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
from scipy import ndimage

from cellseg_engine import Segmentation, Segmenter, make_settings
from cellseg_engine.core.metrics import score_image
from cellseg_engine.errors import AxesError, CancelledError, SettingsError
from cellseg_engine.pipeline import volume as volume_module
from cellseg_engine.pipeline.progress import Progress
from tests.integration.cli import Cli

SIZES = {"Z": 1.0, "Y": 0.5, "X": 0.5}
"""Voxels twice as deep as wide."""
CENTRES = ((4, 16, 18), (11, 18, 50), (5, 46, 22), (10, 45, 54))
COLUMNS = [
    "label", "centroid_z_px", "centroid_y_px", "centroid_x_px", "volume_px", "surface_px",
    "diameter_px", "z_first", "z_last", "mean_probability", "flow_error", "touches_edge",
    "intensity_mean_1",
]  # fmt: skip
OPTIONS = ("--diameter-px", 18, "--device", "cpu")


def balls(n: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Balls of 18 px, and their image; int32 and uint16 of shape (16, 64, 72)."""
    labels = np.zeros((16, 64, 72), np.int32)
    z, y, x = np.indices(labels.shape)
    for label, (a, b, c) in enumerate(CENTRES[:n], start=1):
        labels[(2 * (z - a)) ** 2 + (y - b) ** 2 + (x - c) ** 2 < 81] = label
    image = ndimage.gaussian_filter(np.where(labels > 0, 1000.0, 100.0), (0.5, 1, 1))
    noise = np.random.default_rng(0).normal(0, 20, labels.shape)
    return labels, (image + noise).astype(np.uint16)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(make_settings(device="cpu", diameter_px=18, volume_mode="fuse"))


def run(segmenter: Segmenter, image: np.ndarray, axes: str = "ZYX", **values: Any) -> Segmentation:
    settings = make_settings(segmenter.settings, **values)
    return segmenter.segment(image, axes, settings=settings, pixel_size_um=SIZES)


@pytest.fixture(scope="module")
def fused(segmenter: Segmenter) -> Segmentation:
    return run(segmenter, balls()[1])


def test_balls_are_found_as_a_whole(fused: Segmentation) -> None:
    labels, image = balls()
    assert score_image(labels, fused.labels, (0.75,)).average_precision[0] == 1
    assert list(fused.objects) == COLUMNS
    assert fused.warnings == ()
    assert fused.is_volume
    assert fused.flows.shape == (3, *labels.shape)
    assert fused.logits.shape == labels.shape
    for row, label in enumerate(fused.objects["label"]):
        inside = fused.labels == label
        assert fused.objects["volume_px"][row] == inside.sum()
        assert fused.objects["intensity_mean_1"][row] == pytest.approx(image[inside].mean())
        assert fused.objects["mean_probability"][row] == pytest.approx(
            fused.probability[inside].mean(dtype=np.float64), rel=1e-5
        )
        assert fused.objects["diameter_px"][row] == pytest.approx(18, abs=1)
    assert (fused.objects["flow_error"] < 0.3).all()
    facts = fused.provenance["volume"]
    assert (facts["mode"], facts["anisotropy"], facts["anisotropy_source"]) == (
        *("fuse", 2, "calibration"),
    )
    scale = 17 / 18
    assert facts["network_shape"] == [int(16 * 2 * scale), int(64 * scale), int(72 * scale)]
    assert not facts["in_blocks"]


def test_the_flow_points_at_the_centres_along_all_axes(fused: Segmentation) -> None:
    for z, y, x in CENTRES:
        for axis, ((before), (after)) in enumerate(
            [((z - 2, y, x), (z + 2, y, x)), ((z, y - 5, x), (z, y + 5, x)),
             ((z, y, x - 5), (z, y, x + 5))]
        ):  # fmt: skip
            assert fused.flows[axis][before] > 0.5
            assert fused.flows[axis][after] < -0.5


def test_cellpose3_sums(segmenter: Segmenter, fused: Segmentation) -> None:
    labels, image = balls()
    found = run(segmenter, image, volume_mode="cellpose3")
    np.testing.assert_allclose(found.flows, 2 * fused.flows, atol=1e-5)
    assert found.logits.max() > 2 * fused.logits.max()
    # Steps of twice the length jump over the middle: Cellpose 3 loses voxels, and so do we.
    assert found.labels.max() == len(CENTRES)
    assert score_image(labels, found.labels, (0.5,)).average_precision[0] >= 0.5


def test_fields_in_a_file_and_objects_in_blocks_are_the_same(
    segmenter: Segmenter, fused: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A computer with too little memory for the fields.
    monkeypatch.setattr(volume_module, "available_bytes", lambda: 12_000_000)
    found = run(segmenter, balls()[1], volume_block_px=40)
    assert found.provenance["volume"]["in_blocks"]
    np.testing.assert_array_equal(found.flows, fused.flows)
    np.testing.assert_array_equal(found.labels > 0, fused.labels > 0)
    score = score_image(fused.labels, found.labels, (0.9,))
    assert score.average_precision[0] == 1


def test_time_points_are_volumes_of_their_own(segmenter: Segmenter) -> None:
    image = np.stack([balls(2)[1], balls(1)[1]])
    found = run(segmenter, image, "TZYX")
    assert found.axes == "TZYX"
    assert found.objects["label"].tolist() == [1, 2, 3]
    assert found.objects["t"].tolist() == [0, 0, 1]
    assert np.unique(found.labels[1]).tolist() == [0, 3]
    assert list(found.objects)[:2] == ["label", "t"]


def test_areas_count_in_planes_only(segmenter: Segmenter) -> None:
    image = balls(1)[1][:8, :40, :40]
    found = run(segmenter, image, min_area_px=40, max_area_px=50)
    assert found.n_objects == 1
    assert found.warnings == (
        "min_area_px counts in planes and was not looked at; use min_volume_px.",
        "max_area_px counts in planes and was not looked at; use max_volume_px.",
    )


def test_limits_that_exclude_each_other_are_refused_before_the_network_runs(
    segmenter: Segmenter,
) -> None:
    seen: list[Progress] = []
    settings = make_settings(segmenter.settings, min_volume_um3=200, max_volume_px=500)
    with pytest.raises(SettingsError, match="less than min_volume_um3 = 200, which is 800"):
        segmenter.segment(
            balls()[1], "ZYX", settings=settings, pixel_size_um=SIZES, progress=seen.append
        )
    assert seen == []


def test_an_empty_volume_is_a_valid_answer(segmenter: Segmenter) -> None:
    found = run(segmenter, np.zeros((4, 40, 40), np.uint16))
    assert found.n_objects == 0
    assert list(found.objects) == COLUMNS
    assert found.warnings[-1] == "No objects were found."
    assert "The image has no contrast" in found.warnings[0]


def test_progress_counts_the_slices_of_all_views_and_work_can_be_stopped(
    segmenter: Segmenter,
) -> None:
    seen: list[Progress] = []
    image = balls()[1][:4, :40, :40]
    segmenter.segment(image, "ZYX", pixel_size_um=SIZES, progress=seen.append)
    slices = [(p.plane, p.n_planes) for p in seen if p.stage == "network"]
    shape = (int(4 * 2 * 17 / 18), int(40 * 17 / 18), int(40 * 17 / 18))
    assert {n for _, n in slices} == {sum(shape)}
    assert sorted({plane for plane, _ in slices}) == list(range(sum(shape)))
    with pytest.raises(CancelledError):
        segmenter.segment(image, "ZYX", is_cancelled=lambda: len(seen) > 0)


def test_wrong_use_is_refused_before_the_network_runs(segmenter: Segmenter) -> None:
    image = balls()[1]
    with pytest.raises(AxesError, match="T is time"):
        run(segmenter, image, "TYX")
    with pytest.raises(AxesError, match="at least 2 planes"):
        run(segmenter, image[:1])
    with pytest.raises(SettingsError, match="contradicts the calibration"):
        run(segmenter, image, anisotropy="3")


def test_the_files_of_a_volume(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    labels, image = balls()
    tifffile.imwrite(
        tmp_path / "v.tif", image, imagej=True, resolution=(2, 2),
        metadata={"unit": "um", "axes": "ZYX", "spacing": 1.0},
    )  # fmt: skip
    outcome = cli(
        "segment", tmp_path / "v.tif", "--out", out, "--volume-mode", "fuse", "--json",
        "--outputs", "labels,rois,overlay,table,geojson", *OPTIONS,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.images[0]["objects"] == 4
    record = json.loads((out / "v_run.json").read_text())
    assert record["volume"]["anisotropy"] == 2
    assert record["settings"]["volume_mode"] == "fuse"
    found = tifffile.imread(out / "v_labels.tif")
    assert score_image(labels, found.astype(np.int32), (0.75,)).average_precision[0] == 1

    with (out / "v_objects.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row["volume_um3"]) == pytest.approx(float(row["volume_px"]) * 0.25)
        assert float(row["surface_um2"]) == pytest.approx(float(row["surface_px"]) * 0.25)
        assert float(row["diameter_um"]) == pytest.approx(float(row["diameter_px"]) * 0.5)
        assert float(row["centroid_z_um"]) == pytest.approx(float(row["centroid_z_px"]))

    rois = roifile.roiread(out / "v_rois.zip")
    assert isinstance(rois, list)
    expected = {
        (label, z + 1) for z, plane in enumerate(found) for label in np.unique(plane) if label
    }
    names = [tuple(map(int, roi.name.split("-")[:2])) for roi in rois]
    assert sorted(names) == sorted(expected)

    picture = imagecodecs.png_decode((out / "v_overlay.png").read_bytes())
    assert picture.shape == (64 + 6 + 32, 72 + 6 + 32, 3)
    for view in (picture[:64, :72], picture[70:, :72], picture[:64, 78:]):
        is_coloured = view.max(-1) > view.min(-1)
        assert is_coloured.any(), "outlines in each view"
        assert (view.max(-1) > 100).mean() > 0.02, "objects in each view"
    assert not picture[70:, 78:].any()

    again = cli("segment", tmp_path / "v.tif", "--out", out, "--volume-mode", "fuse", *OPTIONS)
    assert again.code == 0, again.err
    other = cli("segment", tmp_path / "v.tif", "--out", out, "--volume-mode", "cellpose3", *OPTIONS)
    assert other.code == 1
    assert "made with other settings: --volume-mode 'fuse' instead of 'cellpose3'" in other.err
