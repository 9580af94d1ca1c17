"""Objects of neighbouring planes of a stack, linked into 3-D objects by their overlap."""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.sparse import coo_array


def stitch_planes(labels: np.ndarray, threshold: float) -> np.ndarray:
    """Give a label image in which an object and those it goes on in have one id.

    Parameters and errors are those of `linked_ids`, which explains how planes are linked.

    Returns
    -------
    int32 of shape (Z, Y, X); ids 1 to n in the order of their first voxel (Z, then Y, then X).
    """
    labels = np.asarray(labels)
    return np.asarray(linked_ids(labels, threshold)[labels])


def linked_ids(labels: np.ndarray, threshold: float) -> np.ndarray:
    """Give for every id of a stack the id of the 3-D object that it belongs to.

    Parameters
    ----------
    labels
        int32 of shape (Z, Y, X), 0 is background, no id in two planes.
    threshold
        Above 0, at most 1: objects of neighbouring planes are linked where their IoU
        (intersection over union, in Y and X) exceeds it. Nothing exceeds 1.

    Returns
    -------
    int32 of shape (largest id + 1,): 1 to n in the order of the first voxels (Z, then Y, then
    X); 0 for ids that do not occur. A 3-D object has one id in each of its planes and no gap
    between them.

    Raises
    ------
    ValueError
        Another number of dimensions, a threshold out of range, or an id in two planes.

    Notes
    -----
    Stringer et al. 2021 link planes by IoU; Cellpose links an object to its best partner above
    only where it is that one's best partner too, at an IoU not below the threshold. Here the
    pairs of two neighbouring planes are taken best IoU first, each object once: where its best
    partner is taken, the next best counts, and two objects of a plane never become one. Of
    pairs with equal IoU the one whose upper object comes first in its plane (first pixel, Y then
    X) is taken first, then the one whose lower object does. So nothing depends on the ids given.

    Memory: at most 40 bytes per pixel of one plane and 50 bytes per id up to the largest.
    """
    if labels.ndim != 3:
        raise ValueError(
            f"`labels` has {labels.ndim} dimensions {labels.shape}; a stack has three, (Z, Y, X). "
            "Link each time point by itself."
        )
    if not 0 < threshold <= 1:
        raise ValueError(
            f"`threshold` is {threshold:g}; it must be above 0 and at most 1. To keep the planes "
            "apart, do not link them."
        )
    repeated, ranks, areas, ends = _rank(labels, int(labels.max(initial=0)))
    if repeated:
        raise ValueError(
            f"`labels` has the id {repeated} in two planes; each id may lie in one plane only. "
            "Let the ids of a plane go on from those of the plane before."
        )
    firsts = np.arange(areas.size)
    for z in range(len(labels) - 1):
        both = (labels[z] > 0) & (labels[z + 1] > 0)
        upper, lower = _link(
            ranks[labels[z][both]], ranks[labels[z + 1][both]], ends[z : z + 3], areas, threshold
        )
        firsts[lower] = firsts[upper]
    is_first = firsts == np.arange(areas.size)
    is_first[0] = False
    return np.asarray(np.cumsum(is_first, dtype=np.int32)[firsts][ranks])


def _link(
    upper: np.ndarray, lower: np.ndarray, ends: np.ndarray, areas: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give the ranks of the linked pairs of two planes.

    ``upper`` and ``lower`` are the ranks at the pixels where both planes have an object,
    ``ends`` the last ranks before the upper plane, in it and in the lower one.
    """
    first_upper, first_lower, stop_lower = (int(end) + 1 for end in ends)
    shape = (first_lower - first_upper, stop_lower - first_lower)
    ones = np.ones(upper.size, np.int32)
    # Through CSR the counts of equal pairs are summed, and pairs are sorted by upper, lower.
    shared = coo_array((ones, (upper - first_upper, lower - first_lower)), shape).tocsr().tocoo()
    above, below = shared.row + first_upper, shared.col + first_lower
    ious = shared.data / (areas[above] + areas[below] - shared.data)
    candidates = np.flatnonzero(ious > threshold)
    best_first = candidates[np.argsort(-ious[candidates], kind="stable")]
    chosen = best_first[_take_each_once(shared.row[best_first], shared.col[best_first])]
    return above[chosen], below[chosen]


@njit(cache=True, nogil=True)
def _rank(labels, largest):  # type: ignore[no-untyped-def]
    """Give the rank of every id, from 1 in the order of the first voxels, and what depends on it.

    Returns an id that lies in two planes (0: none), the ranks by id (0: does not occur), the
    areas by rank, and the last rank before the first plane and after each.
    """
    ranks = np.zeros(largest + 1, np.int32)
    areas = np.zeros(largest + 1, np.int64)
    ends = np.zeros(labels.shape[0] + 1, np.int64)
    count = 0
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = labels[z, y, x]
                if label <= 0:
                    continue
                if ranks[label] == 0:
                    count += 1
                    ranks[label] = count
                elif ranks[label] <= ends[z]:
                    return label, ranks, areas, ends
                areas[ranks[label]] += 1
        ends[z + 1] = count
    return 0, ranks, areas[: count + 1], ends


@njit(cache=True, nogil=True)
def _take_each_once(rows, columns):  # type: ignore[no-untyped-def]
    """Say which pairs are taken when they come in turn and none is taken twice; bool."""
    taken = np.zeros(len(rows), np.bool_)
    is_used_row = np.zeros(rows.max() + 1 if len(rows) else 0, np.bool_)
    is_used_column = np.zeros(columns.max() + 1 if len(rows) else 0, np.bool_)
    for pair in range(len(rows)):
        row, column = rows[pair], columns[pair]
        if not (is_used_row[row] or is_used_column[column]):
            taken[pair] = is_used_row[row] = is_used_column[column] = True
    return taken
