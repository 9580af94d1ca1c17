"""Flow targets: from a label image to unit vectors that lead every pixel to its object's centre.

Heat is released at the centre of each object and spreads over its pixels; the vectors are
the normalised gradient of the heat (Stringer et al. 2021, "Auxiliary vector flow
representation").

Each object is worked on in a dense box of its own. Loops that shall use the vector units of the
processor index with unsigned integers, since signed ones could be meant from the end.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from cellseg_engine.core.flow_variants import VARIANTS, FlowVariant
from cellseg_engine.core.kernels import parallel_kernel
from cellseg_engine.core.labels import bounding_boxes
from cellseg_engine.core.sharing import deal_out
from cellseg_engine.errors import ImageError

_U = np.uint64


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
    flows = np.zeros((2, *labels.shape), np.float32)
    _work_on_objects(labels, variant, flows, compare=False)
    return flows


def flow_errors(labels: np.ndarray, flows: np.ndarray, variant: FlowVariant = "v3") -> np.ndarray:
    """Give for every object the mean squared difference between its own and the given flows.

    The same as from `labels_to_flows`, without a flow field of the image in between.

    Parameters
    ----------
    labels
        int32 of shape (Y, X).
    flows
        float32 of shape (2, Y, X), unit length by convention.
    variant
        The flow targets the network was trained on.

    Returns
    -------
    float64 of shape (largest id + 1,); NaN for ids that do not occur and for 0.

    Raises
    ------
    ImageError
        The shapes do not fit.

    Notes
    -----
    Stringer et al. 2021, "Mask quality threshold": objects above 0.4 are discarded.
    """
    if flows.shape != (2, *labels.shape):
        raise ImageError(
            f"Flows of shape {flows.shape} do not fit labels of shape {labels.shape}: "
            f"(2, Y, X) and (Y, X) are needed."
        )
    # Writable, as the kernel is compiled once for making flows and for reading them.
    flows = np.require(flows, np.float32, ["C", "W"])
    return _work_on_objects(labels, variant, flows, compare=True)


def _work_on_objects(
    labels: np.ndarray, variant: FlowVariant, flows: np.ndarray, *, compare: bool
) -> np.ndarray:
    """Write the objects' flows, or compare the given ones with them; gives the differences."""
    recipe = VARIANTS[variant]
    labels = np.require(labels, np.int32, ["C", "W"])
    boxes = bounding_boxes(labels)
    errors = np.full(boxes.shape[0], np.nan)
    height, width = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    work = np.where(height > 0, (height + 2) * (width + 2) * (height + width), 0)
    _all_objects(
        labels,
        boxes,
        deal_out(work),
        recipe.centre_is_median,
        recipe.logarithm,
        recipe.extent_extra,
        recipe.epsilon,
        flows,
        errors,
        compare,
    )
    return errors


@parallel_kernel
def _all_objects(  # type: ignore[no-untyped-def]
    labels, boxes, order, median, logarithm, extent_extra, epsilon, flows, errors, compare
):
    for k in prange(order.size):
        label = order[k]
        box = boxes[label]
        own = _object_flows(labels, label, box, median, logarithm, extent_extra, epsilon)
        if compare:
            errors[label] = _mean_squared(labels, label, box, own, flows)
        else:
            _place(labels, label, box, own, flows)


@njit(cache=True, nogil=True)
def _object_flows(labels, label, box, median, logarithm, extent_extra, epsilon):  # type: ignore[no-untyped-def]
    """Give the flows of one object in its box; float32 (2, height * (width + 2))."""
    y0, y1, x0, x1 = box
    height, width = y1 - y0, x1 - x0
    # The object with a border of one pixel, flattened.
    stride = width + 2
    weight = np.zeros((height + 2) * stride)
    ys = np.empty(height * width)
    xs = np.empty(height * width)
    count = 0
    for y in range(height):
        for x in range(width):
            if labels[y0 + y, x0 + x] == label:
                weight[(y + 1) * stride + x + 1] = 1.0 / 9.0
                ys[count] = y
                xs[count] = x
                count += 1
    nearest = _nearest_to_middle(ys[:count], xs[:count], median)
    centre = (int(ys[nearest]) + 1) * stride + int(xs[nearest]) + 1
    heat = _diffuse(weight, centre, 2 * (height + width + extent_extra), stride)
    if logarithm:
        for k in range(heat.size):
            heat[k] = np.log(1.0 + heat[k])
    return _unit_gradient(heat, stride, epsilon)


@njit(cache=True, nogil=True)
def _nearest_to_middle(ys, xs, median):  # type: ignore[no-untyped-def]
    """Give which pixel is nearest to the mean or median of all; the first of equals."""
    if median:
        middle_y, middle_x = np.median(ys), np.median(xs)
    else:
        middle_y, middle_x = np.mean(ys), np.mean(xs)
    best = np.inf
    nearest = 0
    for n in range(ys.size):
        distance = (ys[n] - middle_y) ** 2 + (xs[n] - middle_x) ** 2
        if distance < best:
            best = distance
            nearest = n
    return nearest


@njit(cache=True, nogil=True, error_model="numpy")
def _diffuse(weight, centre, steps, stride):  # type: ignore[no-untyped-def]
    """Spread the heat; 3 x 3 means as a row sum followed by a column sum."""
    size = _U(weight.size)
    one, line = _U(1), _U(stride)
    heat = np.zeros(size)
    rows = np.zeros(size)
    for _ in range(steps):
        heat[centre] += 1.0
        for k in range(one, size - one):
            rows[k] = heat[k - one] + heat[k] + heat[k + one]
        for k in range(line, size - line):
            heat[k] = weight[k] * (rows[k - line] + rows[k] + rows[k + line])
    return heat


@njit(cache=True, nogil=True, error_model="numpy")
def _unit_gradient(heat, stride, epsilon):  # type: ignore[no-untyped-def]
    """Give the gradient of all but the first and last row, divided by its length."""
    one, line, twice = _U(1), _U(stride), _U(2 * stride)
    own = np.empty((2, heat.size - 2 * stride), np.float32)
    for k in range(one, _U(own.shape[1]) - one):
        dy = heat[k + twice] - heat[k]
        dx = heat[k + line + one] - heat[k + line - one]
        norm = epsilon + np.sqrt(dy * dy + dx * dx)
        own[0, k] = dy / norm
        own[1, k] = dx / norm
    return own


@njit(cache=True, nogil=True)
def _place(labels, label, box, own, flows):  # type: ignore[no-untyped-def]
    """Write the flows of an object where it lies."""
    y0, y1, x0, x1 = box
    k = 1
    for y in range(y0, y1):
        for x in range(x0, x1):
            if labels[y, x] == label:
                flows[0, y, x] = own[0, k]
                flows[1, y, x] = own[1, k]
            k += 1
        k += 2


@njit(cache=True, nogil=True)
def _mean_squared(labels, label, box, own, flows):  # type: ignore[no-untyped-def]
    """Give the mean squared difference between an object's flows and the given ones."""
    y0, y1, x0, x1 = box
    total = 0.0
    count = 0
    k = 1
    for y in range(y0, y1):
        for x in range(x0, x1):
            if labels[y, x] == label:
                dy = own[0, k] - flows[0, y, x]
                dx = own[1, k] - flows[1, y, x]
                total += dy * dy + dx * dx
                count += 1
            k += 1
        k += 2
    return total / count
