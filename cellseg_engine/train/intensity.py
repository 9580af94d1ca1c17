"""Random changes of brightness, so that a network knows more than the stains of its images.

The papers change the geometry of their training images only (Stringer et al. 2021). These
changes are ours: dim objects beside bright ones, uneven illumination, few pixels for an object,
blur and noise are what a network meets on other people's microscopes.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

GAMMA_RANGE = (0.5, 2.0)
GAIN_RANGE = (0.7, 1.3)
OFFSET_RANGE = (-0.1, 0.1)
OBJECT_GAIN_RANGE = (0.25, 1.0)
SLOPE_RANGE = (0.0, 0.5)
BLUR_RANGE_PX = (0.4, 1.5)
NOISE_RANGE = (0.0, 0.1)
COARSENESS_RANGE = (1.3, 3.5)
"""Pixels of a view for one of a coarser image."""
CHANCE = 0.35
"""Of each change to happen to a view."""
COARSE_CHANCE = 0.25
"""Of a view to be coarse."""


def vary_intensity(rng: np.random.Generator, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Give a view with other brightness.

    Parameters
    ----------
    rng
        Of this view; asked last, so that the geometry is the same without these changes.
    pixels
        float32 of shape (C, Y, X), percentiles brought to 0 and 1. All channels are changed alike,
        channels of zeros stay zero.
    labels
        int32 of shape (Y, X); some views get objects of different brightness.

    Returns
    -------
    float32 of shape (C, Y, X).
    """
    happens = rng.random(7) < np.array([CHANCE] * 6 + [COARSE_CHANCE])
    changed = pixels
    if happens[0]:
        gains = rng.uniform(*OBJECT_GAIN_RANGE, int(labels.max()) + 1).astype(np.float32)
        gains[0] = 1
        changed = changed * gaussian_filter(gains[labels], 1.0)
    if happens[1]:
        changed = changed * _slope(rng, labels.shape)
    if happens[2]:
        exponent = np.exp(rng.uniform(*np.log(GAMMA_RANGE)))
        changed = np.sign(changed) * np.abs(changed) ** np.float32(exponent)
    if happens[3]:
        changed = changed * np.float32(rng.uniform(*GAIN_RANGE))
        changed = changed + np.float32(rng.uniform(*OFFSET_RANGE))
    if happens[4]:
        changed = gaussian_filter(changed, rng.uniform(*BLUR_RANGE_PX), axes=(1, 2))
    if happens[5]:
        noise = rng.standard_normal(labels.shape, np.float32)
        changed = changed + np.float32(rng.uniform(*NOISE_RANGE)) * noise
    if happens[6]:
        changed = _coarsen(changed, rng.uniform(*COARSENESS_RANGE))
    used = pixels.any(axis=(1, 2), keepdims=True)
    return np.where(used, changed, np.float32(0)).astype(np.float32, copy=False)


def _slope(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Give illumination that falls off towards one side."""
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(*SLOPE_RANGE)
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    place = np.float32(np.sin(angle)) * y[:, np.newaxis] + np.float32(np.cos(angle)) * x
    return 1 - np.float32(depth) * (0.5 + 0.5 * place / np.float32(np.sqrt(2)))


def _coarsen(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Give what is left when an image has fewer pixels and is enlarged again."""
    channels, height, width = pixels.shape
    few = (channels, max(1, round(height / factor)), max(1, round(width / factor)))
    coarse = resize(pixels, few, order=1, anti_aliasing=True)  # type: ignore[no-untyped-call]
    fine = resize(coarse, pixels.shape, order=1, anti_aliasing=False)  # type: ignore[no-untyped-call]
    return np.asarray(fine)
