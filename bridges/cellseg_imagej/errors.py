"""What can go wrong between ImageJ and Python for a reason that the user can act on."""

from __future__ import annotations

from typing import ClassVar

from cellseg_engine.errors import CellSegError, ImageError


class JavaError(CellSegError, RuntimeError):
    """There is no Java machine, or its class path lacks something."""

    code: ClassVar[str] = "java"


class JavaTypeError(CellSegError, TypeError):
    """Something else was given than an image or a ROI of ImageJ."""

    code: ClassVar[str] = "java-type"


class ClosedImageError(ImageError):
    """The image was closed, so its pixels are gone."""

    code: ClassVar[str] = "closed"


class RoiError(CellSegError, ValueError):
    """ROIs that cannot become objects: lines, points, or on planes that are not there."""

    code: ClassVar[str] = "rois"
