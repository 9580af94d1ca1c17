"""A rectangle of an image in which every object is annotated; the rest is not annotated.

So a crowded image need not be annotated whole, and a model still sees what lies around: the
contrast of the whole image, neighbours, and objects that the rectangle would have cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellseg_engine.core.labels import NOT_ANNOTATED, areas
from cellseg_engine.core.overlaps import Region
from cellseg_engine.train.faults import TrainingDataError


@dataclass(frozen=True)
class Part:
    """A rectangle, in pixels of the image."""

    left: int
    top: int
    width: int
    height: int

    def within(self, shape: tuple[int, ...], title: str) -> Part:
        """Give what of it lies in an image of shape (..., Y, X).

        Raises
        ------
        TrainingDataError
            Nothing does.
        """
        left, top = max(0, self.left), max(0, self.top)
        right = min(shape[-1], self.left + self.width)
        bottom = min(shape[-2], self.top + self.height)
        if left >= right or top >= bottom:
            raise TrainingDataError(
                f"The rectangle of {self.width} x {self.height} px at x = {self.left}, "
                f"y = {self.top} lies outside {title}, which is {shape[-1]} x {shape[-2]} px.",
                hint="Draw it around the objects that you corrected.",
            )
        return Part(left, top, right - left, bottom - top)

    @property
    def window(self) -> tuple[slice, slice]:
        """Give its rows and columns."""
        rows = slice(self.top, self.top + self.height)
        return rows, slice(self.left, self.left + self.width)

    def touches(self, region: Region) -> bool:
        """Say whether an object has a pixel in it."""
        starts = (self.top - region.top, self.left - region.left)
        sides = (self.height, self.width)
        rows, columns = (
            slice(max(0, start), max(0, start + side))
            for start, side in zip(starts, sides, strict=True)
        )
        return bool(region.mask[rows, columns].any())


def mark_part(labels: np.ndarray, part: Part, title: str) -> tuple[np.ndarray, int]:
    """Give labels that are `NOT_ANNOTATED` outside a part, but for its objects.

    Objects with a pixel in the part stay whole; the others are left out.

    Parameters
    ----------
    labels
        int32 of shape (Y, X).

    Returns
    -------
    labels
        int32 of shape (Y, X), with the ids of the objects that stay.
    n_left_out
        Objects outside the part.

    Raises
    ------
    TrainingDataError
        No object has a pixel in the part.
    """
    counts = areas(labels)
    is_there = np.bincount(labels[part.window].ravel(), minlength=counts.size) > 0
    is_there[0] = False
    if not is_there.any():
        raise TrainingDataError(
            f"None of the ROIs reaches into the rectangle that was selected in {title}.",
            hint="Draw it around the objects that you corrected.",
        )
    marked = np.full_like(labels, NOT_ANNOTATED)
    marked[part.window] = 0
    stays = is_there[labels]
    marked[stays] = labels[stays]
    return marked, int(np.count_nonzero(counts)) - int(np.count_nonzero(is_there))
