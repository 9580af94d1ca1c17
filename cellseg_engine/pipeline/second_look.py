"""A second look at images with next to no objects, whose percentiles show nothing but background.

Percentiles 1 and 99 (Stringer et al. 2021) are those of the background where objects cover less
than 1 % of an image: a network then sees its noise as large as 1, and objects many times as
bright, which it misses. Pixels that stand out and lie in no object give this away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cellseg_engine.core.axes import PlaneStack
from cellseg_engine.core.normalize import outlier_limit, sample_pixels
from cellseg_engine.pipeline.prepare import Preparation, choose_channels
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.settings import Settings

MAX_COVERED = 0.02
"""Of an image by its objects; with more it is none with next to no objects."""
MIN_OUTLIERS = 15
"""Fewer pixels than the smallest object has are dust."""
ENOUGH_EXPLAINED = 0.5
"""Of the pixels that stand out, inside of objects."""
_PERCENTILES = ("percentile_low", "percentile_high")


@dataclass(frozen=True)
class Outliers:
    """The pixels that stand out of the background of an image.

    Attributes
    ----------
    places
        For each plane the indices of these pixels in its flattened sample.
    percentile
        The lowest, over planes, of those that are the median of these pixels.
    """

    places: tuple[np.ndarray, ...]
    percentile: float

    def explained(self, labels: np.ndarray) -> float:
        """Give the part of them that lies in objects, 0 to 1; 1 where nothing stands out.

        Parameters
        ----------
        labels
            Of the planes, int32 of shape (..., Y, X).
        """
        planes = labels.reshape(-1, 1, *labels.shape[-2:])
        inside = [
            np.count_nonzero(sample_pixels(plane).ravel()[where])
            for plane, where in zip(planes, self.places, strict=True)
            if where.size
        ]
        count = sum(where.size for where in self.places)
        return sum(inside) / count if count else 1.0


@dataclass(frozen=True)
class SecondLook:
    """How to look at an image again, and what is hoped to be found.

    Attributes
    ----------
    preparation
        With the percentiles that show what stands out.
    """

    preparation: Preparation
    outliers: Outliers

    def choose(self, first: Segmentation, second: Segmentation) -> Segmentation:
        """Give the result that has more of what stands out in its objects.

        The second says that it is one.
        """
        explained = self.outliers.explained
        if explained(second.labels) <= explained(first.labels):
            return first
        used = {name: getattr(second.settings, name) for name in _PERCENTILES}
        first_ones = " and ".join(f"{getattr(first.settings, name):g}" for name in _PERCENTILES)
        warning = (
            f"The few bright pixels lie outside the percentiles {first_ones} and were not found "
            f"with them, so the image was looked at again with {used['percentile_low']:.6g} and "
            f"{used['percentile_high']:.6g}."
        )
        return replace(
            second,
            settings=first.settings,
            provenance={**second.provenance, "second_look": used},
            warnings=(warning, *second.warnings),
        )


def plan_second_look(
    stack: PlaneStack, preparation: Preparation, found: Segmentation
) -> SecondLook | None:
    """Decide whether to look at an image again, and with which percentiles.

    Only after the default ones: others are taken literally.

    Returns
    -------
    With the high percentile (of a bright background: the low one) that shows what stands out; or
    None, where nothing does or it was found.
    """
    settings = preparation.settings
    fields = Settings.model_fields
    if any(getattr(settings, name) != fields[name].default for name in _PERCENTILES):
        return None
    if np.count_nonzero(found.labels) > MAX_COVERED * found.labels.size:
        return None
    outliers = find_outliers(stack, preparation)
    if not any(where.size for where in outliers.places) and settings.invert == "auto":
        # a background without objects to compare it with is not told to be bright
        preparation = replace(preparation, invert=not preparation.invert)
        outliers = find_outliers(stack, preparation)
    if outliers.explained(found.labels) >= ENOUGH_EXPLAINED:
        return None
    name, value = "percentile_high", outliers.percentile
    if preparation.invert:
        name, value = "percentile_low", 100 - outliers.percentile
    again = replace(preparation, settings=settings.model_copy(update={name: value}))
    return SecondLook(again, outliers)


def find_outliers(stack: PlaneStack, preparation: Preparation) -> Outliers:
    """Find the pixels that stand out where the percentiles do not show them."""
    settings = preparation.settings
    low, high = settings.percentile_low, settings.percentile_high
    if preparation.invert:
        low, high = 100 - high, 100 - low
    places, percentile = [], 100.0
    for plane in stack.planes():
        values = choose_channels(sample_pixels(plane), preparation)[0].astype(np.float64)
        if preparation.invert:
            values *= -1
        where = np.flatnonzero(values > outlier_limit(values, low, high))
        if where.size < MIN_OUTLIERS:
            where = where[:0]
        else:
            percentile = min(percentile, 100 * (1 - where.size / (2 * values.size)))
        places.append(where)
    return Outliers(tuple(places), percentile)
