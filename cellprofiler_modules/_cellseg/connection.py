"""The engine as IdentifyCells sees it: found once for a process, asked for each image set."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Mapping, Optional, Sequence

import numpy as np

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "engine.json"
PYTHON_VARIABLE = "CELLSEG_ENGINE_PYTHON"
INSTALL_HINT = (
    "Run `cellseg install cellprofiler` with the engine's Python; `cellseg doctor` explains "
    "what is missing."
)
# The client lies beside this file where the module is installed, elsewhere in a source tree.
CLIENT_PLACES = (HERE / "cellseg_client", HERE.parents[1] / "bridges" / "cellseg_client")


class SetUpError(RuntimeError):
    """The module cannot reach an engine because of how it is installed."""


def client() -> ModuleType:
    """Give the client package that lies with this module.

    It is loaded from its place without a change of ``sys.path``, since a folder there would
    offer all its files as modules to the whole of CellProfiler.

    Raises
    ------
    SetUpError
        It is missing or damaged.
    """
    name = "cellseg_client"
    if name in sys.modules:
        return sys.modules[name]
    folder = next((place for place in CLIENT_PLACES if place.is_dir()), CLIENT_PLACES[0])
    spec = importlib.util.spec_from_file_location(
        name, str(folder / "__init__.py"), submodule_search_locations=[str(folder)]
    )  # type: Any
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SetUpError(
            "The part of IdentifyCells that talks to the engine is missing or damaged "
            "({}: {}). {}".format(folder, error, INSTALL_HINT)
        ) from error
    return module


def engine_python() -> Optional[str]:
    """Give the Python that has the engine: the variable's, or the one noted at installation.

    None leaves it to the client, which tries CellProfiler's own Python.

    Raises
    ------
    SetUpError
        None is noted and this Python has no engine, or the one noted is gone.
    """
    given = os.environ.get(PYTHON_VARIABLE)
    if given:
        return given
    try:
        noted = json.loads(CONFIG.read_text(encoding="utf-8"))["engine_python"]
    except FileNotFoundError:
        if importlib.util.find_spec("cellseg_service") is not None:
            return None
        raise SetUpError(
            "Nothing says where the CellSeg engine is: {} does not exist. {}".format(
                CONFIG, INSTALL_HINT
            )
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetUpError(
            "{} cannot be read ({}). {}".format(CONFIG, error, INSTALL_HINT)
        ) from error
    if not os.path.isfile(str(noted)):
        raise SetUpError(
            "The Python of the CellSeg engine is gone: {}. Install the engine again, then run "
            "`cellseg install cellprofiler`.".format(noted)
        )
    return str(noted)


def segment(
    array: np.ndarray,
    axes: str,
    settings: Mapping[str, Any],
    outputs: Sequence[str],
    title: str,
) -> Any:
    """Give the engine's result (a ``cellseg_client.Result``) for one image.

    The engine is found, or started, at the first call in a process; later calls find it again by
    themselves when it ended in between.

    Raises
    ------
    SetUpError
        See `engine_python` and `client`.
    cellseg_client.EngineError
        With the engine's own message and hint.
    """
    return _engine().segment(
        array,
        axes,
        settings,
        outputs,
        title=title,
        client="CellProfiler (process {})".format(os.getpid()),
    )


@lru_cache(maxsize=None)
def _engine() -> Any:
    return client().ensure(engine_python())
