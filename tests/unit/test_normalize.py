"""Normalisation keeps contrast of any scale, and empty images empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg_engine.core.normalize import (
    has_bright_background,
    invert_intensities,
    normalize_percentiles,
    outlier_limit,
)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 4000, (2, 60, 50)).astype(np.uint16)


def test_percentiles_become_zero_and_one() -> None:
    normalized, has_contrast = normalize_percentiles(picture())
    assert normalized.dtype == np.float32
    assert has_contrast.all()
    for channel in normalized:
        np.testing.assert_allclose(np.percentile(channel, (1, 99)), (0, 1), atol=1e-5)


@given(st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_scale_and_offset_do_not_matter(scale: float, offset: float) -> None:
    image = picture().astype(np.float64)
    expected, _ = normalize_percentiles(image)
    found, has_contrast = normalize_percentiles((image + offset) * scale)
    assert has_contrast.all()
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_dim_float_images_are_not_erased() -> None:
    """A 16-bit image scaled to 0-1 can have a contrast below 0.001, which Cellpose zeroes."""
    _, has_contrast = normalize_percentiles(picture() / 65535 * 0.01)
    assert has_contrast.all()


@pytest.mark.parametrize("offset", [2.0**31, 1e12])
def test_an_offset_does_not_swallow_the_contrast(offset: float) -> None:
    expected, _ = normalize_percentiles(picture())
    found, has_contrast = normalize_percentiles(picture() + offset)
    assert has_contrast.all()
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_constant_channels_become_zero(value: int) -> None:
    image = np.full((1, 20, 20), value, np.uint16)
    normalized, has_contrast = normalize_percentiles(image)
    assert not has_contrast.any()
    assert not normalized.any()


def test_large_images_are_sampled_without_much_change() -> None:
    image = np.random.default_rng(0).normal(size=(1, 3400, 3400)).astype(np.float32)
    normalized, _ = normalize_percentiles(image)
    np.testing.assert_allclose(np.percentile(normalized[0], (1, 99)), (0, 1), atol=0.02)


def test_inversion_spares_channels_without_contrast() -> None:
    image = np.stack([np.linspace(0, 1, 100).reshape(10, 10), np.zeros((10, 10))])
    inverted = invert_intensities(image.astype(np.float32), np.array([True, False]))
    np.testing.assert_allclose(inverted[0], 1 - image[0], atol=1e-6)
    assert not inverted[1].any()


def test_background_is_told_from_both_sides() -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:200, :200]
    objects = ((y % 50 - 25) ** 2 + (x % 50 - 25) ** 2 < 100).astype(np.float32)
    image = objects + rng.normal(0, 0.02, objects.shape).astype(np.float32)
    assert not has_bright_background(normalize_percentiles(image[None])[0][0])
    assert has_bright_background(normalize_percentiles(1 - image[None])[0][0])


def test_a_percentile_of_the_background_is_told_from_one_of_objects() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(100, 5, (200, 200))
    one, many = noise.copy(), noise.copy()
    one[50:60, 50:60] = 900
    many[50:90, 50:90] = 900
    assert outlier_limit(one) < 200
    assert outlier_limit(many) > 5000  # ten times what the percentiles show
    assert outlier_limit(np.where(one > 500, one, 0)) == 0  # a background without noise
    assert (noise > outlier_limit(noise)).sum() == 0


def test_what_stands_out_of_a_skewed_background_is_seen() -> None:
    rng = np.random.default_rng(0)
    image = np.round(rng.exponential(3.0, (200, 200)))  # most pixels have the lowest values
    image[50:60, 50:60] = 200
    assert (image > outlier_limit(image)).sum() == 100


def test_the_blurred_edge_of_an_object_does_not_hide_it() -> None:
    y, x = np.mgrid[:200, :200]
    far = np.hypot(y - 100, x - 100)
    image = np.random.default_rng(0).normal(100, 10, (200, 200)) + 800 / (1 + np.exp((far - 7) / 2))
    assert np.percentile(image, 99) > 150  # its edge, not the background
    assert (image > outlier_limit(image))[far < 7].all()


def test_a_range_beyond_float32_keeps_its_contrast() -> None:
    reach = np.float32(3e38)
    image = np.random.default_rng(0).uniform(-reach, reach, (1, 60, 50)).astype(np.float32)
    normalized, has_contrast = normalize_percentiles(image)
    assert has_contrast.all()
    np.testing.assert_allclose(np.percentile(normalized, (1, 99)), (0, 1), atol=1e-5)


def test_values_far_outside_the_contrast_become_infinite_and_nothing_else_changes() -> None:
    image = picture()[:1].astype(np.float32)
    expected, _ = normalize_percentiles(image)
    image[0, 0, 0] = np.finfo(np.float32).min
    found, _ = normalize_percentiles(image)
    np.testing.assert_allclose(found[0, 1:], expected[0, 1:], atol=1e-2)
    assert not np.isnan(found).any()
