"""Images with next to no objects: what the percentiles do not show is looked at again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.core.axes import to_planes
from cellseg_engine.pipeline.prepare import prepare_stack
from cellseg_engine.pipeline.second_look import find_outliers
from cellseg_engine.pipeline.volume import sample_volume, tall_plane
from tests.integration.cli import disks

SIDE = 400


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(make_settings(device="cpu", precision="fp32"))


def sparse_image(n: int = 1, *, noise: float = 3.0, seed: int = 0) -> np.ndarray:
    """Give n disks of 24 px on a noisy background that they cover less than 1 % of."""
    image = np.random.default_rng(seed).normal(100, noise, (n, SIDE, SIDE))
    y, x = np.mgrid[:SIDE, :SIDE]
    for plane in image:
        plane[np.hypot(y - 150, x - 220) < 12] += 400
    return np.clip(image, 0, None).astype(np.uint16)


def test_a_single_object_is_found_and_the_second_look_told(segmenter: Segmenter) -> None:
    result = segmenter.segment(sparse_image()[0])
    assert result.n_objects == 1
    assert abs(result.objects["centroid_x_px"][0] - 220) < 2
    assert any("looked at again" in warning for warning in result.warnings)
    assert result.settings.percentile_high == 99
    used = result.provenance["second_look"]
    assert 99.5 < used["percentile_high"] < 100
    given = segmenter.segment(sparse_image()[0], settings=make_settings(segmenter.settings, **used))
    np.testing.assert_array_equal(given.labels, result.labels)
    assert "second_look" not in given.provenance


def test_a_single_object_on_a_skewed_background_is_found(segmenter: Segmenter) -> None:
    image = np.random.default_rng(0).gamma(0.5, 8.0, (SIDE, SIDE))
    image += sparse_image(noise=0)[0] - 100.0
    result = segmenter.segment(image.astype(np.uint16))
    assert result.n_objects == 1
    assert "second_look" in result.provenance


def test_a_dark_object_on_a_bright_background_is_found(segmenter: Segmenter) -> None:
    result = segmenter.segment(1000 - sparse_image()[0])
    assert result.n_objects == 1
    assert result.provenance["second_look"]["percentile_low"] < 0.5


def test_a_background_without_noise_is_no_hindrance(segmenter: Segmenter) -> None:
    image = sparse_image(noise=0)[0] - 100
    assert segmenter.segment(image).n_objects == 1


def test_planes_of_a_stack(segmenter: Segmenter) -> None:
    stack = sparse_image(3)
    stack[1] = np.random.default_rng(1).normal(100, 3, (SIDE, SIDE))
    result = segmenter.segment(stack, "TYX")
    assert [int(plane.any()) for plane in result.labels] == [1, 0, 1]


def test_percentiles_that_were_given_are_taken_literally(segmenter: Segmenter) -> None:
    settings = make_settings(segmenter.settings, percentile_high=98.9)
    result = segmenter.segment(sparse_image()[0], settings=settings)
    assert "second_look" not in result.provenance


@pytest.mark.parametrize("kind", ["camera", "photons", "dust", "nothing"])
def test_empty_images_stay_empty(segmenter: Segmenter, kind: str) -> None:
    rng = np.random.default_rng(0)
    image = {
        "camera": rng.normal(100, 5, (SIDE, SIDE)),
        "photons": rng.poisson(0.05, (SIDE, SIDE)).astype(np.float64),
        "dust": rng.normal(100, 5, (SIDE, SIDE)),
        "nothing": np.zeros((SIDE, SIDE)),
    }[kind]
    if kind == "dust":
        image[100:103, 200:203] = 900
    result = segmenter.segment(image.astype(np.uint16))
    assert result.n_objects == 0
    assert "second_look" not in result.provenance


def test_ordinary_images_are_looked_at_once(segmenter: Segmenter) -> None:
    assert "second_look" not in segmenter.segment(disks((240, 260), n=6)).provenance


def dense_plane() -> np.ndarray:
    """Give disks of 24 px all over."""
    image = np.random.default_rng(2).normal(100, 3, (SIDE, SIDE))
    y, x = np.mgrid[:SIDE, :SIDE]
    image[np.hypot(y % 40 - 20, x % 40 - 20) < 12] += 400
    return image.astype(np.uint16)


def test_a_sparse_plane_beside_a_dense_one_is_looked_at_again(segmenter: Segmenter) -> None:
    stack = np.stack([sparse_image()[0], dense_plane()])
    result = segmenter.segment(stack, "TYX")
    assert [np.unique(plane).size - 1 for plane in result.labels] == [1, 100]
    assert result.objects["label"].tolist() == list(range(1, 102))
    assert result.objects["t"].tolist() == [0] + [1] * 100
    (record,) = result.provenance["second_look"]
    assert record["plane"] == 0
    assert 99.5 < record["percentile_high"] < 100
    assert any("of 1 of 2 planes" in warning for warning in result.warnings)
    dense = segmenter.segment(dense_plane())
    assert result.diameter_px == pytest.approx(dense.diameter_px, rel=0.02)
    np.testing.assert_array_equal(result.logits[1] > 0, dense.logits > 0)


def test_weak_objects_are_not_lost_to_a_bright_speck(segmenter: Segmenter) -> None:
    y, x = np.mgrid[:320, :320]
    image = np.full((320, 320), 100.0)
    for centre in ((60, 60), (80, 220), (230, 90)):
        image[np.hypot(y - centre[0], x - centre[1]) < 8.5] += 22
    image[np.hypot(y - 220, x - 230) < 3.5] += 5000
    image = ndimage.gaussian_filter(image, 1) + np.random.default_rng(0).normal(0, 4, image.shape)
    settings = make_settings(segmenter.settings, diameter_px=17)
    result = segmenter.segment(image.clip(0).astype(np.uint16), settings=settings)
    assert result.n_objects == 3
    assert "second_look" not in result.provenance
    (warning,) = result.warnings
    assert "With percentile_high = 99.9" in warning
    assert "3 of the 3 objects found first are not, so those were kept." in warning


@pytest.mark.parametrize(
    ("n", "brightness", "blur_px"),
    [(3, 1000, 1), (3, 20000, 1), (1, 20000, 4), (1, 3000, 0), (3, 3000, 0)],
)
def test_bright_objects_are_found_however_bright(
    segmenter: Segmenter, n: int, brightness: int, blur_px: int
) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.zeros((SIDE, SIDE))
    for k in range(n):
        image[np.hypot(y - 80 - 100 * k, x - 90 - 90 * k) < 12] = brightness
    image = ndimage.gaussian_filter(image, blur_px)
    image += np.random.default_rng(0).normal(100, 3, image.shape)
    result = segmenter.segment(image.clip(0, 65535).astype(np.uint16))
    assert result.n_objects == n
    assert result.objects["area_px"].min() > 300


def outliers(image: np.ndarray, axes: str, **values: object) -> np.ndarray:
    """Find what stands out of the first plane, or of the volume."""
    stack = to_planes(image, axes)
    settings = make_settings({"invert": "no", **values})
    preparation = prepare_stack(stack, settings, (), 1)
    pixels = tall_plane(stack.pixels[0])
    return find_outliers(pixels, sample_volume(stack.pixels[0]), preparation)


def test_what_stands_out_of_a_large_plane_is_counted_at_full_resolution() -> None:
    image = np.random.default_rng(0).normal(100, 4, (3500, 3500)).astype(np.float32)
    image[1000:1020, 2000:2020] += 600
    places = outliers(image, "YX")
    assert places.size == 400
    assert set(places // 3500) == set(range(1000, 1020))


def test_what_stands_out_of_a_volume_is_that_of_all_its_planes() -> None:
    image = np.random.default_rng(0).normal(100, 4, (50, 60, 60)).astype(np.float32)
    image[20:30, 20:32, 20:32] += 600  # 4 % of its planes, less than 1 % of the volume
    places = outliers(image, "ZYX", volume_mode="fuse")
    assert places.size == 10 * 12 * 12
    assert set(places // 3600) == set(range(20, 30))


def test_a_single_object_of_a_volume_is_found() -> None:
    image = np.random.default_rng(0).normal(100, 3, (44, 52, 52))
    z, y, x = np.indices(image.shape)
    image[(z - 20) ** 2 + (y - 25) ** 2 + (x - 30) ** 2 < 36] += 400
    settings = make_settings(device="cpu", volume_mode="fuse", anisotropy="1", diameter_px=16)
    result = Segmenter(settings).segment(image.clip(0).astype(np.uint16), "ZYX")
    assert result.objects["centroid_z_px"] == pytest.approx([20], abs=1)
    assert 99.5 < result.provenance["second_look"]["percentile_high"] < 99.9
