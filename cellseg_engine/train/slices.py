"""What there is to learn from one annotated image: its planes, or a volume's slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cellseg_engine.core.axes import PlaneStack
from cellseg_engine.core.labels import areas, median_diameter_of, with_small_ids
from cellseg_engine.core.resize import nearest_indices
from cellseg_engine.core.volumes import VIEWS, scaled_volume_shape
from cellseg_engine.pipeline.prepare import Preparation
from cellseg_engine.pipeline.volume import show_volume

Slices = Literal["planes", "all"]


@dataclass(frozen=True)
class Slice:
    """A plane to learn from, or a cut through a volume.

    Attributes
    ----------
    name
        What to call it within its image: empty, ``plane 3`` or ``XZ 12``.
    pixels
        float32 of shape (C, Y, X), as the network sees it.
    labels
        int32 of shape (Y, X), any ids.
    has_contrast
        Whether its first channel shows anything.
    diameter_px
        At which it is to be seen; 0 for that of its own objects.
    """

    name: str
    pixels: np.ndarray
    labels: np.ndarray
    has_contrast: bool
    diameter_px: float = 0.0


def cut_planes(stack: PlaneStack, labels: np.ndarray, preparation: Preparation) -> Iterator[Slice]:
    """Give each plane of a stack, normalised by itself.

    Parameters
    ----------
    labels
        int32 of shape (T, Z, Y, X).
    """
    planes = labels.reshape(-1, *labels.shape[2:])
    for index, (pixels, ids) in enumerate(zip(stack.planes(), planes, strict=True)):
        prepared = preparation.plane(pixels)
        name = "" if stack.n_planes == 1 else f"plane {index + 1}"
        yield Slice(name, prepared.pixels, ids, prepared.has_contrast)


def cut_volumes(
    stack: PlaneStack,
    labels: np.ndarray,
    preparation: Preparation,
    anisotropy: float,
) -> Iterator[Slice]:
    """Give all slices of volumes in XY, XZ and YZ, as the network sees them in three views.

    Stringer et al. 2021, Methods, "3D model". Pixels are normalised over the volume, planes are
    moved apart until voxels are as deep as wide, and all slices of a volume are to be seen at one
    diameter, the median over the cuts of its objects in XY: as when it is segmented.

    Parameters
    ----------
    labels
        int32 of shape (T, Z, Y, X).
    anisotropy
        How many times deeper than wide voxels are.
    """
    for frame, (pixels, ids) in enumerate(zip(stack.pixels, labels, strict=True), start=1):
        time = f"time {frame} " if len(labels) > 1 else ""
        shape = scaled_volume_shape(ids.shape, 1.0, anisotropy)
        seen = np.empty((preparation.n_channels, *shape), np.float32)
        has_contrast = show_volume(pixels, preparation, seen).has_contrast
        deep = ids[nearest_indices(len(ids), shape[0])]
        diameter = _diameter_of_cuts(ids)
        for view in VIEWS:
            cuts = zip(view.slices(seen), view.slices(deep), strict=True)
            for index, (part, there) in enumerate(cuts, start=1):
                yield Slice(
                    f"{time}{view.name} {index}",
                    np.ascontiguousarray(part),
                    np.ascontiguousarray(there),
                    has_contrast,
                    diameter,
                )


def _diameter_of_cuts(labels: np.ndarray) -> float:
    """Give the median diameter of the cuts through the objects of a volume, in px of a plane."""
    counts = [areas(with_small_ids(np.maximum(plane, 0))) for plane in labels]
    return median_diameter_of(np.concatenate([of_plane[of_plane > 0] for of_plane in counts]))
