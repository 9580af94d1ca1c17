"""The size estimate: how large the objects of an image are.

Stringer et al. 2021, "Test time resizing": the style of the image gives a first diameter, by
regression; a segmentation at that size gives the final one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from cellseg_engine.backends.flow_unet import FlowUNet
from cellseg_engine.core.flows import flow_errors
from cellseg_engine.core.labels import areas as count_areas
from cellseg_engine.core.labels import fill_holes, keep_labels, median_diameter, touches_edge
from cellseg_engine.core.resize import resize_nearest
from cellseg_engine.core.rows import Rows, as_rows
from cellseg_engine.pipeline.masks import BASE_ITERATIONS, trace_objects, typical_min_area
from cellseg_engine.pipeline.prepare import predict_at_scale
from cellseg_engine.pipeline.progress import Ticker
from cellseg_engine.settings import Settings

MAX_REFINED_PX = 1024
"""Side of the window that is segmented for the estimate, at the network's scale."""
MAX_MASK_PX = 2048
"""From twice this side on, the window is looked for in every n-th pixel of the first pass."""
MAX_PLANES = 5
"""Of a stack, that are looked at; as many again where these show no objects."""
FLOW_THRESHOLD = 0.4
MAX_REFINEMENTS = 6
CONFIRMED = 1.1
"""Objects confirm a diameter that is at most so many times larger or smaller than theirs."""


@dataclass(frozen=True)
class SizeEstimate:
    """A diameter and where it comes from.

    Attributes
    ----------
    diameter_px
        To scale the image by.
    source
        ``estimate``, or ``training mean`` where no estimate was possible.
    style_diameter_px
        The regression's, before refinement; 0 without a size model.
    found_objects
        Whether the first segmentation found any.
    warnings
        Sentences for the user.
    """

    diameter_px: float
    source: str
    style_diameter_px: float
    found_objects: bool
    warnings: tuple[str, ...] = ()


def choose_planes(count: int) -> list[int]:
    """Choose the planes of a stack that the estimate looks at, evenly spaced.

    Returns
    -------
    At most `MAX_PLANES`, ascending, and after them as many that lie between, for the case that
    the first show no objects.
    """
    if count <= MAX_PLANES:
        return list(range(count))
    first = np.linspace(0, count - 1, MAX_PLANES + 2).astype(int)[1:-1]
    others = np.setdiff1d(np.arange(count), first)
    more = np.linspace(0, others.size - 1, min(MAX_PLANES, others.size)).astype(int)
    return [*first.tolist(), *others[more].tolist()]


def estimate_diameter(
    model: FlowUNet, planes: Iterable[np.ndarray | Rows], settings: Settings, ticker: Ticker
) -> SizeEstimate:
    """Estimate the diameter of the objects of an image.

    Parameters
    ----------
    planes
        (C, Y, X) each, as the network sees them; the median over those that show objects
        counts. The first `MAX_PLANES` are looked at, others until one shows objects.

    Notes
    -----
    The refining segmentation follows the paper and Cellpose: nearest-neighbour dynamics at the
    network's scale, 200 steps, areas measured at the plane's own scale. Unlike there it looks at a
    window only where the plane is larger than `MAX_REFINED_PX` at the network's scale: the one in
    which the first pass saw most of objects. A wrong first diameter would otherwise enlarge the
    plane by any factor.
    """
    if model.size_model is None:
        no_size_model = (
            f"The model {model.card.name} has no size model, so the mean diameter of its training "
            f"images, {model.card.diam_labels_px:.1f} px, was used; give diameter_px for better "
            "results."
        )
        return SizeEstimate(
            model.card.diam_labels_px,
            "training mean",
            0.0,
            False,
            (no_size_model,),
        )
    styles: list[float] = []
    refined: list[float] = []
    for plane in planes:
        style, diameter = _estimate_plane(model, plane, settings, ticker)
        styles.append(style)
        if diameter > 0:
            refined.append(diameter)
        if refined and len(styles) >= MAX_PLANES:
            break
    style_diameter = float(np.median(styles))
    if not refined:
        warning = (
            "No objects were found while estimating the diameter, so the model's own "
            f"{model.size_model.diam_mean_px:.1f} px was used."
        )
        return SizeEstimate(
            model.size_model.diam_mean_px, "training mean", style_diameter, False, (warning,)
        )
    median = float(np.median(refined))
    warnings = _range_warnings(model, style_diameter, median)
    return SizeEstimate(median, "estimate", style_diameter, True, warnings)


def _estimate_plane(
    model: FlowUNet, whole: np.ndarray | Rows, settings: Settings, ticker: Ticker
) -> tuple[float, float]:
    """Give the style's diameter and the refined one (0 if no objects) of one plane."""
    if model.size_model is None:
        raise AssertionError("checked by the caller")
    first_scale = model.card.diam_mean_px / model.card.diam_labels_px
    rows = as_rows(whole)
    first = predict_at_scale(model, rows, first_scale, settings, ticker)
    style_diameter = model.size_model.predict(first.style)
    diam_mean = model.size_model.diam_mean_px
    step = max(1, max(first.logit.shape) // MAX_MASK_PX)
    mask = first.logit[::step, ::step] > 0

    def look(diameter: float) -> float:
        scale = diam_mean / diameter
        window = densest_window(mask, rows.shape[1:], round(MAX_REFINED_PX / scale))
        return median_diameter(_segment_window(model, rows, window, scale, settings, ticker))

    return style_diameter, settle(style_diameter, look)


def settle(diameter: float, look: Callable[[float], float]) -> float:
    """Give the diameter that the objects have which are seen at that very diameter.

    Parameters
    ----------
    diameter
        To begin with, in px.
    look
        Gives the median diameter of the objects that are found at a diameter; 0 without any.

    Returns
    -------
    In px; 0 if nothing is found to begin with. What is found first, if no diameter is confirmed
    within `MAX_REFINEMENTS` looks.
    """
    first = 0.0
    for _ in range(MAX_REFINEMENTS):
        found = look(diameter)
        first = first or found
        if found == 0:
            return diameter if first else 0.0
        if diameter / CONFIRMED <= found <= diameter * CONFIRMED:
            return found
        diameter = found
    return first


def _segment_window(
    model: FlowUNet,
    rows: Rows,
    window: tuple[slice, slice],
    scale: float,
    settings: Settings,
    ticker: Ticker,
) -> np.ndarray:
    """Give the objects of a part of a plane that count for the diameter; int32 labels."""
    plane = rows.rows(window[0].start, window[0].stop)[:, :, window[1]]
    fields = predict_at_scale(model, plane, scale, settings, ticker)
    labels = trace_objects(
        fields,
        probability_threshold=0.5,
        iterations=BASE_ITERATIONS,
        nearest=True,
        max_size_fraction=0.4,
    )
    errors = flow_errors(labels, fields.flows, model.card.flow_variant)  # type: ignore[arg-type]
    labels = keep_labels(labels, ~(errors > FLOW_THRESHOLD))
    labels = resize_nearest(labels, (plane.shape[1], plane.shape[2]))
    labels = solid_objects(labels, typical_min_area(model.card.diam_mean_px / scale))
    if plane.shape[1:] != rows.shape[1:]:  # objects cut by the window make the diameter too small
        whole = keep_labels(labels, ~touches_edge(labels))
        labels = whole if whole.any() else labels
    return labels


def densest_window(mask: np.ndarray, shape: tuple[int, int], side: int) -> tuple[slice, slice]:
    """Give the part of a plane that holds most of a mask; the middle of it if there is a choice.

    Parameters
    ----------
    mask
        bool of shape (y, x), of the whole plane at another scale.
    shape
        Of the plane.
    side
        Largest length of the part along Y and X, in pixels of the plane.

    Returns
    -------
    tuple of slice
        Along Y and X of the plane.
    """
    lengths = [min(max(side, 1), length) for length in shape]
    small = [
        max(1, round(length * n / whole))
        for length, n, whole in zip(lengths, mask.shape, shape, strict=True)
    ]
    # The sum over each window, from the sums over everything above and to the left.
    sums = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    counts = (
        sums[small[0] :, small[1] :]
        - sums[: -small[0], small[1] :]
        - sums[small[0] :, : -small[1]]
        + sums[: -small[0], : -small[1]]
    )
    best = np.argwhere(counts == counts.max())
    middle = (np.array(counts.shape) - 1) / 2
    start = best[np.abs(best - middle).sum(axis=1).argmin()]
    starts = [
        min(round(first * whole / n), whole - length)
        for first, n, whole, length in zip(start, mask.shape, shape, lengths, strict=True)
    ]
    return (
        slice(starts[0], starts[0] + lengths[0]),
        slice(starts[1], starts[1] + lengths[1]),
    )


def solid_objects(labels: np.ndarray, min_area_px: int) -> np.ndarray:
    """Give the objects that count for the diameter: large enough before holes are filled."""
    return fill_holes(keep_labels(labels, count_areas(labels) >= min_area_px))


def _range_warnings(model: FlowUNet, style_px: float, refined_px: float) -> tuple[str, ...]:
    size_model = model.size_model
    if size_model is None or (size_model.covers(style_px) and size_model.covers(refined_px)):
        return ()
    low, high = size_model.range_px
    return (
        (
            f"The estimated diameter, {refined_px:.1f} px (from the style: {style_px:.1f} px), is "
            f"outside the {low:.1f} to {high:.1f} px that the size model of {model.card.name} was "
            "trained on; check it and give diameter_px if it is wrong."
        ),
    )
