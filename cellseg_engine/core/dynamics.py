"""Dynamics: follow the flow from every object pixel to where it comes to rest.

Euler steps of length 1 (Stringer et al. 2021, "Mask recovery from vector flows"). Points are
advanced in blocks of neighbours, whose surroundings fit the cache.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import prange

from cellseg_engine.core.kernels import parallel_kernel
from cellseg_engine.core.paths import follow_all
from cellseg_engine.core.sharing import deal_out
from cellseg_engine.errors import ImageError

_TILES = {2: (1, 64, 64), 3: (16, 16, 32)}
"""Extent (z, y, x) of a block of points, by the number of axes."""


def follow_flows(
    flows: np.ndarray,
    mask: np.ndarray,
    iterations: int,
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
    *,
    to_rest: bool = False,
    origin: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the start and the end of every pixel's path.

    Parameters
    ----------
    flows
        float32 of shape (2, Y, X): y and x component, unit length by convention; or (3, Z, Y, X),
        with z first. Pixels outside the mask count as zero.
    mask
        bool of shape (Y, X) or (Z, Y, X); its pixels are the starting points.
    iterations
        Number of steps.
    interpolation
        How the flow between pixels is read: ``bilinear`` (Cellpose's ``interp=True``; in a volume
        trilinear), or ``nearest``, the pixel that contains the truncated position (the paper, and
        the size estimate).
    to_rest
        Paths that are still on their way after ``iterations`` steps go on, a quarter of these
        steps at a time, as long as they get ahead by a quarter of a pixel per step. Other
        paths end as without it. So very long objects stay whole, and round ones are as before.
    origin
        Where the first pixel lies in a larger image of which this is a part. The ends are
        positions in that image then, rounded as they would be there.

    Returns
    -------
    starts
        int32 of shape (axes, N): positions of the mask's pixels, row by row.
    ends
        float32 of shape (axes, N), clamped to the image. They equal those of plain steps in
        float32 exactly, whatever the number of threads.

    Raises
    ------
    ImageError
        The shapes of ``flows`` and ``mask`` do not fit.
    """
    _check(flows, mask)
    places = (0, *(origin or (0,) * mask.ndim))[-3:]
    unit = np.ones(3, np.float32)
    return _follow(flows, mask, iterations, interpolation, to_rest, 0, places, unit, 0)


def follow_flows_beside(
    flows: np.ndarray,
    mask: np.ndarray,
    iterations: int,
    *,
    whole: tuple[int, int, int],
    origin: tuple[int, int, int] = (0, 0, 0),
) -> tuple[np.ndarray, np.ndarray]:
    """Follow the flow of a volume as Cellpose 3 does, which reads it a little beside the place.

    Parameters
    ----------
    flows, mask, iterations
        As `follow_flows`, of a volume.
    whole
        Shape (Z, Y, X) of the volume of which this is a part.
    origin
        Where the part begins.

    Returns
    -------
    As `follow_flows`.

    Notes
    -----
    Cellpose 3 divides positions p by S - 1, S being the size along an axis, and hands them to a
    function that takes them as divided by S. So the field is read, trilinearly and as zero
    outside, at q = p S / (S - 1) - 1/2: up to half a voxel before or behind p. In terms of q
    these are the usual steps, of a field S / (S - 1) times as large.
    """
    _check(flows, mask)
    size = np.array(whole, np.float32)
    scale = size / np.maximum(size - 1, 1)
    # The margin is counted as the first voxel, so q + 1 is followed and no place is negative.
    starts, ends = _follow(flows, mask, iterations, "bilinear", False, 1, origin, scale, 0.5)
    ends -= np.float32(0.5)
    ends /= scale[:, None]
    return starts, np.clip(ends, 0, size[:, None] - 1, out=ends)


def _check(flows: np.ndarray, mask: np.ndarray) -> None:
    axes = mask.ndim
    if axes not in _TILES or flows.shape != (axes, *mask.shape):
        raise ImageError(
            f"Flows of shape {flows.shape} do not fit a mask of shape {mask.shape}: (2, Y, X) and "
            "(Y, X), or (3, Z, Y, X) and (Z, Y, X), are needed."
        )


def _follow(
    flows: np.ndarray,
    mask: np.ndarray,
    iterations: int,
    interpolation: Literal["bilinear", "nearest"],
    to_rest: bool,
    margin: int,
    origin: tuple[int, ...],
    scale: np.ndarray,
    shift: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Follow points that begin at ``scale`` times their voxel plus ``shift``.

    The field is ``scale`` times the flow, and 0 in a margin of so many voxels around (0 or 1).
    """
    axes = mask.ndim
    shape = (1, *mask.shape)[-3:]
    mask = np.require(mask, np.bool_, ["C", "W"]).reshape(shape)
    flows = np.require(flows, np.float32, ["C", "W"]).reshape(axes, *shape)
    tile = _TILES[axes]
    padded = (shape[0] + axes - 2, shape[1] + 1, shape[2] + 1)
    padded = (padded[0] + 2 * margin, padded[1] + 2 * margin, padded[2] + 2 * margin)
    pairs = np.empty((*padded, 2), np.float32)
    depths = np.empty(padded if axes == 3 else (0, 0, 0), np.float32)
    counts = np.zeros((*shape[:2], -(-shape[2] // tile[2])), np.int32)
    _pack(flows, mask, scale, margin, pairs, depths, tile[2], counts)
    offsets = np.cumsum(counts, dtype=np.int64).reshape(counts.shape) - counts
    for axis in (0, 1):
        counts = np.add.reduceat(counts, np.arange(0, shape[axis], tile[axis]), axis=axis)
    total = int(counts.sum())
    starts, ends = np.empty((axes, total), np.int32), np.empty((axes, total), np.float32)
    order = deal_out(counts.ravel())
    follow_all(
        pairs.reshape(-1).view(np.uint64),
        depths.reshape(-1),
        mask,
        margin,
        origin,
        scale,
        np.float32(shift),
        offsets,
        order,
        counts.ravel(),
        tile,
        counts.shape,
        iterations,
        interpolation == "bilinear",
        to_rest,
        starts,
        ends,
    )
    return starts, ends


@parallel_kernel
def _pack(flows, mask, scale, margin, pairs, depths, tile_width, counts):  # type: ignore[no-untyped-def]
    """Write the field with one more voxel at the end of each axis, and count the mask's.

    The neighbour on the far side always exists then. The y and x component of a voxel lie
    together and are read as one number, z lies apart.
    """
    axes = flows.shape[0]
    n_planes, height, width = mask.shape
    lines, line = pairs.shape[1], pairs.shape[2]
    for row in prange(pairs.shape[0] * lines):
        to_z, to_y = row // lines, row % lines
        z, y = to_z - margin, to_y - margin
        if margin > 0 and not (0 <= z < n_planes and 0 <= y < height):
            pairs[to_z, to_y] = 0
            depths[to_z, to_y] = 0
            continue
        z, y = min(z, n_planes - 1), min(y, height - 1)
        for x in range(width):
            inside = mask[z, y, x]
            dy, dx = flows[axes - 2, z, y, x] * scale[1], flows[axes - 1, z, y, x] * scale[2]
            pairs[to_z, to_y, x + margin, 0] = dy if inside else np.float32(0)
            pairs[to_z, to_y, x + margin, 1] = dx if inside else np.float32(0)
            if axes == 3:
                dz = flows[0, z, y, x] * scale[0]
                depths[to_z, to_y, x + margin] = dz if inside else np.float32(0)
        if margin > 0:
            for x in (0, line - 2):
                pairs[to_z, to_y, x] = 0
                depths[to_z, to_y, x] = 0
        pairs[to_z, to_y, line - 1] = pairs[to_z, to_y, line - 2]
        if axes == 3:
            depths[to_z, to_y, line - 1] = depths[to_z, to_y, line - 2]
        if to_z - margin == z and to_y - margin == y:
            for x in range(width):
                counts[z, y, x // tile_width] += mask[z, y, x]
