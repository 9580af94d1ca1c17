"""Large planes and volumes: from fields to labels block by block, in bounded memory, no seams.

A block sees its core and a margin around it, the halo. An object belongs to the one block whose
core holds its centre, and that block sees the whole of it: where an object of the core comes near
the end of what is seen, the block is done again with a wider halo. What concerns all objects of a
plane (sizes, holes, ids) is done once at the end, on the whole label image.
See docs/decisions/0019. Volumes do the same with one more axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.flows import flow_errors
from cellseg_engine.core.labels import areas, bounding_boxes, centroids, keep_labels
from cellseg_engine.pipeline.masks import (
    PlaneObjects,
    clean_objects,
    fields_to_labels,
    trace_objects,
)
from cellseg_engine.pipeline.plane_fields import PlaneFields
from cellseg_engine.settings import Settings

MAX_BLOCK_PIXELS = 8_000_000
"""Planes up to this size are one block; the work on a block takes about 60 bytes a pixel."""
HALO_DIAMETERS = 2.0
MIN_HALO_PX = 16
SEEN_MARGIN_PX = 4
"""An object that comes nearer to the end of what a block sees may go on beyond it."""
MAX_GROWTH = 4
"""A block never sees more than this many times `MAX_BLOCK_PIXELS`."""
CORE_MARGIN_PX = 1.0
"""A centre this near to a core counts for its block too; the block that comes first keeps it."""
SAME_SHARE = 0.5

CUT_WARNING = (
    "Some objects are so large that they were cut where the image was divided for its size; give "
    "diameter_px if they are none, or shrink the image."
)

Window = tuple[slice, ...]


@dataclass(frozen=True)
class Block:
    """A part of a plane or volume.

    Attributes
    ----------
    core
        One slice for each axis; the cores of all blocks cover the whole once.
    """

    core: Window

    def window(self, halo: tuple[int, ...], shape: tuple[int, ...]) -> Window:
        """Give the core with its halo, inside the whole."""
        return tuple(
            slice(max(0, core.start - width), min(length, core.stop + width))
            for core, width, length in zip(self.core, halo, shape, strict=True)
        )


@dataclass(frozen=True)
class Traced:
    """The objects of what a block sees.

    Attributes
    ----------
    labels
        int32 of the window's shape.
    errors
        Gives the flow error of every id of labels of that shape, (largest id + 1,).
    """

    labels: np.ndarray
    errors: Callable[[np.ndarray], np.ndarray]


def plan_blocks(shape: tuple[int, ...], halo: tuple[int, ...], max_pixels: int) -> list[Block]:
    """Divide a plane or volume so that each core with its halo has at most ``max_pixels``.

    A core has at least the width of the halo, even where that is more.
    """
    sides = _block_sides(shape, max_pixels)
    cores = []
    for length, side, width in zip(shape, sides, halo, strict=True):
        core = length if side >= length else max(side - 2 * width, width, 1)
        count = math.ceil(length / core)
        starts = [round(n * length / count) for n in range(count + 1)]
        cores.append([slice(*pair) for pair in itertools.pairwise(starts)])
    return [Block(core) for core in itertools.product(*cores)]


def window_size(window: Window) -> int:
    """Give the number of pixels of a window."""
    return math.prod(part.stop - part.start for part in window)


def largest_window(shape: tuple[int, ...], halo: tuple[int, ...], max_pixels: int) -> int:
    """Give the pixels that the largest block sees to begin with; all, if there is but one."""
    if math.prod(shape) <= max_pixels:
        return math.prod(shape)
    blocks = plan_blocks(shape, halo, max_pixels)
    return max(window_size(block.window(halo, shape)) for block in blocks)


def _block_sides(shape: tuple[int, ...], max_pixels: int) -> list[int]:
    """Give the sides of a block of that many pixels: all equal, but for those of short axes."""
    sides = list(shape)
    left = max_pixels
    by_length = sorted(range(len(shape)), key=shape.__getitem__)
    for done, axis in enumerate(by_length):
        n_axes = len(shape) - done
        root = math.floor(left ** (1 / n_axes) + 1e-9)
        sides[axis] = max(1, min(shape[axis], root))
        left //= sides[axis]
    return sides


def trace_plane(
    fields: PlaneFields,
    settings: Settings,
    *,
    iterations: int,
    diameter_px: float,
    variant: str,
    max_pixels: int = 0,
    on_block: Callable[[int, int], None] = lambda *_: None,
) -> tuple[PlaneObjects, tuple[str, ...]]:
    """Give the objects of a plane, in blocks if it is large.

    Parameters
    ----------
    fields
        Of the plane.
    settings, iterations, variant
        See `cellseg_engine.pipeline.masks.fields_to_labels`.
    diameter_px
        Of the objects, for the halo.
    max_pixels
        Pixels of the largest block; 0 takes `MAX_BLOCK_PIXELS`.
    on_block
        Called with (blocks done, blocks in all) before each block; an exception raised there
        stops the work.

    Returns
    -------
    The objects, and sentences for the user.

    Notes
    -----
    Objects are those of the plane in one block, pixel for pixel; only their ids come in another
    order (and with it, where holes of two objects overlap, who gets them).
    """
    max_pixels = max_pixels or MAX_BLOCK_PIXELS
    if fields.shape[0] * fields.shape[1] <= max_pixels:
        return fields_to_labels(fields.whole(), settings, iterations, variant), ()
    flow_variant = cast(FlowVariant, variant)

    def trace(window: Window) -> Traced:
        rows, columns = window
        part = fields.window(rows, columns)
        # The largest size is a share of the whole plane.
        share = fields.shape[0] * fields.shape[1] / part.logit.size
        labels = trace_objects(
            part,
            probability_threshold=settings.probability_threshold,
            iterations=iterations,
            nearest=settings.interpolation == "nearest",
            max_size_fraction=settings.max_size_fraction * share,
            to_rest=settings.iterations == 0,
            origin=(rows.start, columns.start),
        )
        return Traced(labels, lambda labels: flow_errors(labels, part.flows, flow_variant))

    halo = halo_px(diameter_px)
    found = trace_blocks(trace, fields.shape, (halo, halo), max_pixels, on_block)
    objects = clean_objects(found.labels, found.errors, settings)
    return objects, (CUT_WARNING,) if found.is_cut else ()


def halo_px(diameter_px: float) -> int:
    """Give the width of the halo for objects of a diameter."""
    return max(MIN_HALO_PX, math.ceil(HALO_DIAMETERS * diameter_px))


@dataclass(frozen=True)
class Found:
    """The objects of all blocks, before anything is dropped.

    Attributes
    ----------
    labels
        int32 of the whole's shape, ids 1 to n.
    errors
        Flow error of every id, shape (n + 1,).
    is_cut
        Whether objects were larger than what a block may see.
    """

    labels: np.ndarray
    errors: np.ndarray
    is_cut: bool


def trace_blocks(
    trace: Callable[[Window], Traced],
    shape: tuple[int, ...],
    halo: tuple[int, ...],
    max_pixels: int,
    on_block: Callable[[int, int], None] = lambda *_: None,
) -> Found:
    """Give the objects of a plane or volume, block by block.

    Parameters
    ----------
    trace
        Gives the objects of a window.
    shape
        Of the whole.
    halo
        Along each axis, to begin with.
    max_pixels
        Of a block with its halo.
    on_block
        As for `trace_plane`.
    """
    tracer = _Tracer(trace, shape, max_pixels)
    blocks = plan_blocks(shape, halo, max_pixels)
    for done, block in enumerate(blocks):
        on_block(done, len(blocks))
        tracer.add(block, halo)
    return Found(tracer.labels, np.concatenate(tracer.errors), tracer.is_cut)


class _Tracer:
    """Collects the objects of the blocks, before anything is dropped."""

    def __init__(
        self, trace: Callable[[Window], Traced], shape: tuple[int, ...], max_pixels: int
    ) -> None:
        self._trace = trace
        self._shape = shape
        self._max_pixels = max_pixels
        self._count = 0
        self.labels = np.zeros(shape, np.int32)
        self.errors = [np.array([np.nan])]
        self.is_cut = False

    def add(self, block: Block, halo: tuple[int, ...]) -> None:
        """Trace one block, again with a wider halo while an object of its core may go on."""
        while True:
            window = block.window(halo, self._shape)
            traced = self._trace(window)
            owned, goes_on = _judge(traced.labels, block, window, self._shape)
            wider = self._widen(block, halo) if goes_on else halo
            if wider == halo:
                self.is_cut |= goes_on
                break
            halo = wider
            del traced  # or it would stay while the next one is made
        self._take(keep_labels(traced.labels, owned), traced, window)

    def _widen(self, block: Block, halo: tuple[int, ...]) -> tuple[int, ...]:
        """Give a wider halo, up to twice as wide; the same if memory allows no wider one."""
        factor = 2.0
        while max(wider := tuple(int(factor * n) for n in halo)) >= max(halo) + SEEN_MARGIN_PX:
            n_pixels = window_size(block.window(wider, self._shape))
            if n_pixels <= MAX_GROWTH * self._max_pixels:
                return wider
            factor = (1 + factor) / 2
        return halo

    def _take(self, labels: np.ndarray, traced: Traced, window: Window) -> None:
        """Keep the objects that no block before has taken."""
        there = self.labels[window]
        sizes = areas(labels)
        taken = np.bincount(labels[there > 0], minlength=sizes.size)
        is_new = taken <= SAME_SHARE * sizes
        errors = traced.errors(labels)[1:][is_new[1:]]
        labels = keep_labels(labels, is_new)
        np.add(labels, self._count, out=there, where=(labels > 0) & (there == 0))
        self._count += errors.size
        self.errors.append(errors)


def _judge(
    labels: np.ndarray, block: Block, window: Window, shape: tuple[int, ...]
) -> tuple[np.ndarray, bool]:
    """Say which objects have their centre in the core, and whether one of the core may go on.

    Returns
    -------
    bool of shape (largest id + 1,), and a bool.
    """
    centres = centroids(labels)
    boxes = bounding_boxes(labels)
    owned = np.ones(len(boxes), bool)
    concerns = np.ones(len(boxes), bool)
    goes_on = np.zeros(len(boxes), bool)
    for axis, (core, seen) in enumerate(zip(block.core, window, strict=True)):
        centre = centres[:, axis] + seen.start
        start, stop = boxes[:, 2 * axis] + seen.start, boxes[:, 2 * axis + 1] + seen.start
        owned &= (centre >= core.start - 0.5 - CORE_MARGIN_PX) & (
            centre < core.stop - 0.5 + CORE_MARGIN_PX
        )
        concerns &= (start < core.stop) & (stop > core.start)
        if seen.start > 0:
            goes_on |= start < seen.start + SEEN_MARGIN_PX
        if seen.stop < shape[axis]:
            goes_on |= stop > seen.stop - SEEN_MARGIN_PX
    return owned, bool((goes_on & (concerns | owned))[1:].any())
