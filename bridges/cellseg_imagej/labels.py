"""Label images in ImageJ: 16-bit up to 65,535 objects, then 32-bit, with a look-up table."""

from __future__ import annotations

from typing import Any

import numpy as np

from cellseg_engine.core.axes import check_axes, to_planes
from cellseg_engine.errors import AxesError, ImageError
from cellseg_imagej.arrays import MAX_EXACT_FLOAT, make_imageplus
from cellseg_imagej.calibration import Calibration, make_calibration
from cellseg_imagej.java import java_class
from cellseg_imagej.pixels import to_java

ENDING = "-labels"
MAX_SHORT = 65_535
_COLOURS = 256
_HUE_STEP = 0.2775
_SATURATIONS = (1.0, 0.45, 0.75)
_BRIGHTNESSES = (1.0, 0.85)


def labels_to_imageplus(
    labels: np.ndarray,
    axes: str | None = None,
    calibration: Calibration | None = None,
    *,
    like: Any | None = None,
    title: str | None = None,
) -> Any:
    """Give labels as an ImagePlus, the one that *Plugins > CellSeg > Segment Cells* shows.

    Parameters
    ----------
    labels
        Whole numbers from 0, of the shape that the axes say.
    axes
        Of ``T``, ``Z``, ``Y``, ``X``; may be left out for 2-D labels.
    calibration
        1 pixel if left out; not together with ``like``.
    like
        ImagePlus that was segmented: its calibration and title (with ``-labels``) are taken.
    title
        Goes before that of ``like``.

    Returns
    -------
    ImagePlus of 16 bits, above 65,535 of 32, with a colour for each object (of more than 255
    objects several share one) and a display range of at least 0 to 255.

    Raises
    ------
    AxesError
        The axes are missing, do not fit, or have channels.
    ImageError
        The numbers are not whole, negative, or above 16,777,216.
    """
    labels = np.asarray(labels)
    name = check_label_axes(axes, labels)
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or high > MAX_EXACT_FLOAT:
        raise ImageError(
            f"The labels go from {low:,} to {high:,}; an image of ImageJ holds whole numbers from "
            f"0 to {MAX_EXACT_FLOAT:,}.",
            hint="Number the objects anew.",
        )
    planes = to_planes(labels, name).pixels
    kind = np.uint16 if high <= MAX_SHORT else np.float32
    if title is None:
        title = (str(like.getTitle()) if like is not None else "array") + ENDING
    image = make_imageplus(planes.astype(kind, copy=False), title)
    if like is not None:
        java = like.getCalibration().copy()
        java.disableDensityCalibration()
    else:
        java = make_calibration(calibration or Calibration())
    image.setCalibration(java)
    lut = _make_lut()
    lut.min, lut.max = 0.0, float(max(high, _COLOURS - 1))
    image.setLut(lut)
    return image


def check_label_axes(axes: str | None, labels: np.ndarray) -> str:
    """Give the axes of a label image, in upper case.

    Raises
    ------
    AxesError
        They are missing, do not fit the labels, or are others than ``T``, ``Z``, ``Y``, ``X``.
    ImageError
        The labels are not whole numbers.
    """
    if labels.dtype.kind not in "bui":
        raise ImageError(f"Labels are whole numbers; these are {labels.dtype}.")
    name = check_axes(axes, labels.shape)
    if set(name) - set("TZYX"):
        raise AxesError(f"A label image has axes of T, Z, Y, X; these are {name}.")
    return name


def make_colour(index: int) -> Any:
    """Give a bright ``java.awt.Color`` unlike those of the numbers around it.

    The colours are those of the Fiji scripts.
    """
    saturation = _SATURATIONS[index % len(_SATURATIONS)]
    brightness = _BRIGHTNESSES[index % len(_BRIGHTNESSES)]
    colour = java_class("java.awt.Color")
    return colour.getHSBColor(index * _HUE_STEP % 1.0, saturation, brightness)


def _make_lut() -> Any:
    """Give the look-up table: 0 black, then colours that differ much from one to the next."""
    table = np.zeros((_COLOURS, 3), np.uint8)
    for index in range(1, _COLOURS):
        shade = make_colour(index)
        table[index] = shade.getRed(), shade.getGreen(), shade.getBlue()
    return java_class("ij.process.LUT")(*(to_java(column) for column in table.T))
