"""Corrected images as programs hand them over: one grey plane, and ROIs that are its objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellseg_engine.core.axes import check_axes, check_finite
from cellseg_engine.errors import ImageError
from cellseg_engine.train.faults import NAMED, TrainingDataError, name_some
from cellseg_engine.train.roi_labels import (
    RoiLabels,
    decode_rois,
    has_area,
    is_elsewhere,
    settle_rois,
)

_DTYPES = ("u1", "u2", "i2", "f4")
"""Of the TIFF files of ImageJ."""


def one_plane(pixels: np.ndarray, axes: str, title: str) -> tuple[np.ndarray, str]:
    """Give pixels as (Y, X) or (C, Y, X), with their axes.

    Raises
    ------
    AxesError, ImageError
        They are not of one grey plane, not finite, or of a kind that ImageJ has not.
    """
    pixels = np.asarray(pixels)
    axes = check_axes(axes, pixels.shape)
    sizes = dict(zip(axes, pixels.shape, strict=True))
    if "S" in axes:
        raise ImageError(
            f"{title} is an RGB image; the training set takes grey images.",
            hint="Make it grey first, as the model shall see it later (Image > Type > 8-bit).",
        )
    if pixels.dtype.str[1:] not in _DTYPES:
        raise ImageError(
            f"{title} has numbers of the kind {pixels.dtype}; the training set takes integers of 8 "
            "or 16 bits and floats of 32 bits.",
            hint="Convert it first (Image > Type > 16-bit or 32-bit).",
        )
    check_finite(pixels)
    n_planes = sizes.get("T", 1) * sizes.get("Z", 1)
    if n_planes > 1:
        raise ImageError(
            f"{title} is a stack of {n_planes} planes; the training set takes single planes.",
            hint="Take out the plane that you corrected (Image > Duplicate).",
        )
    ordered = pixels.transpose([axes.index(letter) for letter in "TZCYX" if letter in axes])
    if sizes.get("C", 1) > 1:
        return ordered.reshape(sizes["C"], sizes["Y"], sizes["X"]), "CYX"
    return ordered.reshape(sizes["Y"], sizes["X"]), "YX"


def draw_objects(archive: bytes, shape: tuple[int, ...], title: str) -> RoiLabels:
    """Give the label image of the ROIs of an archive.

    Parameters
    ----------
    shape
        (Y, X) or (C, Y, X) of the image.
    title
        Of the image, for messages.

    Raises
    ------
    ReadError
        The archive is damaged or empty.
    TrainingDataError
        A ROI is no object of this plane; it is named.
    """
    n_channels = shape[0] if len(shape) == 3 else 1
    rois = decode_rois(archive, f"of {title}")
    names = [roi.name or str(number) for number, roi in enumerate(rois, start=1)]
    _refuse(
        [name for name, roi in zip(names, rois, strict=True) if not has_area(roi)],
        "no area (lines, points or texts)",
        "Remove them from the ROI Manager; only areas are objects.",
    )
    _refuse(
        [name for name, roi in zip(names, rois, strict=True) if is_elsewhere(roi, n_channels)],
        f"a place on other slices or frames than the one of {title}",
        "Remove the ROIs of other images from the ROI Manager.",
    )
    drawn = settle_rois(rois, (shape[-2], shape[-1]), f"of {title}", n_channels)
    _refuse(
        drawn.outside,
        f"no pixel in {title}",
        "Remove the ROIs of other images from the ROI Manager.",
    )
    return drawn


def _refuse(names: Sequence[str], what: str, hint: str) -> None:
    if names:
        which = name_some(names)
        whose = f"The ROI {which} has" if len(names) == 1 else f"{len(names)} ROIs {which} have"
        raise TrainingDataError(f"{whose} {what}.", hint=hint)


def describe_overlaps(drawn: RoiLabels) -> list[str]:
    """Give sentences about ROIs that overlap."""
    remarks = []
    if drawn.covered:
        remarks.append(
            f"{len(drawn.covered)} ROIs were left out because others cover more than 75 % of them: "
            f"{', '.join(drawn.covered[:NAMED])}."
        )
    if drawn.n_overlap_px:
        remarks.append(
            f"ROIs overlap in {drawn.n_overlap_px} px, each of which went to the ROI with the "
            "nearest centre."
        )
    return remarks
