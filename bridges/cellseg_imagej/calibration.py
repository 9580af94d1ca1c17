"""The calibration of an image in space and time, between ImageJ and Python."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from cellseg_engine.io.tiff_metadata import unit_in_um
from cellseg_imagej.java import java_class

MAX_UM = 1e9
_DEPTH = re.compile(
    r"^\s*spacing\s*=|spacing between slices|slice thickness|PhysicalSizeZ|voxel ?depth",
    re.IGNORECASE | re.MULTILINE,
)
"""What a file calls the distance of its planes."""


@dataclass(frozen=True)
class Calibration:
    """How large a pixel is and how far apart planes and frames are, in ImageJ's own numbers.

    Attributes
    ----------
    pixel_width, pixel_height, pixel_depth
        Size of a pixel along X, Y, Z, in the unit of each.
    x_unit, y_unit, z_unit
        As ImageJ spells them; ``pixel`` for none. ImageJ turns ``um`` into ``µm``.
    x_origin, y_origin, z_origin
        Pixel that is the origin of coordinates.
    frame_interval
        Time from frame to frame in the unit of time, 0 where it is not known.
    time_unit
        For example ``sec``.
    is_depth_known
        False where a depth of 1 is what ImageJ assumes and nothing says that it is meant.
    """

    pixel_width: float = 1.0
    pixel_height: float = 1.0
    pixel_depth: float = 1.0
    x_unit: str = "pixel"
    y_unit: str = "pixel"
    z_unit: str = "pixel"
    x_origin: float = 0.0
    y_origin: float = 0.0
    z_origin: float = 0.0
    frame_interval: float = 0.0
    time_unit: str = "sec"
    is_depth_known: bool = field(default=True, compare=False)

    def pixel_size_um(self, axes: str) -> dict[str, float]:
        """Give the size of a pixel in µm along those of ``Z``, ``Y``, ``X`` that the axes have.

        What has no unit of length, or is not known, is left out, as in the Fiji scripts.
        """
        found = {}
        for letter, size, unit in (
            ("X", self.pixel_width, self.x_unit),
            ("Y", self.pixel_height, self.y_unit),
            ("Z", self.pixel_depth, self.z_unit),
        ):
            factor = unit_in_um(unit)
            if letter == "Z" and not self.is_depth_known:
                continue
            if letter in axes and factor is not None and 0 < abs(size) * factor <= MAX_UM:
                found[letter] = abs(size) * factor
        return found


def read_calibration(image: Any) -> Calibration:
    """Give the calibration of an ImagePlus.

    What turns grey values into others (density) is not part of it: values stay as stored.
    """
    java = image.getCalibration()
    return Calibration(
        pixel_width=float(java.pixelWidth),
        pixel_height=float(java.pixelHeight),
        pixel_depth=float(java.pixelDepth),
        x_unit=str(java.getXUnit()),
        y_unit=str(java.getYUnit()),
        z_unit=str(java.getZUnit()),
        x_origin=float(java.xOrigin),
        y_origin=float(java.yOrigin),
        z_origin=float(java.zOrigin),
        frame_interval=float(java.frameInterval),
        time_unit=str(java.getTimeUnit()),
        is_depth_known=_is_depth_known(image, java),
    )


def _is_depth_known(image: Any, java: Any) -> bool:
    if java.pixelDepth != 1.0 or java.pixelWidth == 1.0:
        return True
    info = image.getOriginalFileInfo()
    description = info.description if info is not None else ""
    return _DEPTH.search(f"{description or ''}\n{image.getInfoProperty() or ''}") is not None


def make_calibration(calibration: Calibration) -> Any:
    """Give an ``ij.measure.Calibration``."""
    java = java_class("ij.measure.Calibration")()
    java.pixelWidth = calibration.pixel_width
    java.pixelHeight = calibration.pixel_height
    java.pixelDepth = calibration.pixel_depth
    java.setUnit(calibration.x_unit)
    if calibration.y_unit != calibration.x_unit:
        java.setYUnit(calibration.y_unit)
    if calibration.z_unit != calibration.x_unit:
        java.setZUnit(calibration.z_unit)
    java.xOrigin = calibration.x_origin
    java.yOrigin = calibration.y_origin
    java.zOrigin = calibration.z_origin
    java.frameInterval = calibration.frame_interval
    java.setTimeUnit(calibration.time_unit)
    return java
