"""Images with next to no objects: what the percentiles do not show is looked at again."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg_engine import Segmenter, make_settings
from tests.integration.cli import disks

SIDE = 400


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(make_settings(device="cpu"))


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
