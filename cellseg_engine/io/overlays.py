"""Overlays: the image with the outlines of its objects, for the eye."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import imagecodecs
import numpy as np
from numba import njit

from cellseg_engine.core.labels import median_diameter
from cellseg_engine.core.outlines import outline_mask
from cellseg_engine.core.resize import nearest_indices

PALETTE = np.array(
    [
        (255, 225, 25),
        (0, 230, 255),
        (255, 70, 200),
        (90, 255, 60),
        (255, 140, 20),
        (110, 160, 255),
        (255, 80, 80),
        (195, 120, 255),
    ],
    np.uint8,
)
"""Bright colours that differ from one another and from grey."""

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.8
GREY_MAX = 210
"""White of a grey image, darker than the lines so that they show on bright objects too."""
_SAMPLED_PIXELS = 1_000_000
_WIDE_FROM_PX = 1500
_WIDE_FROM_DIAMETER_PX = 16
_NEAR_PX = 4
_GAP_PX = 6
"""Between views of a volume; more than the distance at which colours have to differ."""


def render_overlay(
    image: np.ndarray, labels: np.ndarray, paths: Mapping[int, np.ndarray] | None = None
) -> np.ndarray:
    """Draw the outlines of the objects onto the image.

    Objects near one another get different colours. The line lies on the rim pixels of each
    object, two pixels wide in images above 1500 px whose objects are not tiny.

    Parameters
    ----------
    image
        Numbers of shape (Y, X), or (Y, X, 3) for red, green, blue; any range, shown from the
        0.5th to the 99.8th percentile (of all colours together).
    labels
        int of shape (Y, X), 0 is background.
    paths
        For a frame of a time series whose ids are tracks: for each id the (y, x) where it was in
        its frames, in order. The paths of the objects in this frame are drawn, as far as they
        are given, and an id has the same colour in every frame.

    Returns
    -------
    uint8 of shape (Y, X, 3).

    Raises
    ------
    ValueError
        Image and labels have different shapes.
    """
    if image.shape not in (labels.shape, (*labels.shape, 3)):
        raise ValueError(
            f"`image` (shape {image.shape}) must have the shape of `labels` {labels.shape}, "
            "and 3 samples if it is coloured."
        )
    shown = _stretch(image, GREY_MAX if image.ndim == 2 else 255)
    canvas = shown if shown.ndim == 3 else np.repeat(shown[..., np.newaxis], 3, axis=2)
    rim = outline_mask(labels)
    if paths is None:
        colours = _colours(labels, rim)
    else:
        colours = (np.arange(int(labels.max(initial=0)) + 1) - 1) % len(PALETTE)
        _draw_paths(canvas, labels, paths, colours)
    is_large = max(labels.shape) > _WIDE_FROM_PX
    if is_large and median_diameter(labels) >= _WIDE_FROM_DIAMETER_PX:
        rim |= outline_mask(np.where(rim, 0, labels))
    canvas[rim] = PALETTE[colours[labels[rim]]]
    return canvas


def orthogonal_views(
    volume: np.ndarray, labels: np.ndarray, anisotropy: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give three slices through a volume as one picture, for `render_overlay`.

    Each is the one of its direction that shows most of the objects. XY at the top left; XZ below
    it, with the first plane at the top; YZ to the right of it, with the first plane at the left.
    Planes are repeated so that voxels look as deep as they are.

    Parameters
    ----------
    volume
        Numbers of shape (Z, Y, X), or (Z, Y, X, 3) for red, green, blue.
    labels
        int of shape (Z, Y, X).
    anisotropy
        Depth of a voxel over its width.

    Returns
    -------
    image
        float32 of shape (height, width), or with 3 samples; NaN between the views.
    labels
        int of the picture's shape, 0 between the views.
    """
    depth, height, width = labels.shape
    n_rows = max(1, round(depth * anisotropy))
    z = nearest_indices(depth, n_rows)
    shape = (height + _GAP_PX + n_rows, width + _GAP_PX + n_rows)
    image = np.full((*shape, *volume.shape[3:]), np.nan, np.float32)
    ids = np.zeros(shape, labels.dtype)
    at = _fullest_slices(labels)
    for whole, source in ((image, volume), (ids, labels)):
        whole[:height, :width] = source[at[0]]
        whole[height + _GAP_PX :, :width] = source[z, at[1]]
        whole[:height, width + _GAP_PX :] = source[z, :, at[2]].swapaxes(0, 1)
    return image, ids


def _fullest_slices(labels: np.ndarray) -> list[int]:
    """Give along Z, Y and X the slice with most voxels of objects, of equal ones the middlemost."""
    counts = [np.zeros(length, np.int64) for length in labels.shape]
    for z, plane in enumerate(labels):
        inside = plane > 0
        counts[0][z] = np.count_nonzero(inside)
        counts[1] += np.count_nonzero(inside, axis=1)
        counts[2] += np.count_nonzero(inside, axis=0)
    fullest = [np.flatnonzero(count == count.max()) for count in counts]
    middles = [(length - 1) / 2 for length in labels.shape]
    return [
        int(best[np.abs(best - middle).argmin()])
        for best, middle in zip(fullest, middles, strict=True)
    ]


def write_overlay(
    path: Path,
    image: np.ndarray,
    labels: np.ndarray,
    paths: Mapping[int, np.ndarray] | None = None,
) -> None:
    """Write `render_overlay` as a PNG file.

    Raises
    ------
    OSError
        The file cannot be written; inside `staged` it is a `WriteError`.
    """
    path.write_bytes(imagecodecs.png_encode(render_overlay(image, labels, paths), level=3))


def thumbnail(rgb: np.ndarray, max_px: int) -> np.ndarray:
    """Shrink a picture by a whole factor, averaging, until no side is longer than ``max_px``.

    Parameters
    ----------
    rgb
        uint8 of shape (Y, X, 3).
    max_px
        Largest side allowed, at least 1.

    Returns
    -------
    uint8 of shape (y, x, 3); the picture itself when it is small enough. The last incomplete
    rows and columns of blocks are left out.
    """
    factor = -(-max(rgb.shape[:2]) // max_px)
    if factor <= 1:
        return rgb
    rows, columns = (max(side // factor, 1) for side in rgb.shape[:2])
    step_y, step_x = (min(factor, side) for side in rgb.shape[:2])
    blocks = rgb[: rows * step_y, : columns * step_x].reshape(rows, step_y, columns, step_x, 3)
    means: np.ndarray = blocks.mean(axis=(1, 3), dtype=np.float32)
    return np.asarray(np.rint(means), np.uint8)


def _stretch(image: np.ndarray, white: int) -> np.ndarray:
    """Give uint8 of the same shape, 0 at the low percentile and ``white`` at the high one."""
    step = max(1, int(np.sqrt(image.size / _SAMPLED_PIXELS)))
    sample = image[::step, ::step].astype(np.float32)
    finite = sample[np.isfinite(sample)]
    if finite.size == 0:
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(finite, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    factor = white / max(high - low, 1e-30)
    scaled = (image.astype(np.float32) - np.float32(low)) * np.float32(factor)
    return np.asarray(np.nan_to_num(np.clip(scaled, 0, white), nan=0), np.uint8)


def _draw_paths(
    canvas: np.ndarray, labels: np.ndarray, paths: Mapping[int, np.ndarray], colours: np.ndarray
) -> None:
    """Draw the paths of the objects that are there, in place."""
    limits = np.array(labels.shape) - 1
    for label in paths.keys() & set(np.unique(labels[labels > 0]).tolist()):
        places = np.clip(np.rint(paths[label]).astype(int), 0, limits).tolist()
        for (y0, x0), (y1, x1) in itertools.pairwise(places):
            steps = max(abs(y1 - y0), abs(x1 - x0)) + 1
            rows, columns = (np.rint(np.linspace(*ends, steps)) for ends in ((y0, y1), (x0, x1)))
            canvas[rows.astype(int), columns.astype(int)] = PALETTE[colours[label]]


def _colours(labels: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """Give an index into `PALETTE` for every id, different for objects that are near."""
    n_ids = int(labels.max(initial=0)) + 1
    pairs = _near_pairs(labels, rim)
    starts = np.searchsorted(pairs[:, 0], np.arange(n_ids + 1))
    present = np.unique(labels[rim]).astype(np.int64)
    return np.asarray(_choose_colours(present, starts, pairs[:, 1].copy(), len(PALETTE)))


@njit(cache=True, nogil=True)
def _choose_colours(present, starts, neighbours, n_colours):  # type: ignore[no-untyped-def]
    """Give each id in turn the least used colour that no near one has, or the least used one."""
    colours = np.full(len(starts) - 1, -1)
    used = np.zeros(n_colours, np.int64)
    for label in present:
        is_free = np.ones(n_colours, np.bool_)
        for index in range(starts[label], starts[label + 1]):
            near = colours[neighbours[index]]
            if near >= 0:
                is_free[near] = False
        best = -1
        for colour in range(n_colours):
            is_allowed = is_free[colour] or not is_free.any()
            if is_allowed and (best < 0 or used[colour] < used[best]):
                best = colour
        colours[label] = best
        used[best] += 1
    return colours


def _near_pairs(labels: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """Give pairs of ids whose rims come near, both ways, sorted; int64 of shape (n, 2)."""
    rows, columns = np.nonzero(rim)
    here = labels[rows, columns].astype(np.int64)
    n_ids = int(labels.max(initial=0)) + 1
    codes = []
    for step_y, step_x in ((0, 1), (1, 0), (1, 1), (1, -1)):
        for distance in range(1, _NEAR_PX + 1):
            there = labels[
                np.clip(rows + distance * step_y, 0, labels.shape[0] - 1),
                np.clip(columns + distance * step_x, 0, labels.shape[1] - 1),
            ].astype(np.int64)
            differ = (there != here) & (there > 0)
            codes.append(np.unique(here[differ] * n_ids + there[differ]))
    forth = np.stack(np.divmod(np.concatenate(codes), n_ids), axis=1)
    return np.unique(np.concatenate([forth, forth[:, ::-1]]), axis=0)
