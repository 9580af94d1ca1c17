"""Intensities: percentile normalisation, and whether the background is bright."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

LARGE_PIXELS = 224**3
"""Above this size percentiles are taken from a regular sample of the pixels, as Cellpose 3 does."""


RESOLUTIONS = 4
"""A contrast of fewer steps of the floating-point numbers at hand than this is none."""


def normalize_percentiles(
    image: np.ndarray, low: float = 1.0, high: float = 99.0
) -> tuple[np.ndarray, np.ndarray]:
    """Give each channel scaled so that its low percentile is 0 and its high one is 1.

    Values outside are kept (no clipping). A channel whose two percentiles coincide becomes
    zero, so that an empty field gives no objects.

    Parameters
    ----------
    image
        ndarray of shape (C, Y, X), any real dtype, finite.
    low, high
        Percentiles, 0 to 100.

    Returns
    -------
    normalized
        float32 of shape (C, Y, X).
    has_contrast
        bool of shape (C,); False where the percentiles coincide.

    Notes
    -----
    Stringer et al. 2021, Methods ("1 and 99 percentiles corresponded to 0 and 1"). Cellpose 3
    also zeroes a channel of contrast below 0.001 grey levels, which erases real images that
    are scaled to 0-1; here only a contrast below the resolution of the arithmetic counts as
    none. Wide integers and float64 are shifted before they become float32, so that an offset
    does not swallow the contrast.
    """
    bounds = contrast_bounds(sample_pixels(image), low, high)
    return apply_bounds(image, bounds), bounds_have_contrast(bounds)


def sample_pixels(image: np.ndarray) -> np.ndarray:
    """Give what the percentiles of an image (C, Y, X) or volume (C, Z, Y, X) are taken from.

    All of it, or a regular sample along each axis.
    """
    if math.prod(image.shape[1:]) <= LARGE_PIXELS:
        return image
    every = (slice(None, None, max(1, n // 224)) for n in image.shape[1:])
    return np.asarray(image[:, *every])


def contrast_bounds(sample: np.ndarray, low: float = 1.0, high: float = 99.0) -> np.ndarray:
    """Give what becomes 0 and 1 in each channel, see `normalize_percentiles`.

    Parameters
    ----------
    sample
        Pixels of shape (C, y, x), see `sample_pixels`.

    Returns
    -------
    float64 of shape (C, 2); NaN where there is no contrast.
    """
    precise = _precise(sample.dtype)
    resolution = RESOLUTIONS * float(np.finfo(precise).eps)
    bounds = np.full((len(sample), 2), np.nan)
    for channel, plane in enumerate(sample):
        number = np.float64 if _exceeds_float32(plane) else precise
        bottom, top = (float(v) for v in np.percentile(plane.astype(number), (low, high)))
        if top - bottom > resolution * max(abs(bottom), abs(top)):
            bounds[channel] = bottom, top
    return bounds


def bounds_have_contrast(bounds: np.ndarray) -> np.ndarray:
    """Say for each channel whether `contrast_bounds` found contrast; bool of shape (C,)."""
    return np.asarray(~np.isnan(bounds[:, 0]))


def apply_bounds(image: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Give each channel of (C, Y, X) with its bounds at 0 and 1, or zero; float32."""
    precise = _precise(image.dtype)
    scaled = np.zeros(image.shape, np.float32)
    for channel in np.flatnonzero(bounds_have_contrast(bounds)):
        bottom, top = bounds[channel]
        number = np.float64 if top - bottom > np.finfo(np.float32).max else precise
        with np.errstate(over="ignore"):  # infinity, for the caller to see
            plane = image[channel].astype(number)
            plane -= number(bottom)
            plane /= number(top - bottom)
            scaled[channel] = plane
    return scaled


def _precise(dtype: np.dtype) -> type[np.float32] | type[np.float64]:
    """Give the type to calculate in."""
    return np.float64 if _is_wide(dtype) else np.float32


def _is_wide(dtype: np.dtype) -> bool:
    """Say whether float32 cannot hold all values of a dtype."""
    return dtype.itemsize > 2 and dtype != np.float32


def _exceeds_float32(plane: np.ndarray) -> bool:
    """Say whether float32 can hold all values of a plane, but not their differences."""
    if plane.dtype != np.float32:
        return False
    return float(plane.max()) - float(plane.min()) > float(np.finfo(np.float32).max)


TOO_BRIGHT = 10.0
"""Objects so many times as bright as what the percentiles show as 1 are missed (11 are found)."""
OUTLIER_SPREADS = 5.0
"""Pixels that lie this many times as far above the median as the background reaches stand out."""
_NEARER = 5.0
"""As far from the end as the high percentile, times this: the one that no object reaches."""
_FARTHER = 1.41
"""Distance from the median of the percentile 99, in those of 95, of a normal distribution."""


def outlier_limit(values: np.ndarray, low: float = 1.0, high: float = 99.0) -> float:
    """Give the value above which pixels stand out of what the percentiles show.

    Where objects cover less of an image than is above the high percentile, that percentile is
    one of the background: its noise becomes as large as 1, and the objects many times as bright.
    Pixels stand out that lie several times as far above its median as it reaches. Where the high
    percentile is one of the blurred edges of objects, those do that are `TOO_BRIGHT` times as
    bright.

    Parameters
    ----------
    values
        Pixels of one channel, any shape.
    low, high
        Percentiles, 0 to 100.
    """
    return _measure_background(values, low, high)[1]


def background_end(values: np.ndarray, low: float = 1.0, high: float = 99.0) -> float:
    """Give the value up to which the background reaches; parameters as of `outlier_limit`."""
    return _measure_background(values, low, high)[0]


def _measure_background(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Give where the background of few objects ends, and where pixels stand out.

    It reaches as far above its median as the low percentile lies below, or, since backgrounds can
    be skewed, as a percentile on the other side says that is too near for the blurred edges of
    a few objects; and to the high percentile, if that is one of the background.
    """
    near = max(50.0, 100 - _NEARER * (100 - high))
    bottom, median, upper, top = (float(v) for v in np.percentile(values, (low, 50, near, high)))
    reach = max(median - bottom, _FARTHER * (upper - median))
    limit = median + OUTLIER_SPREADS * reach
    if top > limit:
        return median + reach, bottom + TOO_BRIGHT * (top - bottom)
    return max(median + reach, top), limit


def invert_intensities(normalized: np.ndarray, has_contrast: np.ndarray) -> np.ndarray:
    """Give ``1 - x`` for the channels that have contrast; shape (C, Y, X), float32."""
    inverted = normalized.copy()
    inverted[has_contrast] = 1 - inverted[has_contrast]
    return inverted


BRIGHT_BACKGROUND = 0.6
"""Normalised intensity above which a background counts as bright.

On 516 training images it tells all 389 fluorescence, 35 phase-contrast and 13 bright-field
images and 77 of 79 stained tissues rightly; see docs/decisions.
"""


def has_bright_background(plane: np.ndarray) -> bool:
    """Say whether the objects are dark on a bright background.

    The background is taken to be the flattest third of the smoothed image (smallest
    gradient). Both its median and the median of the whole image must be bright.

    Parameters
    ----------
    plane
        float32 of shape (Y, X), percentile-normalised.
    """
    smooth = ndimage.gaussian_filter(plane, 2.0)
    if float(np.median(smooth)) <= BRIGHT_BACKGROUND:
        return False  # the gradient would take most of the time
    gradient = ndimage.gaussian_gradient_magnitude(plane, 2.0)
    flat = gradient <= np.percentile(gradient, 100 / 3)
    return float(np.median(smooth[flat])) > BRIGHT_BACKGROUND
