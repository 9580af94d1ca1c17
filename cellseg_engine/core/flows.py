"""Flow targets: from a label image to unit vectors that lead every pixel to its object's centre.

Heat is released at the centre of each object and spreads over its pixels; the vectors are
the normalised gradient of the heat (Stringer et al. 2021, "Auxiliary vector flow
representation").
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from cellseg_engine.core.flow_variants import VARIANTS, FlowVariant
from cellseg_engine.core.labels import bounding_boxes


def labels_to_flows(labels: np.ndarray, variant: FlowVariant = "v3") -> np.ndarray:
    """Give the flow field of a label image.

    Parameters
    ----------
    labels
        int32 of shape (Y, X), 0 is background; ids need not be consecutive.
    variant
        ``v3`` (Cellpose 3), ``v2`` (Cellpose 0.6 to 2.3) or ``paper``.

    Returns
    -------
    float32 of shape (2, Y, X): the y and x component, of length 1 inside objects (0 where the
    heat is flat, as in objects of one pixel), 0 outside.

    Notes
    -----
    Stringer et al. 2021, Methods: every step adds 1 at the centre, then every pixel of the
    object takes the mean of the 3 x 3 pixels around it, pixels outside counting as 0.
    """
    recipe = VARIANTS[variant]
    labels = np.ascontiguousarray(labels, np.int32)
    flows = np.zeros((2, *labels.shape), np.float32)
    boxes = bounding_boxes(labels)
    _all_flows(
        labels,
        boxes,
        recipe.centre_is_median,
        recipe.logarithm,
        recipe.extent_extra,
        recipe.epsilon,
        flows,
    )
    return flows


@njit(parallel=True, cache=True)
def _all_flows(labels, boxes, median, logarithm, extent_extra, epsilon, flows):  # type: ignore[no-untyped-def]
    for label in prange(1, boxes.shape[0]):
        y0, y1, x0, x1 = boxes[label]
        if y1 > y0:
            _object_flows(
                labels, label, y0, y1, x0, x1, median, logarithm, extent_extra, epsilon, flows
            )


@njit(cache=True)
def _object_flows(  # type: ignore[no-untyped-def]
    labels, label, y0, y1, x0, x1, median, logarithm, extent_extra, epsilon, flows
):
    # The object in a dense box with a border of one pixel, flattened.
    width = x1 - x0 + 2
    size = (y1 - y0 + 2) * width
    weight = np.zeros(size)
    count = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            if labels[y, x] == label:
                weight[(y - y0 + 1) * width + x - x0 + 1] = 1.0 / 9.0
                count += 1
    centre = _centre_index(labels, label, y0, y1, x0, x1, count, median, width)
    steps = 2 * ((y1 - y0) + (x1 - x0) + extent_extra)
    heat = _diffuse(weight, centre, steps, width)
    if logarithm:
        for k in range(size):
            heat[k] = np.log(1.0 + heat[k])
    for y in range(y0, y1):
        for x in range(x0, x1):
            if labels[y, x] == label:
                k = (y - y0 + 1) * width + x - x0 + 1
                dy = heat[k + width] - heat[k - width]
                dx = heat[k + 1] - heat[k - 1]
                norm = epsilon + np.sqrt(dy * dy + dx * dx)
                flows[0, y, x] = dy / norm
                flows[1, y, x] = dx / norm


@njit(cache=True)
def _centre_index(labels, label, y0, y1, x0, x1, count, median, width):  # type: ignore[no-untyped-def]
    """Give the flat index of the object's pixel nearest to its mean or median position."""
    ys = np.empty(count)
    xs = np.empty(count)
    n = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            if labels[y, x] == label:
                ys[n] = y
                xs[n] = x
                n += 1
    if median:
        target_y, target_x = np.median(ys), np.median(xs)
    else:
        target_y, target_x = np.mean(ys), np.mean(xs)
    best = np.inf
    centre = 0
    for n in range(count):
        distance = (ys[n] - target_y) ** 2 + (xs[n] - target_x) ** 2
        if distance < best:
            best = distance
            centre = (int(ys[n]) - y0 + 1) * width + int(xs[n]) - x0 + 1
    return centre


@njit(cache=True, fastmath={"contract", "reassoc", "nsz"})
def _diffuse(weight, centre, steps, width):  # type: ignore[no-untyped-def]
    """Spread the heat; 3 x 3 means as a row sum followed by a column sum."""
    size = weight.size
    heat = np.zeros(size)
    rows = np.zeros(size)
    for _ in range(steps):
        heat[centre] += 1.0
        for k in range(1, size - 1):
            rows[k] = heat[k - 1] + heat[k] + heat[k + 1]
        for k in range(width, size - width):
            heat[k] = weight[k] * (rows[k - width] + rows[k] + rows[k + width])
    return heat
