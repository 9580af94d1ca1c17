"""Annotations as they should be: whole numbers, one connected part per object, no crumbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from skimage.measure import label as connected_parts

from cellseg_engine.core.axes import to_planes
from cellseg_engine.core.labels import NOT_ANNOTATED, areas, keep_labels
from cellseg_engine.errors import AxesError, ReadError
from cellseg_engine.io.images import read_labels
from cellseg_engine.train.roi_labels import read_roi_labels
from cellseg_engine.train.seg_file import read_seg_labels
from cellseg_engine.train.sources import Source

Disjoint = Literal["split", "keep"]
UINT16_MAX = 65_535


@dataclass(frozen=True)
class Annotation:
    """The labels of one file.

    Attributes
    ----------
    planes
        int32 of shape (T, Z, Y, X), `NOT_ANNOTATED` where nothing is known.
    remarks
        What was left out in reading it, with the reason.
    """

    planes: np.ndarray
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class CleanLabels:
    """The labels of one plane, ready for training.

    Attributes
    ----------
    labels
        int32 of shape (Y, X), ids 1 to n.
    n_objects
        n.
    remarks
        What was changed, and why.
    annotated
        bool of shape (Y, X), False where nothing is known; None if it is known everywhere.
    """

    labels: np.ndarray
    n_objects: int
    remarks: tuple[str, ...]
    annotated: np.ndarray | None = None


def read_annotation(
    source: Source, shape: tuple[int, int, int, int], axes: str, n_channels: int = 1
) -> Annotation:
    """Read the annotation of an image.

    Parameters
    ----------
    source
        The image and its annotation.
    shape
        (T, Z, Y, X) of the image.
    axes
        Of ``T``, ``Z``, ``Y``, ``X``, those that the image has.
    n_channels
        Of the image.

    Raises
    ------
    ReadError
        Not readable, not whole numbers, or of another shape than the image.
    """
    remarks: list[str] = []
    if source.annotation_kind == "rois":
        if shape[:2] != (1, 1):
            raise ReadError(
                f"{source.image} is a stack; ROIs can annotate single planes only.",
                hint="Give a label image for the stack.",
            )
        drawn = read_roi_labels(source.annotation, shape[2:], n_channels)
        for names, why in (
            (drawn.not_areas, "no area"),
            (drawn.outside, "outside the image"),
            (drawn.covered, "more than 75 % of them under other ROIs"),
        ):
            if names:
                remarks.append(f"{len(names)} ROIs left out ({why}): {', '.join(names[:5])}")
        if drawn.n_overlap_px:
            remarks.append(
                f"{drawn.n_overlap_px} px of overlapping ROIs given to the ROI with the nearest "
                "centroid"
            )
        return Annotation(drawn.labels[np.newaxis, np.newaxis], tuple(remarks))
    if source.annotation_kind == "seg":
        labels, label_axes = _as_int32(source, read_seg_labels(source.annotation)), ""
    else:
        labels, label_axes = _read_label_image(source, axes)
    if int(labels.max(initial=0)) > UINT16_MAX:
        remarks.append(f"ids up to {labels.max():,} (above 65,535) numbered anew")
    if not label_axes:
        label_axes = "YX" if labels.ndim == 2 else axes[-labels.ndim :]
    planes = to_planes(labels, label_axes).pixels[:, :, 0]
    if 1 in shape[:2] and planes.shape == (shape[1], shape[0], *shape[2:]):
        planes = planes.reshape(shape)  # planes along Z and time points along T, or the reverse
    if planes.shape != shape:
        raise ReadError(
            f"{source.annotation} has {_size(planes.shape)} and its image {source.image} has "
            f"{_size(shape)}.",
            hint="An annotation must have exactly the size of its image.",
        )
    return Annotation(planes, tuple(remarks))


def clean_labels(labels: np.ndarray, disjoint: Disjoint) -> CleanLabels:
    """Number objects 1 to n, without objects of a single pixel.

    Parameters
    ----------
    labels
        int32 of shape (Y, X), any ids, and `NOT_ANNOTATED`.
    disjoint
        What becomes of an id whose pixels are in several parts that do not touch, not even at a
        corner: ``split`` makes each part an object, ``keep`` leaves them one. Flows of a kept
        object lead to the centre within one part only; they are zero in the others.
    """
    annotated = labels != NOT_ANNOTATED
    labels = np.where(annotated, labels, 0)
    parts = connected_parts(labels, background=0, connectivity=2)  # type: ignore[no-untyped-call]
    parts = np.asarray(parts, np.int32)
    first = np.unique(parts, return_index=True)[1]
    owners = labels.ravel()[first]
    ids, n_parts = np.unique(owners[owners > 0], return_counts=True)
    scattered = ids[n_parts > 1]
    remarks: list[str] = []
    if scattered.size:
        done = "split into their parts" if disjoint == "split" else "kept as they are"
        remarks.append(
            f"{scattered.size} disjoint labels {done}: {', '.join(map(str, scattered[:5]))}"
        )
    if disjoint == "split":
        numbered = parts
    else:
        numbered = np.searchsorted(np.append(0, ids), labels).astype(np.int32)
    sizes = areas(numbered)
    crumbs = int(np.count_nonzero(sizes == 1))
    if crumbs:
        remarks.append(f"{crumbs} labels of a single pixel left out")
    cleaned = keep_labels(numbered, sizes > 1)
    n_objects = int(cleaned.max(initial=0))
    if annotated.all():
        return CleanLabels(cleaned, n_objects, tuple(remarks))
    remarks.append(f"{annotated.mean():.0%} of the image is annotated; the rest is not learned")
    return CleanLabels(cleaned, n_objects, tuple(remarks), annotated)


def _read_label_image(source: Source, axes: str) -> tuple[np.ndarray, str]:
    try:
        return read_labels(source.annotation, lowest=NOT_ANNOTATED)
    except AxesError:
        return read_labels(source.annotation, axes=axes, lowest=NOT_ANNOTATED)


def _as_int32(source: Source, masks: np.ndarray) -> np.ndarray:
    is_whole = masks.dtype.kind != "f" or np.array_equal(masks, np.trunc(masks))
    if not is_whole or masks.min(initial=0) < 0 or masks.max(initial=0) > np.iinfo(np.int32).max:
        raise ReadError(
            f"The masks of {source.annotation} are not whole numbers from 0 to 2,147,483,647.",
            hint="Save them again in the Cellpose interface.",
        )
    return masks.astype(np.int32)


def _size(shape: tuple[int, ...]) -> str:
    time, depth, height, width = shape
    planes = f" in {time * depth} planes" if time * depth > 1 else ""
    return f"{height} x {width} px{planes}"
