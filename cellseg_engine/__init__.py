"""CellSeg Bridges: one cell and nucleus segmentation engine for Python, Fiji and CellProfiler.

``segment(image, axes)`` finds the objects of one image; a `Segmenter` keeps the model for many.
Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cellseg_engine._version import __version__
from cellseg_engine.kernel_cache import set_kernel_folder

if TYPE_CHECKING:
    from cellseg_engine.errors import CellSegError
    from cellseg_engine.pipeline.progress import Progress
    from cellseg_engine.pipeline.result import Segmentation
    from cellseg_engine.pipeline.segmenter import Segmenter, segment
    from cellseg_engine.settings import Settings, make_settings

__all__ = [
    "CellSegError",
    "Progress",
    "Segmentation",
    "Segmenter",
    "Settings",
    "__version__",
    "make_settings",
    "segment",
]

_HOMES = {
    "CellSegError": "errors",
    "Progress": "pipeline.progress",
    "Segmentation": "pipeline.result",
    "Segmenter": "pipeline.segmenter",
    "Settings": "settings",
    "make_settings": "settings",
    "segment": "pipeline.segmenter",
}

set_kernel_folder()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
