"""Label images: boxes, holes, sizes, edges, renumbering and a table of objects.

A label image is int32, 0 is background, each positive id one object; in a true one
`NOT_ANNOTATED` may stand where nothing is known.
"""

from __future__ import annotations

import numpy as np
from numba import njit

NOT_ANNOTATED = -1
"""In a label image: nobody has said what is there. StarDist has the same sign for it."""


def bounding_boxes(labels: np.ndarray) -> np.ndarray:
    """Give the bounding box of every id.

    Parameters
    ----------
    labels
        int32 of shape (Y, X) or (Z, Y, X).

    Returns
    -------
    int64 of shape (largest id + 1, 4): y start, y stop, x start, x stop; of a volume (..., 6),
    with z first. All zero for ids that do not occur (0 among them).
    """
    boxes = _boxes(_as_volume(labels), int(labels.max(initial=0)))
    return np.ascontiguousarray(boxes[:, 6 - 2 * labels.ndim :])


def _as_volume(labels: np.ndarray) -> np.ndarray:
    """Give a plane as a volume of one plane, and a volume as it is."""
    return labels.reshape((1, *labels.shape)[-3:])


@njit(cache=True, nogil=True)
def _boxes(labels, largest):  # type: ignore[no-untyped-def]
    boxes = np.zeros((largest + 1, 6), np.int64)
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = labels[z, y, x]
                if label > 0:
                    box = boxes[label]
                    if box[1] == 0:
                        box[0], box[2], box[3], box[4], box[5] = z, y, y + 1, x, x + 1
                    else:
                        box[2], box[3] = min(box[2], y), max(box[3], y + 1)
                        box[4], box[5] = min(box[4], x), max(box[5], x + 1)
                    box[1] = z + 1
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
    if keep[1:].all():
        return labels.astype(np.int32)
    keep = keep.copy()
    keep[0] = False
    new_ids = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return np.asarray(new_ids[labels])


def keep_annotated(labels: np.ndarray, annotated: np.ndarray | None) -> np.ndarray:
    """Give the found objects of which at least half lies where the truth is known.

    Parameters
    ----------
    labels
        int32 of any shape, any ids.
    annotated
        bool of the same shape; None if it is known everywhere.

    Returns
    -------
    int32 of the same shape; ids as of `keep_labels`.
    """
    if annotated is None:
        return labels
    labels = with_small_ids(labels)
    sizes = areas(labels)
    inside = np.bincount(labels[annotated], minlength=sizes.size)
    return keep_labels(labels, inside >= sizes / 2)


def with_small_ids(labels: np.ndarray) -> np.ndarray:
    """Give labels whose ids can be counted in an array: above the number of pixels, 1, 2, ...

    Parameters
    ----------
    labels
        int32 of any shape, any ids.

    Returns
    -------
    int32 of the same shape: the labels as they are, or numbered anew in the order of their ids.
    """
    if int(labels.max(initial=0)) <= labels.size:
        return labels
    ids = np.unique(labels[labels > 0])
    return np.searchsorted(np.append(0, ids), labels).astype(np.int32)


def areas(labels: np.ndarray) -> np.ndarray:
    """Give the pixel count of every id; int64 of shape (largest id + 1,), entry 0 set to 0."""
    flat = np.ravel(labels).astype(np.int32, copy=False)
    return np.asarray(_count(flat, int(labels.max(initial=0))))


@njit(cache=True, nogil=True)
def _count(flat, largest):  # type: ignore[no-untyped-def]
    """Count ids, run by run."""
    counts = np.zeros(largest + 1, np.int64)
    start = 0
    for k in range(1, flat.size):
        if flat[k] != flat[k - 1]:
            counts[flat[start]] += k - start
            start = k
    if flat.size:
        counts[flat[start]] += flat.size - start
    counts[0] = 0
    return counts


def fill_holes(labels: np.ndarray) -> np.ndarray:
    """Fill the holes of each object.

    Only background pixels are filled: an object that lies inside another one's hole stays.
    Holes are background pixels that 4-connected paths (in a volume 6-connected ones) cannot lead
    out of the object.

    Parameters
    ----------
    labels
        int32 of shape (Y, X) or (Z, Y, X).

    Returns
    -------
    int32 of the same shape. Where holes of two objects overlap, the larger id has them.
    """
    filled = np.array(labels, np.int32)
    has_gap = _find_gaps(filled.reshape(-1, filled.shape[-1]), int(filled.max(initial=0)))
    if has_gap.any():
        boxes = bounding_boxes(filled)
        fill = _fill_objects if filled.ndim == 2 else _fill_volumes
        fill(filled.copy(), np.flatnonzero(has_gap), boxes, filled)
    return filled


@njit(cache=True, nogil=True)
def _find_gaps(labels, largest):  # type: ignore[no-untyped-def]
    """Say for every id whether some row has it more than once: others have no holes."""
    has_gap = np.zeros(largest + 1, np.bool_)
    last_row = np.full(largest + 1, -1, np.int64)
    for y in range(labels.shape[0]):
        before = 0
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label != before:
                if last_row[label] == y:
                    has_gap[label] = True
                last_row[label] = y
                before = label
    has_gap[0] = False
    return has_gap


@njit(cache=True, nogil=True)
def _fill_objects(labels, ids, boxes, filled):  # type: ignore[no-untyped-def]
    """Fill the holes of some objects: what cannot be reached from around their box."""
    for label in ids:
        y0, y1, x0, x1 = boxes[label]
        width = x1 - x0 + 2
        size = (y1 - y0 + 2) * width
        # What cannot be entered: the object, and what was reached already.
        closed = np.zeros(size, np.bool_)
        for y in range(y0, y1):
            for x in range(x0, x1):
                closed[(y - y0 + 1) * width + x - x0 + 1] = labels[y, x] == label
        stack = np.empty(size, np.int64)
        stack[0] = 0
        closed[0] = True
        n = 1
        while n > 0:
            n -= 1
            place = stack[n]
            column = place % width
            for step in (-width, width, -1, 1):
                there = place + step
                leaves = (step == -1 and column == 0) or (step == 1 and column == width - 1)
                if 0 <= there < size and not leaves and not closed[there]:
                    closed[there] = True
                    stack[n] = there
                    n += 1
        for y in range(y0, y1):
            for x in range(x0, x1):
                if labels[y, x] == 0 and not closed[(y - y0 + 1) * width + x - x0 + 1]:
                    filled[y, x] = label


@njit(cache=True, nogil=True)
def _fill_volumes(labels, ids, boxes, filled):  # type: ignore[no-untyped-def]
    """Fill the holes of some objects of a volume: what cannot be reached from around their box."""
    for label in ids:
        z0, z1, y0, y1, x0, x1 = boxes[label]
        shape = (z1 - z0 + 2, y1 - y0 + 2, x1 - x0 + 2)
        sheet = shape[1] * shape[2]
        # What cannot be entered: the object, and what was reached already.
        closed = np.zeros(shape[0] * sheet, np.bool_)
        for z in range(z0, z1):
            for y in range(y0, y1):
                place = (z - z0 + 1) * sheet + (y - y0 + 1) * shape[2] + 1
                for x in range(x0, x1):
                    closed[place + x - x0] = labels[z, y, x] == label
        stack = np.empty(closed.size, np.int64)
        stack[0] = 0
        closed[0] = True
        n = 1
        while n > 0:
            n -= 1
            place = stack[n]
            column, row = place % shape[2], place // shape[2] % shape[1]
            for step in (-sheet, sheet, -shape[2], shape[2], -1, 1):
                there = place + step
                leaves = (
                    (step == -1 and column == 0)
                    or (step == 1 and column == shape[2] - 1)
                    or (step == -shape[2] and row == 0)
                    or (step == shape[2] and row == shape[1] - 1)
                )
                if 0 <= there < closed.size and not leaves and not closed[there]:
                    closed[there] = True
                    stack[n] = there
                    n += 1
        for z in range(z0, z1):
            for y in range(y0, y1):
                place = (z - z0 + 1) * sheet + (y - y0 + 1) * shape[2] + 1
                for x in range(x0, x1):
                    if labels[z, y, x] == 0 and not closed[place + x - x0]:
                        filled[z, y, x] = label


def touches_edge(labels: np.ndarray) -> np.ndarray:
    """Say for every id whether it touches the border in Y or X; bool (ids + 1,).

    The first and the last plane of a volume are no border: stacks are often cut there on purpose.
    """
    touching = np.zeros(int(labels.max(initial=0)) + 1, bool)
    for border in (labels[..., 0, :], labels[..., -1, :], labels[..., 0], labels[..., -1]):
        touching[border] = True
    touching[0] = False
    return touching


def median_diameter(labels: np.ndarray) -> float:
    """Give the diameter, in px, of a disk whose area has the median square root; 0 if empty.

    Stringer et al. 2021: the size of an image is the median object size, as the diameter of
    a disk of equal area.
    """
    return median_diameter_of(areas(labels))


def median_diameter_of(counts: np.ndarray) -> float:
    """Give the same of the areas of objects, in px; those of 0 do not count."""
    present = counts[counts > 0]
    if present.size == 0:
        return 0.0
    return float(np.median(np.sqrt(present)) * 2 / np.sqrt(np.pi))


def centroids(labels: np.ndarray) -> np.ndarray:
    """Give the mean (y, x) of every id in px; float64 (largest id + 1, 2), NaN if absent.

    Of a volume (z, y, x), in voxels.
    """
    counts, sums = _sum_positions(_as_volume(labels), int(labels.max(initial=0)))
    with np.errstate(invalid="ignore"):
        means: np.ndarray = sums[:, 3 - labels.ndim :] / counts[:, None]
    return means


@njit(cache=True, nogil=True)
def _sum_positions(labels, largest):  # type: ignore[no-untyped-def]
    """Give the count and the summed (z, y, x) of every id, as float64."""
    counts = np.zeros(largest + 1)
    sums = np.zeros((largest + 1, 3))
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = labels[z, y, x]
                if label > 0:
                    counts[label] += 1
                    sums[label, 0] += z
                    sums[label, 1] += y
                    sums[label, 2] += x
    return counts, sums


def surface_areas(labels: np.ndarray, anisotropy: float = 1.0) -> np.ndarray:
    """Estimate the surface of every object of a volume.

    Parameters
    ----------
    labels
        int32 of shape (Z, Y, X).
    anisotropy
        How many times deeper than wide a voxel is.

    Returns
    -------
    float64 of shape (largest id + 1,), in squares of the width of a voxel.

    Notes
    -----
    Crofton's formula with lines along three axes: two thirds of the area of the faces between
    the object's voxels and others (all faces would be one and a half times the surface of a
    ball). Exact on average over all orientations of a surface; a box along the axes gets two
    thirds of its surface. The border of the volume counts as surface.
    """
    faces = _count_faces(labels, int(labels.max(initial=0)))
    return np.asarray(2 / 3 * (faces[:, 0] + anisotropy * (faces[:, 1] + faces[:, 2])))


@njit(cache=True, nogil=True)
def _count_faces(labels, largest):  # type: ignore[no-untyped-def]
    """Count the faces of every id that look along z, y and x; float64 (ids + 1, 3)."""
    faces = np.zeros((largest + 1, 3))
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                label = labels[z, y, x]
                if label > 0:
                    row = faces[label]
                    row[0] += (z == 0 or labels[z - 1, y, x] != label) + (
                        z == depth - 1 or labels[z + 1, y, x] != label
                    )
                    row[1] += (y == 0 or labels[z, y - 1, x] != label) + (
                        y == height - 1 or labels[z, y + 1, x] != label
                    )
                    row[2] += (x == 0 or labels[z, y, x - 1] != label) + (
                        x == width - 1 or labels[z, y, x + 1] != label
                    )
    return faces


def mean_inside(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give the mean of ``values`` in every id; float64 (largest id + 1,), NaN if absent."""
    flat = labels.ravel()
    counts = np.bincount(flat, minlength=1)
    sums = np.bincount(flat, values.ravel().astype(np.float64), counts.size)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: np.ndarray = sums / counts
    return means
