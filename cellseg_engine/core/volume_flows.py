"""What a perfect network of planes would say about a volume of labels, and how far one is off.

The slices of the three views have their flows as planes do; the two estimates along each axis
are averaged. So the target is what the fused field of a network that makes no error would be.
"""

from __future__ import annotations

import numpy as np

from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.core.resize import nearest_indices
from cellseg_engine.core.sums import mean_of_voxels
from cellseg_engine.core.volumes import VIEWS, View
from cellseg_engine.errors import ImageError

_SLICES_AT_ONCE = 16
"""Slices of YZ lie side by side in memory: a line of the cache holds so many voxels."""


def volume_flows(
    labels: np.ndarray,
    variant: FlowVariant = "v3",
    anisotropy: float = 1.0,
    *,
    first_plane: int = 0,
    depth: int = 0,
) -> np.ndarray:
    """Give the flow field of a label volume.

    Parameters
    ----------
    labels
        int32 of shape (Z, Y, X), 0 is background.
    variant
        As of `cellseg_engine.core.flows.labels_to_flows`.
    anisotropy
        How many times deeper than wide a voxel is: slices along Z are made with voxels as deep
        as wide, each plane repeated, as the network sees them. Below 1 planes are left out; where
        the one that is shown instead has something else than the object, its flow is 0.
    first_plane
        Where the first plane lies in a larger volume of which this is a part.
    depth
        Planes of that volume; 0 if this is all of it.

    Returns
    -------
    float32 of shape (3, Z, Y, X): z, y and x component, each the mean of two slices' unit
    vectors, in steps of the width of a voxel along all axes; 0 outside objects.
    """
    flows = np.zeros((3, *labels.shape), np.float32)
    rows = _repeat_planes(len(labels), anisotropy, first_plane, depth or len(labels))
    for view in VIEWS:
        slices = view.slices(labels)
        for start in range(0, len(slices), _SLICES_AT_ONCE):
            part = slice(start, start + _SLICES_AT_ONCE)
            planes = np.ascontiguousarray(slices[part])
            own = np.zeros((2, *planes.shape), np.float32)
            for index, plane in enumerate(planes):
                if plane.any():
                    own[:, index] = _slice_flows(plane, view, variant, rows)
            view.slices(flows[view.rows])[part] += own[0]
            view.slices(flows[view.columns])[part] += own[1]
    flows *= np.float32(0.5)
    return flows


Repetition = tuple[np.ndarray, np.ndarray]
"""The plane that each row of a deep slice shows, and the row of each plane; intp."""


def _repeat_planes(
    n_planes: int, anisotropy: float, first_plane: int, depth: int
) -> Repetition | None:
    """Say how planes are repeated, by their place in the whole volume; None if they are not."""
    if anisotropy == 1:
        return None
    n_rows = max(1, round(depth * anisotropy))
    own_rows = nearest_indices(n_rows, depth)[first_plane : first_plane + n_planes]
    shown = nearest_indices(depth, n_rows) - first_plane
    seen = np.append(own_rows, np.flatnonzero((shown >= 0) & (shown < n_planes)))
    rows = slice(seen.min(), seen.max() + 1)
    return shown[rows].clip(0, n_planes - 1), own_rows - rows.start


def _slice_flows(
    plane: np.ndarray, view: View, variant: FlowVariant, rows: Repetition | None
) -> np.ndarray:
    """Give the flows (2, rows, columns) of one slice."""
    if view.rows != 0 or rows is None:
        return labels_to_flows(plane, variant)
    shown, own_rows = rows
    seen = plane[shown]
    flows = labels_to_flows(seen, variant)[:, own_rows]
    # Where voxels are wider than deep a row shows one of several planes, which can differ.
    flows[:, seen[own_rows] != plane] = 0
    return flows


def volume_flow_errors(
    labels: np.ndarray,
    flows: np.ndarray,
    variant: FlowVariant = "v3",
    anisotropy: float = 1.0,
    scale: float = 1.0,
    *,
    first_plane: int = 0,
    depth: int = 0,
) -> np.ndarray:
    """Give for every object the mean squared difference between its own and the given flows.

    Parameters
    ----------
    labels
        int32 of shape (Z, Y, X).
    flows
        float32 of shape (3, Z, Y, X), as `volume_flows` gives them.
    variant, anisotropy
        As there.
    scale
        What the given flows are multiplied by first.
    first_plane, depth
        As there.

    Returns
    -------
    float64 of shape (largest id + 1,): the mean over its voxels of the sum over z, y and x; NaN
    for ids that do not occur and for 0.

    Raises
    ------
    ImageError
        The shapes do not fit.
    """
    if labels.ndim != 3 or flows.shape != (3, *labels.shape):
        raise ImageError(
            f"Flows of shape {flows.shape} do not fit labels of shape {labels.shape}: "
            "(3, Z, Y, X) and (Z, Y, X) are needed."
        )
    target = volume_flows(labels, variant, anisotropy, first_plane=first_plane, depth=depth)

    def difference(z: int) -> np.ndarray:
        by = target[:, z] - np.float32(scale) * flows[:, z]
        return np.asarray((by.astype(np.float64) ** 2).sum(axis=0))

    return np.append(np.nan, mean_of_voxels(labels, difference))
