"""Images that give their rows when asked, so that a large one is never there as a whole."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cellseg_engine.core.resize import interpolate, neighbours


class Rows(Protocol):
    """An image of which rows can be had.

    Attributes
    ----------
    shape
        (C, Y, X).
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """Give (C, Y, X)."""
        ...

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Give the rows from ``start`` to before ``stop``; float32 of shape (C, n, X)."""
        ...


class ArrayRows:
    """The rows of an array of shape (C, Y, X)."""

    def __init__(self, image: np.ndarray) -> None:
        self._image = image
        self.shape = (int(image.shape[0]), int(image.shape[1]), int(image.shape[2]))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Give the rows from ``start`` to before ``stop``; float32, a view where possible."""
        return self._image[:, start:stop].astype(np.float32, copy=False)


class ScaledRows:
    """The rows of an image resized as by `cellseg_engine.core.resize.resize_bilinear`.

    Parameters
    ----------
    image
        The image.
    shape
        Its new (Y, X), each at least 1.
    """

    def __init__(self, image: Rows, shape: tuple[int, int]) -> None:
        self._image = image
        self.shape = (image.shape[0], *shape)
        self._y = neighbours(image.shape[1], shape[0])
        self._x = neighbours(image.shape[2], shape[1])

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Give the rows from ``start`` to before ``stop``; float32 of shape (C, n, X)."""
        lower, upper, weight = (part[start:stop] for part in self._y)
        first = int(lower[0])
        near = self._image.rows(first, int(upper[-1]) + 1)
        return interpolate(near, (lower - first, upper - first, weight), self._x)


def as_rows(image: np.ndarray | Rows) -> Rows:
    """Give an array of shape (C, Y, X) as rows; rows are given back."""
    return ArrayRows(image) if isinstance(image, np.ndarray) else image


def scale_rows(image: np.ndarray | Rows, shape: tuple[int, int]) -> Rows:
    """Give an image resized to (Y, X), or the image itself if that is its shape."""
    rows = as_rows(image)
    return rows if rows.shape[1:] == tuple(shape) else ScaledRows(rows, shape)
