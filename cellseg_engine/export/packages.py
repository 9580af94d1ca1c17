"""The packages that an export needs beyond the engine's own."""

from __future__ import annotations

import importlib
from types import ModuleType

from cellseg_engine.errors import MissingDependencyError

INSTALL_LINE = 'pip install "cellseg-engine[export]"'


def need(*names: str) -> list[ModuleType]:
    """Import the packages of the extra ``export``.

    Raises
    ------
    MissingDependencyError
        One is not installed; the hint is the install line.
    """
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError as error:
            raise MissingDependencyError(
                f"This export needs {name}, which is not installed.", hint=INSTALL_LINE
            ) from error
    return modules
