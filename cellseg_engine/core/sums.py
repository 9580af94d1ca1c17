"""Sums over the pixels of objects, strip by strip, so that large images need no large arrays.

NumPy's ``bincount`` takes 16 bytes a pixel for its own copies. The strips depend on the shape
of the image alone, so a result never depends on how the image was processed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

STRIP_PIXELS = 4_000_000


def row_strips(shape: tuple[int, int]) -> Iterator[slice]:
    """Yield the rows of an image (Y, X) in strips of at most 4 million pixels, or one row."""
    height, width = shape
    step = max(1, STRIP_PIXELS // max(1, width))
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def count_pixels(labels: np.ndarray) -> np.ndarray:
    """Give the pixel count of every id of labels (Y, X); int64 (largest id + 1,), entry 0 is 0."""
    counts = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    for strip in row_strips((labels.shape[0], labels.shape[1])):
        counts += np.bincount(labels[strip].ravel(), minlength=counts.size)
    counts[0] = 0
    return counts


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
    sums = np.zeros(int(labels.max(initial=0)) + 1)
    for strip in row_strips((labels.shape[0], labels.shape[1])):
        weights = np.asarray(values(strip), np.float64).ravel()
        sums += np.bincount(labels[strip].ravel(), weights, sums.size)
    return np.asarray(sums[1:] / count_pixels(labels)[1:])


def centres_of_objects(labels: np.ndarray) -> np.ndarray:
    """Give the mean (y, x) in px of every object; float64 (n, 2), ids 1 to n all occur."""
    width = labels.shape[1]

    def rows(strip: slice) -> np.ndarray:
        return np.repeat(np.arange(strip.start, strip.stop), width)

    def columns(strip: slice) -> np.ndarray:
        return np.tile(np.arange(width), strip.stop - strip.start)

    return np.stack([mean_of_objects(labels, rows), mean_of_objects(labels, columns)], axis=1)
