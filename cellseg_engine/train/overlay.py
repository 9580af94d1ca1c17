"""Views with the objects of another view laid over them, so that a network knows clumps.

Light adds up where objects lie above each other in a fluorescence image, and an annotator gives
the pixels to the brighter one. Training images have few such places, and most missed objects lie
in them; pasting objects makes more (Ghiasi et al. 2021, "Simple copy-paste is a strong data
augmentation method for instance segmentation"; they replace pixels, we add them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.core.labels import NOT_ANNOTATED, areas, mean_inside

GAIN_RANGE = (0.4, 1.0)
"""Brightness of what is laid over."""
MIN_VISIBLE = 0.3
"""Part of an object; what is left of an object that is hidden further is not annotated."""
MIN_CONTRAST = 0.15
"""By which the typical object is brighter than the background: it is less in phase contrast (0.01)
and more in all kinds of fluorescence (0.37 and more), where 1 is the range of an image."""
_RIM_PX, _SOFTNESS_PX = 5, 1.5


@dataclass(frozen=True)
class Shown:
    """What a view shows.

    Attributes
    ----------
    pixels
        float32 of shape (C, V, V), percentiles of the image brought to 0 and 1.
    labels
        int32 of shape (V, V), `NOT_ANNOTATED` where they are not known.
    flows
        float32 of shape (2, V, V).
    """

    pixels: np.ndarray
    labels: np.ndarray
    flows: np.ndarray


def overlay(lower: Shown, upper: Shown, gain: float, variant: FlowVariant) -> Shown:
    """Lay the objects of one view over another.

    Parameters
    ----------
    lower, upper
        Two views of the same shape.
    gain
        What the objects laid over are multiplied by.
    variant
        Of the flow targets.

    Returns
    -------
    The light of both; ``lower`` as it is if the objects of ``upper`` do not shine. Where objects
    overlap the pixel belongs to the brighter one; objects that are hidden in part get flows of
    their own; what is left of one of which less than `MIN_VISIBLE` is seen, and parts cut off
    from the centre, count as not annotated.
    """
    below, above = np.maximum(lower.labels, 0), np.maximum(upper.labels, 0)
    over = _over_background(upper.pixels, above)
    contrast = mean_inside(above, over[0])[1:]
    if not above.any() or np.nanmedian(contrast) < MIN_CONTRAST:
        return lower
    near = maximum_filter((above > 0).astype(np.float32), _RIM_PX)
    light = np.float32(gain) * gaussian_filter(near, _SOFTNESS_PX) * np.maximum(0, over)
    ids = np.where(above > 0, above + np.int32(below.max(initial=0)), 0)
    bright_below = mean_inside(below, _over_background(lower.pixels, below)[0])
    bright_above = mean_inside(ids, light[0])
    wins = (above > 0) & ((below == 0) | (bright_above[ids] > bright_below[below]))
    labels = np.where(wins, ids, lower.labels).astype(np.int32)
    flows = np.where(wins, upper.flows, lower.flows)
    whole = areas(ids)
    whole[: bright_below.size] = areas(below)
    labels, flows = _settle_hidden(labels, flows, whole, variant)
    return Shown(lower.pixels + light, labels, flows)


def _settle_hidden(
    labels: np.ndarray, flows: np.ndarray, whole: np.ndarray, variant: FlowVariant
) -> tuple[np.ndarray, np.ndarray]:
    """Give labels and flows with what follows from objects being hidden in part.

    ``whole`` has for every id the area before.
    """
    places = np.maximum(labels, 0)
    visible = np.bincount(places.ravel(), minlength=whole.size)
    hidden = visible < MIN_VISIBLE * whole
    cut = (visible < whole) & ~hidden
    hidden[0] = cut[0] = False
    is_cut = cut[places]
    again = labels_to_flows(np.where(is_cut, places, 0).astype(np.int32), variant)
    apart = is_cut & ~again.any(axis=0)
    settled = np.where(hidden[places] | apart, np.int32(NOT_ANNOTATED), labels)
    return settled, np.where(is_cut, again, flows).astype(np.float32, copy=False)


def _over_background(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Give how much brighter pixels are than the median of those outside of objects."""
    outside = pixels[:, labels == 0]
    if not outside.size:
        return pixels
    difference: np.ndarray = pixels - np.median(outside, axis=1)[:, np.newaxis, np.newaxis]
    return difference
