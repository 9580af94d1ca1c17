"""ImageJ and the engine in one Python process: images to arrays and back, labels to ROIs.

>>> import cellseg_imagej                                            # doctest: +SKIP
>>> array, axes, calibration = cellseg_imagej.to_array(imp)          # doctest: +SKIP
>>> outcome = cellseg_imagej.segment_imageplus(imp, {"diameter_px": 30})  # doctest: +SKIP
>>> outcome.labels.show()                                            # doctest: +SKIP

Works with every Java machine that JPype started: by pyimagej, by scyjava, by `start_imagej`, or
by hand. What is needed of ImageJ is ij.jar; a `net.imagej.Dataset` is understood where the class
path has it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellseg_imagej.arrays import ImageArray, to_array, to_imageplus
    from cellseg_imagej.calibration import Calibration
    from cellseg_imagej.converters import register_converters
    from cellseg_imagej.datasets import to_dataset
    from cellseg_imagej.drawn import DrawnLabels, rois_to_labels
    from cellseg_imagej.errors import ClosedImageError, JavaError, RoiError
    from cellseg_imagej.java import start_imagej
    from cellseg_imagej.labels import labels_to_imageplus
    from cellseg_imagej.rois import add_to_roi_manager, labels_to_rois, show_rois
    from cellseg_imagej.segmenting import Outcome, segment_imageplus
    from cellseg_imagej.source import channel_names

_HOMES = {
    "Calibration": "calibration",
    "ClosedImageError": "errors",
    "DrawnLabels": "drawn",
    "ImageArray": "arrays",
    "JavaError": "errors",
    "Outcome": "segmenting",
    "RoiError": "errors",
    "add_to_roi_manager": "rois",
    "channel_names": "source",
    "labels_to_imageplus": "labels",
    "labels_to_rois": "rois",
    "register_converters": "converters",
    "rois_to_labels": "drawn",
    "segment_imageplus": "segmenting",
    "show_rois": "rois",
    "start_imagej": "java",
    "to_array": "arrays",
    "to_dataset": "datasets",
    "to_imageplus": "arrays",
}

__all__ = [
    "Calibration",
    "ClosedImageError",
    "DrawnLabels",
    "ImageArray",
    "JavaError",
    "Outcome",
    "RoiError",
    "add_to_roi_manager",
    "channel_names",
    "labels_to_imageplus",
    "labels_to_rois",
    "register_converters",
    "rois_to_labels",
    "segment_imageplus",
    "show_rois",
    "start_imagej",
    "to_array",
    "to_dataset",
    "to_imageplus",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
