"""Outlines of objects: their rim pixels, and the closed loops along pixel edges.

Loops run through pixel corners: corner (y, x) is the upper left one of pixel (y, x), which is
the point (y - 0.5, x - 0.5) where pixel centres are whole numbers.
"""

from __future__ import annotations

import numpy as np
from numba import njit


def outline_mask(labels: np.ndarray) -> np.ndarray:
    """Give the pixels of objects that touch another object or background.

    Parameters
    ----------
    labels
        int of shape (Y, X), 0 is background.

    Returns
    -------
    bool of shape (Y, X). Touching is one of the four neighbours; the border of the image does
    not count as a neighbour.
    """
    rim = np.zeros(labels.shape, bool)
    differs = labels[1:] != labels[:-1]
    rim[1:] |= differs
    rim[:-1] |= differs
    differs = labels[:, 1:] != labels[:, :-1]
    rim[:, 1:] |= differs
    rim[:, :-1] |= differs
    rim &= labels != 0
    return rim


def trace_outlines(labels: np.ndarray, *, connectivity: int = 2) -> dict[int, list[np.ndarray]]:
    """Give the loops around every object, along the edges of its pixels.

    Filling all loops of an object by the even-odd or the non-zero rule gives exactly its pixels.

    Parameters
    ----------
    labels
        int of shape (Y, X), 0 is background; ids need not be sequential nor objects connected.
    connectivity
        2: pixels that touch by a corner belong to one outer loop, which may pass that corner
        twice, and holes are 4-connected. 1: they belong to two outer loops unless edges join
        them elsewhere, and holes are 8-connected.

    Returns
    -------
    dict of label (ascending) to its loops, each int32 of shape (n, 2): corners (y, x) where the
    loop turns, without the first one again at the end. An outer loop is clockwise on the screen
    (the object lies to the right of the way), a hole counter-clockwise; see `signed_area`. Loops
    come in the raster order of their topmost edge, so the first is an outer one.
    """
    corners, ends, owners = _trace(_as_int32(labels), connectivity == 2)
    order = np.argsort(owners, kind="stable")
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    outlines: dict[int, list[np.ndarray]] = {}
    for label, start, end in zip(
        owners[order].tolist(), starts[order].tolist(), ends[order].tolist(), strict=True
    ):
        outlines.setdefault(label, []).append(corners[start:end])
    return outlines


def signed_area(loop: np.ndarray) -> float:
    """Give the area inside a loop in pixels: positive for an outer loop, negative for a hole.

    Parameters
    ----------
    loop
        int of shape (n, 2), corners (y, x) as of `trace_outlines`.
    """
    y, x = loop.astype(np.int64).T
    twice = np.dot(x[:-1], y[1:]) - np.dot(y[:-1], x[1:]) + x[-1] * y[0] - y[-1] * x[0]
    return float(twice) / 2


def split_at_pinches(loop: np.ndarray) -> list[np.ndarray]:
    """Split a loop that passes a corner twice into loops that pass each corner once.

    What is inside stays the same; geometry libraries call only such loops valid rings.

    Parameters
    ----------
    loop
        int of shape (n, 2), corners (y, x) as of `trace_outlines`.
    """
    rows = [tuple(corner) for corner in loop.tolist()]
    if len(set(rows)) == len(rows):
        return [loop]
    pieces: list[np.ndarray] = []
    path: list[tuple[int, ...]] = []
    place: dict[tuple[int, ...], int] = {}
    for corner in rows:
        if corner in place:
            first = place[corner]
            pieces.append(np.array(path[first:], loop.dtype))
            for dropped in path[first + 1 :]:
                del place[dropped]
            del path[first + 1 :]
        else:
            place[corner] = len(path)
            path.append(corner)
    return [*pieces, np.array(path, loop.dtype)]


def _as_int32(labels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(labels, np.int32)


@njit(cache=True, nogil=True)
def _trace(labels, join):  # type: ignore[no-untyped-def]
    """Give corners (n, 2), the end of each loop among them, and each loop's label.

    Every loop has an edge that is the top of one of the object's pixels and is walked to the
    right, so one pass over the tops finds all.
    """
    height, width = labels.shape
    seen = np.zeros((height, width), np.bool_)
    tops = np.empty(width, np.int32)
    corners = np.empty((1024, 2), np.int32)
    count = 0
    ends = []
    owners = []
    for y in range(height):
        for index in range(_find_tops(labels, y, tops)):
            x = tops[index]
            if seen[y, x]:
                continue
            corners, count = _walk(labels, join, seen, y, x, corners, count)
            ends.append(count)
            owners.append(labels[y, x])
    n_loops = len(ends)
    ends_array = np.empty(n_loops, np.int64)
    owners_array = np.empty(n_loops, np.int64)
    for index in range(n_loops):
        ends_array[index] = ends[index]
        owners_array[index] = owners[index]
    return corners[:count].copy(), ends_array, owners_array


@njit(cache=True, nogil=True)
def _find_tops(labels, y, tops):  # type: ignore[no-untyped-def]
    """Write where pixels of a row have their object's edge above, and give how many there are.

    Most rows of most images are empty: that is seen first, with a sum the compiler vectorises.
    """
    row = labels[y]
    n_labelled = 0
    for x in range(row.size):
        n_labelled += row[x] != 0
    count = 0
    if n_labelled == 0:
        return count
    for x in range(row.size):
        tops[count] = x  # not more than x, so it always has a place
        count += (row[x] != 0) & (y == 0 or row[x] != labels[y - 1, x])
    return count


@njit(cache=True, nogil=True)
def _walk(labels, join, seen, first_y, first_x, corners, count):  # type: ignore[no-untyped-def]
    """Follow one loop from the top edge of a pixel and append the corners where it turns.

    The walker keeps the object to its right. Where it meets two diagonal pixels it turns left,
    to the one across the corner, if that shall join them, else right.
    """
    label = labels[first_y, first_x]
    y, x = first_y, first_x
    step_y, step_x = 0, 1
    while True:
        if step_x == 1:
            seen[y, x] = True
        y += step_y
        x += step_x
        turn = _turn(labels, join, label, y, x, step_y, step_x)
        if turn != 0:
            if count == len(corners):
                longer = np.empty((2 * count, 2), np.int32)
                longer[:count] = corners
                corners = longer
            corners[count, 0] = y
            corners[count, 1] = x
            count += 1
            step_y, step_x = turn * step_x, -turn * step_y
        if step_x == 1 and y == first_y and x == first_x:
            return corners, count


@njit(cache=True, nogil=True)
def _turn(labels, join, label, y, x, step_y, step_x):  # type: ignore[no-untyped-def]
    """Give 1 to turn right at corner (y, x), -1 to turn left, 0 to go straight on.

    What counts are the two pixels ahead, left and right of the way, and with a left one only
    whether to join it.
    """
    left_y = y + (step_y - 1 - step_x) // 2
    left_x = x + (step_x - 1 + step_y) // 2
    right_y = y + (step_y - 1 + step_x) // 2
    right_x = x + (step_x - 1 - step_y) // 2
    is_right = _is_label(labels, label, right_y, right_x)
    if (is_right or join) and _is_label(labels, label, left_y, left_x):
        return -1
    return 0 if is_right else 1


@njit(cache=True, nogil=True)
def _is_label(labels, label, y, x):  # type: ignore[no-untyped-def]
    inside = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
    return inside and labels[y, x] == label
