"""Training from volumes: what the network is shown of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg_engine.core.labels import median_diameter
from cellseg_engine.core.resize import nearest_indices
from cellseg_engine.settings import make_settings
from cellseg_engine.train.dataset import DataOptions, Remark, TrainingImage, load_images
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.flow_cache import FlowCache
from cellseg_engine.train.sources import find_sources
from tests.integration.training import disks
from tests.unit.plain import blobs

LABELS = np.stack([np.roll(blobs(48)[:, :40], 3 * z, 0) for z in range(12)])
IMAGE = ((LABELS > 0) * 900 + np.arange(100, 112)[:, None, None] * 20).astype(np.uint16)


def put(folder: Path, axes: str = "ZYX", **metadata: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    order: dict[str, Any] = {
        "imagej": True,
        "resolution": (1.0, 1.0),
        "metadata": {"axes": axes, **metadata},
    }
    tifffile.imwrite(folder / "a_img.tif", IMAGE, **order)
    tifffile.imwrite(folder / "a_masks.tif", LABELS.astype(np.uint16), **order)


def load(folder: Path, **options: Any) -> tuple[list[TrainingImage], list[Remark]]:
    settings = make_settings(invert="no", **options.pop("settings", {}))
    reading = DataOptions(settings, min_objects=1, slices="all", **options)
    return load_images(find_sources([folder]).sources, reading, FlowCache(folder / "flows"))


def by_name(images: list[TrainingImage]) -> dict[str, TrainingImage]:
    return {image.name.removeprefix("a "): image for image in images}


def assert_same_objects(found: np.ndarray, truth: np.ndarray) -> None:
    """Ids differ: parts of an object that a cut separates become objects."""
    assert np.array_equal(found > 0, truth > 0)
    for one in np.unique(found[found > 0]):
        assert len(np.unique(truth[found == one])) == 1


def test_a_volume_is_cut_in_three_directions(tmp_path: Path) -> None:
    put(tmp_path)
    images, _ = load(tmp_path, settings={"anisotropy": "2"})
    slices = by_name(images)
    deep = LABELS[nearest_indices(12, 24)]
    assert {name.split()[0] for name in slices} == {"XY", "XZ", "YZ"}
    assert slices["XY 1"].pixels.shape[1:] == (48, 40)
    assert slices["XZ 20"].pixels.shape[1:] == (24, 40)
    assert slices["YZ 20"].pixels.shape[1:] == (24, 48)
    assert_same_objects(slices["XY 9"].labels, deep[8])
    assert_same_objects(slices["XZ 20"].labels, deep[:, 19])
    assert_same_objects(slices["YZ 20"].labels, deep[:, :, 19])


def test_a_volume_has_one_contrast_one_diameter_and_one_group(tmp_path: Path) -> None:
    put(tmp_path)
    images, _ = load(tmp_path)
    slices = by_name(images)
    first, last = slices["XY 1"], slices["XY 12"]
    ground = [np.median(one.pixels[0][one.labels == 0]) for one in (first, last)]
    assert ground[1] > ground[0] + 0.1, "planes are not normalised one by one"
    assert {image.group for image in images} == {images[0].group}
    (diameter,) = {image.diameter_px for image in images}
    assert diameter == pytest.approx(median_diameter(LABELS[0]), rel=0.1)


def test_calibration_gives_the_anisotropy(tmp_path: Path) -> None:
    put(tmp_path / "tall", spacing=3.0, unit="um")
    slices = by_name(load(tmp_path / "tall")[0])
    assert slices["XZ 20"].pixels.shape[1:] == (36, 40)
    with pytest.raises(TrainingDataError, match="contradicts the calibration"):
        load(tmp_path / "tall", settings={"anisotropy": "1"})


def test_what_is_no_volume_stays_as_it_is(tmp_path: Path) -> None:
    put(tmp_path / "time", axes="TYX")
    images, _ = load(tmp_path / "time")
    assert images[0].name == "a plane 1"
    assert len(images) == len(LABELS)
    flat, labels = disks(64)
    tifffile.imwrite(tmp_path / "b_img.tif", flat)
    tifffile.imwrite(tmp_path / "b_masks.tif", labels)
    names = {image.name for image in load(tmp_path)[0]}
    assert {"b", "time/a plane 1"} <= names


def test_a_stack_of_one_plane_is_refused(tmp_path: Path) -> None:
    put(tmp_path)
    for name, stack in (("a_img", IMAGE), ("a_masks", LABELS.astype(np.uint16))):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack[:1], metadata={"axes": "ZYX"})
    with pytest.raises(TrainingDataError, match="at least 2 planes") as caught:
        load(tmp_path, axes="ZYX")
    assert "slices to planes" in str(caught.value)


def test_an_assumed_anisotropy_is_said(tmp_path: Path) -> None:
    put(tmp_path)
    said = [remark for remark in load(tmp_path)[1] if remark.what == "image"]
    assert [remark.image for remark in said] == ["a"]
    assert "how far the planes are apart" in said[0].reason
    assert not any(
        remark.what == "image" for remark in load(tmp_path, settings={"anisotropy": "2"})[1]
    )
