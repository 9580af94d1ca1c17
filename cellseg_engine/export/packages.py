"""The packages that an export needs beyond the engine's own."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from cellseg_engine.errors import MissingDependencyError

INSTALL_LINE = 'pip install "cellseg-engine[export]"'
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""onnxruntime reads it when it is imported; without, it fills a cache folder and calls home."""


def need(*names: str) -> list[ModuleType]:
    """Import the packages of the extra ``export``, onnxruntime without its telemetry.

    Raises
    ------
    MissingDependencyError
        One is not installed; the hint is the install line.
    """
    os.environ.setdefault(NO_TELEMETRY, "1")
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError as error:
            raise MissingDependencyError(
                f"This export needs {name}, which is not installed.", hint=INSTALL_LINE
            ) from error
    return modules
