"""Objects of successive sections (planes of a stack, frames of a movie) chained by overlap."""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.sparse import coo_array


def chain_ids(sections: np.ndarray, threshold: float, max_gap: int = 0) -> np.ndarray:
    """Give for every id the id of the chain of objects that it belongs to.

    An object of a section continues an earlier one where their IoU (intersection over union)
    exceeds the threshold. For each section in turn the objects of the section before come
    first; then, for what has no predecessor yet, objects two sections before that nothing
    continues, and so on over at most ``max_gap`` sections without the object.

    The pairs of two sections are taken best IoU first, each object once: where its best partner
    is taken, the next best counts, and two objects of a section never become one. Of pairs with
    equal IoU the one whose earlier object comes first in its section (first pixel, row by row)
    is taken first, then the one whose later object does. So nothing depends on the ids given.

    Parameters
    ----------
    sections
        int32 of shape (n, Y, X), 0 is background, no id in two sections.
    threshold
        Above 0, at most 1. Nothing exceeds 1.
    max_gap
        Sections that an object may be missing in, at least 0.

    Returns
    -------
    int32 of shape (largest id + 1,): 1 to the number of chains in the order of the first pixels
    (section, then Y, then X); 0 for ids that do not occur.

    Raises
    ------
    ValueError
        The threshold is out of range, or an id lies in two sections.

    Notes
    -----
    Memory: at most 40 bytes per pixel of one section and 60 bytes per id up to the largest.
    """
    if not 0 < threshold <= 1:
        raise ValueError(
            f"`threshold` is {threshold:g}; it must be above 0 and at most 1. To keep the planes "
            "apart, do not link them."
        )
    repeated, ranks, areas, ends = _rank(sections, int(sections.max(initial=0)))
    if repeated:
        raise ValueError(
            f"`labels` has the id {repeated} in two planes; each id may lie in one plane only. "
            "Let the ids of a plane go on from those of the plane before."
        )
    firsts = np.arange(areas.size)
    is_continued, continues = np.zeros(areas.size, bool), np.zeros(areas.size, bool)
    for later in range(1, len(sections)):
        for earlier in range(later - 1, max(later - max_gap - 2, -1), -1):
            both = (sections[earlier] > 0) & (sections[later] > 0)
            upper, lower = ranks[sections[earlier][both]], ranks[sections[later][both]]
            if earlier < later - 1:
                is_free = ~is_continued[upper] & ~continues[lower]
                upper, lower = upper[is_free], lower[is_free]
            bounds = (int(ends[earlier]) + 1, int(ends[later]) + 1, int(ends[later + 1]) + 1)
            upper, lower = _link(upper, lower, bounds, int(ends[earlier + 1]), areas, threshold)
            firsts[lower] = firsts[upper]
            is_continued[upper] = continues[lower] = True
    is_first = ~continues
    is_first[0] = False
    return np.asarray(np.cumsum(is_first, dtype=np.int32)[firsts][ranks])


def _link(
    upper: np.ndarray,
    lower: np.ndarray,
    bounds: tuple[int, int, int],
    last_upper: int,
    areas: np.ndarray,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the ranks of the linked pairs of two sections.

    ``upper`` and ``lower`` are the ranks at the pixels where both sections have an object that
    may be linked; ``bounds`` the first rank of the earlier section, of the later one, and the
    one behind that.
    """
    first_upper, first_lower, stop_lower = bounds
    shape = (last_upper + 1 - first_upper, stop_lower - first_lower)
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
def _rank(sections, largest):  # type: ignore[no-untyped-def]
    """Give the rank of every id, from 1 in the order of the first pixels, and what depends on it.

    Returns an id that lies in two sections (0: none), the ranks by id (0: does not occur), the
    areas by rank, and the last rank before the first section and after each.
    """
    ranks = np.zeros(largest + 1, np.int32)
    areas = np.zeros(largest + 1, np.int64)
    ends = np.zeros(sections.shape[0] + 1, np.int64)
    count = 0
    for z in range(sections.shape[0]):
        for y in range(sections.shape[1]):
            for x in range(sections.shape[2]):
                label = sections[z, y, x]
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
