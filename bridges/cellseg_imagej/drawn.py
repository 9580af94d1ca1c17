"""ROIs drawn in ImageJ as a label image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cellseg_engine.core.overlaps import Region, settle_overlaps
from cellseg_imagej.errors import JavaTypeError, RoiError
from cellseg_imagej.java import check_imageplus, describe_type, find_class, java_class
from cellseg_imagej.pixels import copy_from_java
from cellseg_imagej.rois import get_plane, is_object, parse_name

_NAMES_SHOWN = 5


class DrawnLabels(NamedTuple):
    """A label image that was drawn.

    Attributes
    ----------
    labels
        int32 of the shape that the axes say, 0 is background.
    axes
        Of ``T``, ``Z``, ``Y``, ``X``, those that the image has.
    remarks
        Sentences on what was changed: overlaps, and ROIs that were left out, by name.
    """

    labels: np.ndarray
    axes: str
    remarks: tuple[str, ...]


def rois_to_labels(rois: Any, image: Any) -> DrawnLabels:
    """Give ROIs as a label image of the size of an image.

    Each ROI is drawn on its own plane; one without a position is drawn on all. Where ROIs of a
    plane overlap, a pixel goes to the one with the nearest centroid, and a ROI that others cover
    by more than 75 % is left out (`cellseg_engine.core.overlaps`). The number of an object is the
    one its name begins with, if all names are those of CellSeg (``0012``, ``0012-3-1``); else
    they are numbered in their order.

    Parameters
    ----------
    rois
        List of ``ij.gui.Roi``, an ``Overlay``, or the ``RoiManager``.
    image
        ImagePlus that they belong to.

    Raises
    ------
    RoiError
        There are none, some are no areas (lines, points, texts, scale bars), or some lie on planes
        that the image does not have; they are named.
    JavaTypeError
        Something else was given.
    """
    check_imageplus(image, "rois_to_labels")
    found = list_rois(rois)
    width, height, _, n_slices, n_frames = (int(n) for n in image.getDimensions())
    _check_areas(found)
    planes = [get_plane(roi, n_slices, n_frames) for roi in found]
    _check_planes(found, planes, image, n_slices, n_frames)
    numbers, remarks = _number(found, planes)
    by_plane: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (z, t) in enumerate(planes):
        for frame in [t - 1] if t else range(n_frames):
            for depth in [z - 1] if z else range(n_slices):
                by_plane[frame, depth].append(index)
    labels = np.zeros((n_frames, n_slices, height, width), np.int32)
    regions = [_draw(roi, (height, width)) for roi in found]
    shared, covered = 0, set()
    for place, members in sorted(by_plane.items()):
        inside = [n for n in members if regions[n].mask.any()]
        settled = settle_overlaps([regions[n] for n in inside], (height, width))
        ids = np.array([0, *(numbers[n] for n in inside)], np.int32)
        labels[place] = ids[settled.labels]
        shared += settled.n_shared_px
        covered |= {inside[n] for n in settled.removed}
    remarks += _describe(found, regions, shared, sorted(covered))
    axes = "T" * (n_frames > 1) + "Z" * (n_slices > 1) + "YX"
    shape = [n for n in (n_frames, n_slices) if n > 1]
    return DrawnLabels(labels.reshape(*shape, height, width), axes, tuple(remarks))


def list_rois(rois: Any) -> list[Any]:
    """Give the ROIs of a list, an Overlay or the RoiManager.

    Raises
    ------
    RoiError
        There are none.
    JavaTypeError
        One is no ROI.
    """
    manager = find_class("ij.plugin.frame.RoiManager")
    roi_class = java_class("ij.gui.Roi")
    if rois is None:
        found: list[Any] = []
    elif isinstance(rois, java_class("ij.gui.Overlay")):
        found = list(rois.toArray())
    elif manager is not None and isinstance(rois, manager):
        found = list(rois.getRoisAsArray())
    elif isinstance(rois, roi_class):
        found = [rois]
    else:
        found = list(rois) if isinstance(rois, Iterable) else [rois]
    for roi in found:
        if not isinstance(roi, roi_class):
            raise JavaTypeError(
                f"ROIs are ij.gui.Roi, an Overlay or the RoiManager; this is {describe_type(roi)}."
            )
    if not found:
        raise RoiError("There are no ROIs.", hint="Draw some, or give the overlay of the image.")
    return found


def _check_areas(rois: Sequence[Any]) -> None:
    others = [roi for roi in rois if not is_object(roi)]
    if others:
        names = [f"{_name(roi)} ({str(roi.getTypeAsString()).lower()})" for roi in others]
        raise RoiError(
            f"{len(others)} of {len(rois)} ROIs have no area: {_shorten(names)}.",
            hint="Objects are areas; remove the others, or leave them out of the list.",
        )


def _check_planes(
    rois: Sequence[Any],
    planes: Sequence[tuple[int, int]],
    image: Any,
    n_slices: int,
    n_frames: int,
) -> None:
    away = [
        f"{_name(roi)} (slice {z or 'any'}, frame {t or 'any'})"
        for roi, (z, t) in zip(rois, planes, strict=True)
        if z > n_slices or t > n_frames
    ]
    if away:
        raise RoiError(
            f"{len(away)} of {len(rois)} ROIs lie on planes that {image.getTitle()} does not have "
            f"(it has {n_slices} slices and {n_frames} frames): {_shorten(away)}.",
            hint="Give the image that the ROIs belong to.",
        )


def _number(rois: Sequence[Any], planes: Sequence[tuple[int, int]]) -> tuple[list[int], list[str]]:
    """Give the labels of ROIs and remarks: those of their names, or their order."""
    in_order = list(range(1, len(rois) + 1))
    remark = "The names of the ROIs are no labels, so they were numbered in their order."
    numbers: list[int] = []
    places = set()
    for roi, plane in zip(rois, planes, strict=True):
        name = parse_name(str(roi.getName()))
        if name is None or not 0 < name[0] <= np.iinfo(np.int32).max:
            return in_order, [remark]
        # ImageJ's own names, such as 0001-0120-0345, are slice, y and x.
        is_other = name[1] and any(
            own and own != there for own, there in zip(plane, name[1:], strict=True)
        )
        if is_other or (name[0], plane) in places:
            return in_order, [remark]
        places.add((name[0], plane))
        numbers.append(name[0])
    return numbers, []


def _draw(roi: Any, shape: tuple[int, int]) -> Region:
    """Give the pixels of a ROI that lie in the image: those of ImageJ's own mask."""
    bounds = roi.getBounds()
    top, left = int(bounds.y), int(bounds.x)
    java = roi.getMask()
    if java is None:
        mask = np.ones((int(bounds.height), int(bounds.width)), bool)
    else:
        pixels = np.empty((int(java.getHeight()), int(java.getWidth())), np.uint8)
        copy_from_java(java.getPixels(), pixels)
        mask = pixels > 0
    above, before = max(0, -top), max(0, -left)
    cut = mask[above : max(0, shape[0] - top), before : max(0, shape[1] - left)]
    return Region(max(0, top), max(0, left), cut)


def _describe(
    rois: Sequence[Any], regions: Sequence[Region], shared: int, covered: Sequence[int]
) -> list[str]:
    remarks = []
    outside = [
        _name(roi) for roi, region in zip(rois, regions, strict=True) if not region.mask.any()
    ]
    if outside:
        remarks.append(f"{len(outside)} ROIs left out (outside the image): {_shorten(outside)}")
    if covered:
        names = [_name(rois[n]) for n in covered]
        remarks.append(
            f"{len(covered)} ROIs left out (more than 75 % of them under other ROIs): "
            f"{_shorten(names)}"
        )
    if shared:
        remarks.append(
            f"{shared} px of overlapping ROIs given to the ROI with the nearest centroid"
        )
    return remarks


def _name(roi: Any) -> str:
    return str(roi.getName() or "without a name")


def _shorten(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
