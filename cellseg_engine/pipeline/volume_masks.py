"""From the fused fields of a volume to its objects: dynamics, clusters, flow check, sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from cellseg_engine.core.dynamics import follow_flows, follow_flows_beside
from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.labels import (
    areas,
    bounding_boxes,
    centroids,
    fill_holes,
    keep_labels,
    surface_areas,
    touches_edge,
)
from cellseg_engine.core.sums import mean_of_voxels
from cellseg_engine.core.volume_clustering import cluster_voxels
from cellseg_engine.core.volume_flows import volume_flow_errors
from cellseg_engine.errors import SettingsError
from cellseg_engine.pipeline.blocks import (
    CUT_WARNING,
    Traced,
    Window,
    halo_px,
    trace_blocks,
    window_size,
)
from cellseg_engine.pipeline.memory import Shape3, available_bytes, check_block
from cellseg_engine.pipeline.volume_fields import VolumeFields
from cellseg_engine.settings import Settings

VOLUME_ALLOWANCE = 2.0
"""Objects of volumes may err by so many times the threshold of planes.

The error counts three components, of views that the network knows less well. In two training
volumes good objects (IoU of 0.5 or more) erred by 0.2 to 0.8, bad ones (below 0.3) by 0.5 to 1.4.
"""


@dataclass(frozen=True)
class VolumeObjects:
    """The objects of one volume.

    Attributes
    ----------
    labels
        int32 of shape (Z, Y, X), ids 1 to n.
    flow_error
        float64 of shape (n,), of the objects in order.
    """

    labels: np.ndarray
    flow_error: np.ndarray


@dataclass(frozen=True)
class Tracing:
    """How fields become objects.

    Attributes
    ----------
    settings
        Thresholds and sizes.
    anisotropy
        Depth of a voxel over its width.
    iterations
        Steps of the dynamics.
    variant
        Flow targets of the model, for the flow check.
    voxel_um3
        Volume of a voxel, 0 where it is not known.
    """

    settings: Settings
    anisotropy: float
    iterations: int
    variant: FlowVariant
    voxel_um3: float = 0.0

    @property
    def is_cellpose3(self) -> bool:
        """Whether all is done as Cellpose 3 does."""
        return self.settings.volume_mode == "cellpose3"

    @property
    def depth(self) -> float:
        """Steps of the flow that lead from a plane to the next one.

        Cellpose 3 does not look at the anisotropy any more after the network.
        """
        return 1.0 if self.is_cellpose3 else self.anisotropy

    @property
    def has_flow_check(self) -> bool:
        """Whether objects are dropped by their flow error; Cellpose 3 does not."""
        return self.settings.flow_threshold > 0 and not self.is_cellpose3


def trace_volume(
    fields: VolumeFields,
    tracing: Tracing,
    *,
    diameter_px: float,
    max_voxels: int,
    on_block: Callable[[int, int], None] = lambda *_: None,
) -> tuple[VolumeObjects, tuple[str, ...]]:
    """Give the objects of a volume, in blocks if it is large.

    Parameters
    ----------
    fields
        Of the volume.
    diameter_px
        Of the objects, for the halo of the blocks.
    max_voxels
        Of the largest block.
    on_block
        Called with (blocks done, blocks in all) before each block; an exception raised there
        stops the work.

    Raises
    ------
    MemoryNeededError
        Objects are so large that a block has to be larger than memory allows.

    Returns
    -------
    The objects, and sentences for the user. They are the same in blocks as in one piece, but for
    the order of their ids; see `cellseg_engine.pipeline.blocks.trace_plane`.
    """
    shape = fields.shape
    if math.prod(shape) <= max_voxels:
        on_block(0, 1)
        whole = _trace(fields, tracing, tuple(slice(0, n) for n in shape))
        errors = whole.errors(whole.labels)
        return clean_volume(whole.labels, errors, tracing), ()

    def trace(window: Window) -> Traced:
        n_voxels = window_size(window)
        if n_voxels > max_voxels:
            check_block(n_voxels, tracing.anisotropy, available_bytes())
        return _trace(fields, tracing, window)

    halo = volume_halo(diameter_px, tracing.anisotropy)
    found = trace_blocks(trace, shape, halo, max_voxels, on_block)
    objects = clean_volume(found.labels, found.errors, tracing)
    return objects, (CUT_WARNING,) if found.is_cut else ()


def volume_halo(diameter_px: float, anisotropy: float) -> Shape3:
    """Give the width of the halo along Z, Y and X for objects of a diameter."""
    halo = halo_px(diameter_px)
    return math.ceil(halo / anisotropy), halo, halo


def _trace(fields: VolumeFields, tracing: Tracing, window: Window) -> Traced:
    """Give the objects of a part of a volume."""
    flows, logits = fields.window(window)
    settings = tracing.settings
    share = math.prod(fields.shape) / logits.size
    labels = group_voxels(
        flows,
        logits > np.float32(logit(settings.probability_threshold)),
        tracing,
        max_size_fraction=settings.max_size_fraction * share,
        origin=(window[0].start, window[1].start, window[2].start),
        whole=fields.shape,
    )

    def errors(labels: np.ndarray) -> np.ndarray:
        # A sum of two estimates is measured as their mean.
        scale = 0.5 if tracing.is_cellpose3 else 1.0
        return volume_flow_errors(
            labels,
            flows,
            tracing.variant,
            tracing.anisotropy,
            scale,
            first_plane=window[0].start,
            depth=fields.shape[0],
        )

    return Traced(labels, errors)


def group_voxels(
    flows: np.ndarray,
    mask: np.ndarray,
    tracing: Tracing,
    *,
    max_size_fraction: float,
    origin: tuple[int, int, int] = (0, 0, 0),
    whole: Shape3 | None = None,
) -> np.ndarray:
    """Give the label volume of voxels grouped by where the flow takes them; int32 (Z, Y, X).

    Parameters
    ----------
    flows
        float32 of shape (3, Z, Y, X), in steps of the width of a voxel; along Z a step is
        ``1 / tracing.depth`` of a plane.
    mask
        bool of shape (Z, Y, X).
    max_size_fraction
        Objects that cover more than this share of the mask's volume are dropped.
    origin
        Where the first voxel lies in a larger volume of which this is a part.
    whole
        Shape of that volume; None if this is all of it.
    """
    depth = np.float32(tracing.depth)
    if depth != 1:
        flows = np.stack([flows[0] / depth, flows[1], flows[2]])
    settings = tracing.settings
    if tracing.is_cellpose3 and settings.interpolation == "bilinear":
        shape = (mask.shape[0], mask.shape[1], mask.shape[2])
        starts, ends = follow_flows_beside(
            flows, mask, tracing.iterations, whole=whole or shape, origin=origin
        )
    else:
        starts, ends = follow_flows(
            flows,
            mask,
            tracing.iterations,
            settings.interpolation,
            to_rest=settings.iterations == 0,
            origin=origin,
        )
    if depth != 1:
        ends[0] *= depth
    first_bin = int(np.float32(origin[0]) * depth)
    last_bin = int(np.float32(origin[0] + mask.shape[0] - 1) * depth)
    bins = ends.astype(np.int32)
    bins -= np.array([first_bin, *origin[1:]], np.int32)[:, None]
    shape = (mask.shape[0], mask.shape[1], mask.shape[2])
    n_bins = (last_bin - first_bin + 1, shape[1], shape[2])
    return cluster_voxels(starts, bins, shape, n_bins, max_size_fraction)


def clean_volume(labels: np.ndarray, errors: np.ndarray, tracing: Tracing) -> VolumeObjects:
    """Drop objects by flow error, size and position, fill holes if set, number them 1 to n.

    Parameters
    ----------
    labels
        int32 of shape (Z, Y, X), ids 1 to n.
    errors
        Flow error of every id, shape (n + 1,).
    """
    settings = tracing.settings
    smallest, largest = limits_px(settings, tracing.voxel_um3)
    keep = areas(labels) >= max(1, smallest)
    if tracing.has_flow_check:
        keep &= ~(errors > VOLUME_ALLOWANCE * settings.flow_threshold)
    labels = keep_labels(labels, keep)
    errors = errors[keep]
    if settings.fill_holes:
        labels = fill_holes(labels)
    sizes = areas(labels)[1:]
    good = (sizes >= max(1, smallest)) & (sizes <= largest)
    if not tracing.is_cellpose3 and sizes.size:
        good &= sizes >= settings.min_volume_share * np.median(sizes)
    if settings.exclude_edge_objects:
        good &= ~touches_edge(labels)[1:]
    return VolumeObjects(keep_labels(labels, np.append(False, good)), errors[good])


def voxel_um3(pixel_size_um: Mapping[str, float]) -> float:
    """Give the volume of a voxel from its size along ``Z``, ``Y`` and ``X``; 0 if not known."""
    return math.prod(pixel_size_um.get(letter, 0.0) for letter in "ZYX")


def limits_px(settings: Settings, one_um3: float) -> tuple[float, float]:
    """Give the smallest and the largest volume in voxels.

    Parameters
    ----------
    one_um3
        Volume of a voxel, 0 where it is not known; then the limits in µm³ must be 0.

    Raises
    ------
    SettingsError
        No object can be within both.
    """

    def limits(end: str) -> list[tuple[float, str]]:
        """Give those that are set, in voxels, and how they are set."""
        given = {unit: getattr(settings, f"{end}_volume_{unit}") for unit in ("px", "um3")}
        return [
            (value if unit == "px" else value / one_um3, f"{end}_volume_{unit} = {value:g}")
            for unit, value in given.items()
            if value
        ]

    smallest, low = max(limits("min"), default=(0.0, ""))
    largest, high = min(limits("max"), default=(math.inf, ""))
    if max(1, smallest) > largest:
        above = f"less than {low}, which is {smallest:.4g}" if low else "less than one"
        raise SettingsError(
            f"No object can be so small: {high} is {largest:.4g} voxels, {above}.",
            hint="Give a larger largest volume, or a smaller smallest one.",
        )
    return smallest, largest


def describe_volume(
    objects: VolumeObjects, fields: VolumeFields, anisotropy: float
) -> dict[str, np.ndarray]:
    """Give the table of a volume's objects: position, size, surface and quality, in px."""
    labels = objects.labels
    volume = areas(labels)[1:]
    centre, boxes = centroids(labels)[1:], bounding_boxes(labels)[1:]
    return {
        "label": np.arange(1, volume.size + 1),
        "centroid_z_px": centre[:, 0],
        "centroid_y_px": centre[:, 1],
        "centroid_x_px": centre[:, 2],
        "volume_px": volume,
        "surface_px": surface_areas(labels, anisotropy)[1:],
        "diameter_px": np.cbrt(volume * anisotropy * 6 / np.pi),
        "z_first": boxes[:, 0],
        "z_last": boxes[:, 1] - 1,
        "mean_probability": mean_of_voxels(labels, lambda z: expit(fields.logit(z))),
        "flow_error": objects.flow_error,
        "touches_edge": touches_edge(labels)[1:],
    }
