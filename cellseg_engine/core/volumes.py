"""Volumes seen from three sides: slices for a network of planes, and one field from its answers.

Stringer et al. 2021, Methods, "3D model": the network sees all XY, XZ and YZ slices; the two
estimates of each flow and the three probabilities of each voxel are averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage
from scipy.special import expit, logit

from cellseg_engine.core.resize import Neighbours, neighbours, resize_bilinear, resize_window

Fusion = Literal["average", "sum"]
LEAST_DOUBT = 1e-6
"""A mean probability is kept this far from 0 and 1, so that its logit is finite (13.8)."""


@dataclass(frozen=True)
class View:
    """A direction to look at a volume from.

    Attributes
    ----------
    name
        The plane that its slices lie in.
    across
        Axis of the volume (Z, Y, X) that the slices are counted along.
    rows, columns
        Axes of the volume that are the rows and columns of a slice.
    """

    name: str
    across: int
    rows: int
    columns: int

    def slices(self, volume: np.ndarray) -> np.ndarray:
        """Give a volume (..., Z, Y, X) as its slices (n, ..., rows, columns); no copy."""
        return np.moveaxis(volume, self.across - 3, 0)


VIEWS = (View("XY", 0, 1, 2), View("XZ", 1, 0, 2), View("YZ", 2, 0, 1))


class ViewFuser:
    """Collects what a network says about the slices of three views.

    Parameters
    ----------
    flows
        float32 of shape (3, Z, Y, X), all 0; becomes the fused flow: z, y and x component.
    logits
        float32 of shape (Z, Y, X), all 0; becomes the fused logit.
    fusion
        ``average``: the mean of the two flows along each axis, and the logit of the mean of the
        three probabilities (Stringer et al. 2021). ``sum``: the sums of flows and of logits, as
        Cellpose 3 does.
    """

    def __init__(self, flows: np.ndarray, logits: np.ndarray, fusion: Fusion) -> None:
        self._flows = flows
        self._logits = logits
        self._is_mean = fusion == "average"

    def add(self, view: View, index: int, flows: np.ndarray, logits: np.ndarray) -> None:
        """Take over one slice, once: flows (2, rows, columns) and logits (rows, columns)."""
        weight = np.float32(0.5 if self._is_mean else 1)
        for axis, flow in zip((view.rows, view.columns), flows, strict=True):
            view.slices(self._flows[axis])[index] += weight * flow
        share = expit(logits) if self._is_mean else logits
        view.slices(self._logits)[index] += share

    def finish(self) -> None:
        """Turn the sums into the fused fields, once all slices of all views are there."""
        if self._is_mean:
            for plane in self._logits:
                mean = np.clip(plane / len(VIEWS), LEAST_DOUBT, 1 - LEAST_DOUBT)
                plane[...] = logit(mean, dtype=np.float64)


def smooth_flows(flows: np.ndarray, sigma_px: float) -> None:
    """Smooth each component (n, Z, Y, X) by a Gaussian, in place."""
    for component in flows:
        ndimage.gaussian_filter(component, sigma_px, output=component)


def scaled_volume_shape(
    shape: tuple[int, int, int], scale: float, anisotropy: float
) -> tuple[int, int, int]:
    """Give the shape (Z, Y, X) after scaling to voxels that are as deep as wide, rounded down."""
    return int(shape[0] * scale * anisotropy), int(shape[1] * scale), int(shape[2] * scale)


def resize_volume(
    planes: Callable[[int], np.ndarray], n_planes: int, shape: tuple[int, int, int], out: np.ndarray
) -> None:
    """Resize a volume by trilinear interpolation, plane by plane.

    Conventions are those of `cellseg_engine.core.resize.resize_bilinear`, in Z too.

    Parameters
    ----------
    planes
        Gives a plane by its number, float32 of shape (C, Y, X).
    n_planes
        How many there are.
    shape
        The new (Z, Y, X), each at least 1.
    out
        float32 of shape (C, *shape), written.
    """
    kept: dict[int, np.ndarray] = {}

    def resized(z: int) -> np.ndarray:
        if z not in kept:
            kept[z] = resize_bilinear(planes(z), shape[1:])
        return kept[z]

    _blend_planes(resized, kept, neighbours(n_planes, shape[0]), out)


def resize_volume_window(
    volume: np.ndarray, shape: tuple[int, int, int], window: tuple[slice, ...]
) -> np.ndarray:
    """Give a part of a resized volume, without the rest.

    Parameters
    ----------
    volume
        float32 of shape (C, Z, Y, X).
    shape
        The new (Z, Y, X).
    window
        Slices along Z, Y and X of ``shape``, not empty.

    Returns
    -------
    float32 of shape (C, *window), to be read only: a part of ``volume`` itself where that does.
    """
    if volume.shape[1:] == tuple(shape):
        return np.ascontiguousarray(volume[:, *window], np.float32)
    depth, rows, columns = window
    kept: dict[int, np.ndarray] = {}

    def resized(z: int) -> np.ndarray:
        if z not in kept:
            kept[z] = resize_window(volume[:, z], shape[1:], rows, columns)
        return kept[z]

    lower, upper, weight = (part[depth] for part in neighbours(volume.shape[1], shape[0]))
    out = np.empty((len(volume), *(part.stop - part.start for part in window)), np.float32)
    _blend_planes(resized, kept, (lower, upper, weight), out)
    return out


def _blend_planes(
    resized: Callable[[int], np.ndarray],
    kept: dict[int, np.ndarray],
    z: Neighbours,
    out: np.ndarray,
) -> None:
    """Write the weighted mean of the two planes next to each new one; old planes are let go."""
    for index, (lower, upper, weight) in enumerate(zip(*z, strict=True)):
        for old in [number for number in kept if number < lower]:
            del kept[old]
        if weight == 0:
            out[:, index] = resized(int(lower))
        else:
            part = np.float32(weight)
            out[:, index] = resized(int(lower)) * (1 - part) + resized(int(upper)) * part
