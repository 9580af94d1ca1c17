"""Drawn pictures that show no cells: their styles tell strange images from microscopy.

Photographs show things of all sizes that cover each other, and have the statistics of pictures
drawn so: Lee, Mumford and Huang 2001, "Occlusion models for natural images: a statistical study of
a scale-invariant dead leaves model" (International Journal of Computer Vision 41, 35-59). Others
show the noise of a camera, and nothing else.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SIDE_PX = 256
MAX_LEAVES = 20_000
"""By then next to nothing is left to cover."""
NOISE = 0.01
NOISE_EVERY = 4
"""One of so many pictures is of noise."""


def draw_strange(number: int) -> np.ndarray:
    """Draw a picture without cells, always the same for a number: uint8 of shape (256, 256)."""
    rng = np.random.default_rng(number)
    return draw_noise(rng) if number % NOISE_EVERY == 0 else draw_dead_leaves(rng)


def draw_noise(rng: np.random.Generator) -> np.ndarray:
    """Draw shot noise of 1 to 1000 electrons in a pixel, every other time blurred.

    Returns
    -------
    uint8 of shape (256, 256), 24 grey values to a standard deviation.
    """
    noise = rng.poisson(10 ** rng.uniform(0, 3), (SIDE_PX, SIDE_PX)).astype(np.float64)
    if rng.integers(2):
        noise = ndimage.gaussian_filter(noise, rng.uniform(0.3, 1.5))
    noise -= noise.mean()
    return np.asarray(np.clip(128 + 24 * noise / noise.std(), 0, 255), np.uint8)


def draw_dead_leaves(rng: np.random.Generator) -> np.ndarray:
    """Draw a picture of shaded, rough ellipses and rectangles, the first ones in front.

    Numbers of shapes fall with the cube of their size, so the picture looks alike at all scales
    (Lee et al. 2001, equation 1); smallest size, contrast, roughness, shading and blur are drawn
    anew for every picture.

    Returns
    -------
    uint8 of shape (256, 256).
    """
    smallest = 2.0 ** rng.uniform(1, 7)
    largest = max(2 * smallest, SIDE_PX * rng.uniform(0.3, 1.5))
    contrast, shading = rng.uniform(0.08, 0.3), rng.uniform(0, 0.5)
    roughness, surface = rng.uniform(0, 0.5) ** 2, _rough_surface(rng, rng.uniform(0.8, 1.6))
    blur = 2.0 ** rng.uniform(-1.5, 1)
    image = np.zeros((SIDE_PX, SIDE_PX))
    is_free = np.ones((SIDE_PX, SIDE_PX), bool)
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    for _ in range(MAX_LEAVES):
        share = rng.uniform()
        radius = (share * largest**-2 + (1 - share) * smallest**-2) ** -0.5
        centre = rng.uniform(-radius, SIDE_PX + radius, 2)
        window = tuple(
            slice(max(0, int(at - radius)), max(0, min(SIDE_PX, int(at + radius) + 1)))
            for at in centre
        )
        angle, flatness = rng.uniform(0, np.pi), rng.uniform(0.3, 1)
        down, right = rows[window] - centre[0], columns[window] - centre[1]
        along = (right * np.cos(angle) + down * np.sin(angle)) / radius
        across = (down * np.cos(angle) - right * np.sin(angle)) / (radius * flatness)
        is_round = rng.integers(2)
        is_inside = (
            along**2 + across**2 < 1
            if is_round
            else np.maximum(np.abs(along), np.abs(across)) < np.sqrt(0.5)
        )
        seen = is_inside & is_free[window]
        grey = 0.5 + contrast * rng.normal()
        slopes = shading * rng.normal(size=2)
        shift = tuple(rng.integers(0, SIDE_PX, 2))
        rough = roughness * rng.uniform(0, 2) * np.roll(surface, shift, (0, 1))[window]
        image[window][seen] = (grey + slopes[0] * along + slopes[1] * across + rough)[seen]
        is_free[window][seen] = False
        if not is_free.any():
            break
    image = ndimage.gaussian_filter(image, blur) + NOISE * rng.normal(size=image.shape)
    return np.asarray(np.clip(image, 0, 1) * 255, np.uint8)


def _rough_surface(rng: np.random.Generator, power: float) -> np.ndarray:
    """Give noise whose amplitude falls with a power of the frequency, of standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(SIDE_PX)[:, None], np.fft.rfftfreq(SIDE_PX))
    frequency[0, 0] = np.inf
    waves = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    surface = np.fft.irfft2(waves / frequency**power, (SIDE_PX, SIDE_PX))
    return np.asarray(surface / surface.std())
