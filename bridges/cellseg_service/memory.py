"""Memory: how much there is, and how much a job needs at least."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import psutil

from cellseg_engine.core.axes import check_axes
from cellseg_engine.errors import MemoryNeededError
from cellseg_engine.pipeline.memory import amount, available_bytes, total_bytes
from cellseg_engine.settings import Settings
from cellseg_service.arrays import ArrayHeader

__all__ = [
    "amount",
    "available_bytes",
    "check_memory",
    "check_total",
    "describe",
    "needed_bytes",
    "output_bytes",
    "total_bytes",
]

MAX_SCALED_PIXELS = 250_000_000
"""Largest plane that the pipeline lets the network see."""
MODEL_DIAMETER_PX = 17.0
"""Of the usual models the smallest, so that what is needed is not overstated."""
BLOCK_PIXELS = 8_000_000
"""Pixels of the largest block in which the pipeline makes labels."""
_BLOCK_BYTES = 60
_FIELDS_BYTES = 12
_LABELS_BYTES = 12
"""Of a plane larger than a block: its labels while small objects and holes are looked for."""


def describe() -> dict[str, Any]:
    """Give the memory that this process uses and the machine has, for the status page."""
    return {
        "rss_bytes": int(psutil.Process().memory_info().rss),
        "total_bytes": total_bytes(),
    }


def needed_bytes(
    header: ArrayHeader,
    axes: str | None,
    settings: Settings,
    outputs: Collection[str],
) -> int:
    """Give what a job needs at least: the image, its labels and fields, the work on one plane.

    A large plane is worked on in blocks; then its fields at the network's scale and its labels
    come on top. ``MODEL_DIAMETER_PX`` over the diameter is how much the network's plane is
    larger; where the diameter is still to be estimated, as large is assumed. Of a volume only the
    labels count, since the pipeline plans the rest itself and refuses what does not fit.
    """
    pixels, plane = _pixels(header, axes)
    fields = _FIELDS_BYTES * pixels if {"probability", "flows"} & set(outputs) else 0
    stack = header.nbytes + header.size + 4 * pixels + fields
    if settings.volume_mode != "planes":
        return stack + _LABELS_BYTES * pixels
    scale = MODEL_DIAMETER_PX / settings.diameter_px if settings.diameter_px else 1.0
    scaled = min(MAX_SCALED_PIXELS, plane * scale**2)
    largest = max(plane, scaled)
    if largest <= BLOCK_PIXELS:
        return stack + int(_BLOCK_BYTES * largest)
    whole = _FIELDS_BYTES * scaled + _LABELS_BYTES * plane
    return stack + int(_BLOCK_BYTES * BLOCK_PIXELS + whole)


def check_memory(needed: int, available: int) -> None:
    """Refuse a job that does not fit now.

    Raises
    ------
    MemoryNeededError
        With the numbers.
    """
    if needed > available:
        raise _too_large(needed, f"{amount(available)} are free", ", or end other programs")


def check_total(needed: int) -> None:
    """Refuse a job that can never fit; errors as `check_memory`."""
    total = total_bytes()
    if needed > total:
        raise _too_large(needed, f"this computer has {amount(total)}", "")


def output_bytes(
    header: ArrayHeader, axes: str | None, settings: Settings, outputs: Collection[str]
) -> int:
    """Give the size of the arrays of a result, at most; flows of volumes have 3 components."""
    n_flows = 2 if settings.volume_mode == "planes" else 3
    per_pixel = {"labels": 4, "probability": 4, "flows": 4 * n_flows}
    return _pixels(header, axes)[0] * sum(per_pixel.get(name, 0) for name in set(outputs))


def _pixels(header: ArrayHeader, axes: str | None) -> tuple[int, int]:
    """Give the number of pixels of all planes, without channels, and of one plane."""
    name = check_axes(axes, header.shape)
    sizes = dict(zip(name, header.shape, strict=True))
    plane = sizes["Y"] * sizes["X"]
    return plane * math.prod(sizes.get(letter, 1) for letter in "TZ"), plane


def _too_large(needed: int, there_is: str, other_remedy: str) -> MemoryNeededError:
    return MemoryNeededError(
        f"The image does not fit into the memory: it needs at least {amount(needed)} and "
        f"{there_is}.",
        hint=f"Segment a part of it at a time, ask for fewer outputs{other_remedy}.",
    )
