"""Label images: boxes, holes, sizes, edges, renumbering and a table of objects.

A label image is int32, 0 is background, each positive id one object.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy import ndimage


def bounding_boxes(labels: np.ndarray) -> np.ndarray:
    """Give the bounding box of every id.

    Parameters
    ----------
    labels
        int32 of shape (Y, X).

    Returns
    -------
    int64 of shape (largest id + 1, 4): y start, y stop, x start, x stop; all zero for ids that
    do not occur (0 among them).
    """
    return np.asarray(_boxes(labels, int(labels.max(initial=0))))


@njit(cache=True)
def _boxes(labels, largest):  # type: ignore[no-untyped-def]
    boxes = np.zeros((largest + 1, 4), np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0:
                box = boxes[label]
                if box[1] == 0:
                    box[0], box[1], box[2], box[3] = y, y + 1, x, x + 1
                else:
                    box[1] = y + 1
                    box[2] = min(box[2], x)
                    box[3] = max(box[3], x + 1)
    return boxes


def keep_labels(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Keep some objects and number them 1, 2, ... in the order of their ids.

    Parameters
    ----------
    labels
        int32 of any shape, ids up to n.
    keep
        bool of shape (n + 1,); entry 0 is ignored.

    Returns
    -------
    int32 of the same shape.
    """
    keep = keep.copy()
    keep[0] = False
    new_ids = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return np.asarray(new_ids[labels])


def areas(labels: np.ndarray) -> np.ndarray:
    """Give the pixel count of every id; int64 of shape (largest id + 1,), entry 0 set to 0."""
    counts = np.bincount(labels.ravel(), minlength=1)
    counts[0] = 0
    return counts


def fill_holes(labels: np.ndarray) -> np.ndarray:
    """Fill the holes of each object.

    Only background pixels are filled: an object that lies inside another one's hole stays.
    Holes are background pixels that 4-connected paths cannot lead out of the object.

    Parameters
    ----------
    labels
        int32 of shape (Y, X).
    """
    filled = labels.copy()
    boxes = bounding_boxes(labels)
    enclosed = ndimage.binary_fill_holes(labels > 0) & (labels == 0)
    if not enclosed.any():
        return filled
    for label in np.flatnonzero(boxes[:, 1]):
        y0, y1, x0, x1 = boxes[label]
        window = np.s_[y0:y1, x0:x1]
        if enclosed[window].any():
            mask = ndimage.binary_fill_holes(labels[window] == label)
            filled[window][mask & (labels[window] == 0)] = label
    return filled


def touches_edge(labels: np.ndarray) -> np.ndarray:
    """Say for every id whether it touches the border of the image (Y, X); bool (ids + 1,)."""
    touching = np.zeros(int(labels.max(initial=0)) + 1, bool)
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touching[border] = True
    touching[0] = False
    return touching


def median_diameter(labels: np.ndarray) -> float:
    """Give the diameter, in px, of a disk whose area has the median square root; 0 if empty.

    Stringer et al. 2021: the size of an image is the median object size, as the diameter of
    a disk of equal area.
    """
    counts = areas(labels)
    present = counts[counts > 0]
    if present.size == 0:
        return 0.0
    return float(np.median(np.sqrt(present)) * 2 / np.sqrt(np.pi))


def centroids(labels: np.ndarray) -> np.ndarray:
    """Give the mean (y, x) of every id in px; float64 (largest id + 1, 2), NaN if absent."""
    flat = labels.ravel()
    counts = np.bincount(flat, minlength=1).astype(float)
    rows, columns = np.indices(labels.shape)
    sums = np.stack([np.bincount(flat, axis.ravel(), counts.size) for axis in (rows, columns)], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: np.ndarray = sums / counts[:, None]
    return means


def mean_inside(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give the mean of ``values`` in every id; float64 (largest id + 1,), NaN if absent."""
    flat = labels.ravel()
    counts = np.bincount(flat, minlength=1)
    sums = np.bincount(flat, values.ravel().astype(np.float64), counts.size)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: np.ndarray = sums / counts
    return means
