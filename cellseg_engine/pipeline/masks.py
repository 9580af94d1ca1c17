"""From fields to labels: dynamics, clusters, flow check, holes, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy.special import expit, logit

from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.clustering import cluster_points
from cellseg_engine.core.dynamics import follow_flows
from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.flows import flow_errors
from cellseg_engine.core.labels import (
    areas,
    centroids,
    fill_holes,
    keep_labels,
    touches_edge,
)
from cellseg_engine.core.sums import mean_of_objects
from cellseg_engine.pipeline.plane_fields import PlaneFields
from cellseg_engine.settings import Settings

BASE_ITERATIONS = 200
"""Steps at the diameter the model was trained for (Stringer et al. 2021)."""

MIN_AREA_PX = 15
"""Cellpose's, and ours unless objects are smaller than it was made for."""
MIN_AREA_SHARE = 0.25
"""Of the area of a typical object that an object has at least."""


@dataclass(frozen=True)
class PlaneObjects:
    """The objects of one plane.

    Attributes
    ----------
    labels
        int32 of shape (Y, X), ids 1 to n.
    flow_error
        float64 of shape (n,), of the objects in order.
    """

    labels: np.ndarray
    flow_error: np.ndarray


def derive_iterations(settings: Settings, diameter_px: float, diam_mean_px: float) -> int:
    """Give the number of dynamics steps: as set, or 200 scaled by the diameter.

    Where they are not set, `fields_to_labels` lets paths that are still on their way go on.
    """
    return settings.iterations or max(1, int(BASE_ITERATIONS * diameter_px / diam_mean_px))


def typical_min_area(diameter_px: float) -> int:
    """Give the area, in px, below which an object is none, where objects have a diameter.

    15 px, or a quarter of the disk of that diameter, whichever is less: of nuclei of 5 px a third
    can be smaller than 15 px.
    """
    return max(1, min(MIN_AREA_PX, int(MIN_AREA_SHARE * np.pi / 4 * diameter_px**2)))


def derive_min_area(settings: Settings, diameter_px: float) -> int:
    """Give the area, in px, that objects have at least: as set, or by the diameter."""
    typical = typical_min_area(diameter_px)
    return settings.min_area_px or min(typical, settings.max_area_px or typical)


def fields_to_labels(
    fields: Fields, settings: Settings, iterations: int, variant: str
) -> PlaneObjects:
    """Give the objects of one plane from the network's fields at the plane's own scale.

    Parameters
    ----------
    fields
        Flows and logits of the plane.
    settings
        Thresholds and sizes.
    iterations
        Steps of the dynamics.
    variant
        Flow targets of the model, for the flow check.
    """
    labels = trace_objects(
        fields,
        probability_threshold=settings.probability_threshold,
        iterations=iterations,
        nearest=settings.interpolation == "nearest",
        max_size_fraction=settings.max_size_fraction,
        to_rest=settings.iterations == 0,
    )
    errors = flow_errors(labels, fields.flows, cast(FlowVariant, variant))
    return clean_objects(labels, errors, settings)


def trace_objects(
    fields: Fields,
    *,
    probability_threshold: float,
    iterations: int,
    nearest: bool,
    max_size_fraction: float,
    to_rest: bool = False,
    origin: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Give the label image of pixels grouped by where the flow takes them; int32 (Y, X).

    ``to_rest`` and ``origin`` as for `follow_flows`: the labels of a part are those that its
    pixels have in the whole, as far as the paths stay inside.
    """
    mask = fields.logit > np.float32(logit(probability_threshold))
    starts, ends = follow_flows(
        fields.flows,
        mask,
        iterations,
        "nearest" if nearest else "bilinear",
        to_rest=to_rest,
        origin=origin,
    )
    if any(origin):
        ends = ends.astype(np.int32) - np.array(origin, np.int32)[:, None]
    shape = (mask.shape[0], mask.shape[1])
    return cluster_points(starts, ends, shape, max_size_fraction)


def clean_objects(labels: np.ndarray, errors: np.ndarray, settings: Settings) -> PlaneObjects:
    """Drop objects by flow error, size and position, fill holes if set, number them 1 to n.

    Parameters
    ----------
    labels
        int32 of shape (Y, X), ids 1 to n.
    errors
        Flow error of every id, shape (n + 1,).
    """
    keep = areas(labels) >= max(1, settings.min_area_px)
    if settings.flow_threshold > 0:
        keep &= ~(errors > settings.flow_threshold)
    labels = keep_labels(labels, keep)
    if settings.fill_holes:
        labels = fill_holes(labels)
    errors = errors[keep]
    sizes = areas(labels)[1:]
    good = sizes >= max(1, settings.min_area_px)
    if settings.max_area_px:
        good &= sizes <= settings.max_area_px
    if settings.exclude_edge_objects:
        good &= ~touches_edge(labels)[1:]
    return PlaneObjects(keep_labels(labels, np.append(False, good)), errors[good])


def describe_objects(plane: PlaneObjects, fields: Fields | PlaneFields) -> dict[str, np.ndarray]:
    """Give the table of a plane's objects: position, size and quality, in px."""
    labels = plane.labels
    view = fields
    if isinstance(view, Fields):
        view = PlaneFields(view, (labels.shape[0], labels.shape[1]))
    every_column = slice(0, labels.shape[1])
    area = areas(labels)[1:]
    centre = centroids(labels)[1:]
    return {
        "label": np.arange(1, area.size + 1),
        "centroid_y_px": centre[:, 0],
        "centroid_x_px": centre[:, 1],
        "area_px": area,
        "diameter_px": 2 * np.sqrt(area / np.pi),
        "mean_probability": mean_of_objects(
            labels, lambda rows: expit(view.logit(rows, every_column))
        ),
        "flow_error": plane.flow_error,
        "touches_edge": touches_edge(labels)[1:],
    }
