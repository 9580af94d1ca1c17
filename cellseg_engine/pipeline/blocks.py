"""Large planes: from fields to labels block by block, with bounded memory and no seams.

A block sees its core and a margin around it, the halo. An object belongs to the one block whose
core holds its centre, and that block sees the whole of it: where an object of the core comes near
the end of what is seen, the block is done again with a wider halo. What concerns all objects of a
plane (sizes, holes, ids) is done once at the end, on the whole label image.
See docs/decisions/0019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from cellseg_engine.backends.flow_unet import Fields
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


@dataclass(frozen=True)
class Block:
    """A part of a plane.

    Attributes
    ----------
    rows, columns
        The core; the cores of all blocks cover the plane once.
    """

    rows: slice
    columns: slice

    def window(self, halo: int, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Give the core with its halo, inside the plane (Y, X)."""
        rows, columns = (
            slice(max(0, core.start - halo), min(length, core.stop + halo))
            for core, length in zip((self.rows, self.columns), shape, strict=True)
        )
        return rows, columns


def plan_blocks(shape: tuple[int, int], halo: int, max_pixels: int) -> list[Block]:
    """Divide a plane (Y, X) so that each core with its halo has at most ``max_pixels``.

    A core has at least the width of the halo, even where that is more.
    """
    height = min(shape[0], math.isqrt(max_pixels))
    width = min(shape[1], max_pixels // height)
    height = min(shape[0], max_pixels // width)
    starts = []
    for length, side in zip(shape, (height, width), strict=True):
        core = length if side >= length else max(side - 2 * halo, halo, 1)
        count = math.ceil(length / core)
        starts.append([round(n * length / count) for n in range(count + 1)])
    return [
        Block(slice(y0, y1), slice(x0, x1))
        for y0, y1 in zip(starts[0], starts[0][1:], strict=False)
        for x0, x1 in zip(starts[1], starts[1][1:], strict=False)
    ]


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
    tracer = _Tracer(fields, settings, iterations, variant, max_pixels)
    halo = max(MIN_HALO_PX, math.ceil(HALO_DIAMETERS * diameter_px))
    blocks = plan_blocks(fields.shape, halo, max_pixels)
    for done, block in enumerate(blocks):
        on_block(done, len(blocks))
        tracer.add(block, halo)
    objects = clean_objects(tracer.labels, np.concatenate(tracer.errors), settings)
    return objects, (CUT_WARNING,) if tracer.is_cut else ()


class _Tracer:
    """Collects the objects of the blocks of a plane, before anything is dropped."""

    def __init__(
        self,
        fields: PlaneFields,
        settings: Settings,
        iterations: int,
        variant: str,
        max_pixels: int,
    ) -> None:
        self._fields = fields
        self._settings = settings
        self._iterations = iterations
        self._variant = cast(FlowVariant, variant)
        self._max_pixels = max_pixels
        self._count = 0
        self.labels = np.zeros(fields.shape, np.int32)
        self.errors = [np.array([np.nan])]
        self.is_cut = False

    def add(self, block: Block, halo: int) -> None:
        """Trace one block, again with a wider halo while an object of its core may go on."""
        while True:
            window = block.window(halo, self._fields.shape)
            part = self._fields.window(*window)
            labels = self._trace(part, (window[0].start, window[1].start))
            owned, goes_on = _judge(labels, block, window, self._fields.shape)
            wider = self._widen(block, halo) if goes_on else halo
            if wider == halo:
                self.is_cut |= goes_on
                break
            halo = wider
        self._take(keep_labels(labels, owned), part.flows, window)

    def _widen(self, block: Block, halo: int) -> int:
        """Give a wider halo, up to twice as wide; the same if memory allows no wider one."""
        wider = 2 * halo
        while wider >= halo + SEEN_MARGIN_PX:
            rows, columns = block.window(wider, self._fields.shape)
            n_pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
            if n_pixels <= MAX_GROWTH * self._max_pixels:
                return wider
            wider = (halo + wider) // 2
        return halo

    def _trace(self, part: Fields, origin: tuple[int, int]) -> np.ndarray:
        """Give the labels of what is seen; the largest size is a share of the whole plane."""
        share = self.labels.size / part.logit.size
        return trace_objects(
            part,
            probability_threshold=self._settings.probability_threshold,
            iterations=self._iterations,
            nearest=self._settings.interpolation == "nearest",
            max_size_fraction=self._settings.max_size_fraction * share,
            to_rest=self._settings.iterations == 0,
            origin=origin,
        )

    def _take(self, labels: np.ndarray, flows: np.ndarray, window: tuple[slice, slice]) -> None:
        """Keep the objects that no block before has taken."""
        there = self.labels[window]
        sizes = areas(labels)
        taken = np.bincount(labels[there > 0], minlength=sizes.size)
        is_new = taken <= SAME_SHARE * sizes
        errors = flow_errors(labels, flows, self._variant)[1:][is_new[1:]]
        labels = keep_labels(labels, is_new)
        np.add(labels, self._count, out=there, where=(labels > 0) & (there == 0))
        self._count += errors.size
        self.errors.append(errors)


def _judge(
    labels: np.ndarray, block: Block, window: tuple[slice, slice], shape: tuple[int, int]
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
    for axis, (core, seen) in enumerate(zip((block.rows, block.columns), window, strict=True)):
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
