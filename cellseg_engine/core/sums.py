"""Sums over the pixels of objects, strip by strip, so that large images need no large arrays.

NumPy's ``bincount`` takes 16 bytes a pixel for its own copies. The strips depend on the shape
of the image alone, so a result never depends on how the image was processed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from cellseg_engine.core.labels import areas

STRIP_PIXELS = 4_000_000


def row_strips(shape: tuple[int, int]) -> Iterator[slice]:
    """Yield the rows of an image (Y, X) in strips of at most 4 million pixels, or one row."""
    height, width = shape
    step = max(1, STRIP_PIXELS // max(1, width))
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def mean_of_objects(labels: np.ndarray, values: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Give the mean of values in every object.

    Parameters
    ----------
    labels
        int32 of shape (Y, X), ids 1 to n, all of which occur.
    values
        Gives the values (rows, X) of a strip of rows.

    Returns
    -------
    float64 of shape (n,).
    """
    strips = row_strips((labels.shape[0], labels.shape[1]))
    return _means(labels, ((labels[strip], values(strip)) for strip in strips))


def mean_of_voxels(labels: np.ndarray, values: Callable[[int], np.ndarray]) -> np.ndarray:
    """Give the mean of values in every object of a volume, plane by plane.

    Parameters
    ----------
    labels
        int32 of shape (Z, Y, X), ids 1 to n.
    values
        Gives the values (Y, X) of a plane by its number.

    Returns
    -------
    float64 of shape (n,), NaN for ids that do not occur.
    """
    return _means(labels, ((plane, values(z)) for z, plane in enumerate(labels) if plane.any()))


def _means(labels: np.ndarray, parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Give the means from parts of the labels and their values."""
    sums = np.zeros(int(labels.max(initial=0)) + 1)
    for ids, values in parts:
        sums += np.bincount(ids.ravel(), np.asarray(values, np.float64).ravel(), sums.size)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[1:] / areas(labels)[1:])
