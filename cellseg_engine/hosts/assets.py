"""Where the files are that hosts get: Fiji scripts, CellProfiler modules, the client."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cellseg_engine.errors import MissingDependencyError

AssetName = Literal["fiji_scripts", "cellprofiler_modules", "cellseg_client"]

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = {
    "fiji_scripts": "fiji_scripts",
    "cellprofiler_modules": "cellprofiler_modules",
    "cellseg_client": "bridges/cellseg_client",
}
_INSTALLED = {
    "fiji_scripts": "cellseg_engine/hosts/data/fiji_scripts",
    "cellprofiler_modules": "cellseg_engine/hosts/data/cellprofiler_modules",
    "cellseg_client": "cellseg_client",
}


def asset_folder(name: AssetName) -> Path:
    """Give the folder of files that a host gets.

    Parameters
    ----------
    name
        ``fiji_scripts``, ``cellprofiler_modules`` or ``cellseg_client``.

    Returns
    -------
    Path
        An existing folder: in an installed package its own copy, in a source tree (also one
        installed with ``pip install -e``) the files that are edited there. It may hold
        ``__pycache__`` folders, which are not for copying.

    Raises
    ------
    MissingDependencyError
        This installation does not have the folder.
    """
    return _find(name, _PACKAGE.parent)


def _find(name: AssetName, parent: Path) -> Path:
    """Look in ``parent``, the folder that holds the engine's package."""
    places = _CHECKOUT if (parent / "pyproject.toml").is_file() else _INSTALLED
    folder = parent / places[name]
    if not folder.is_dir():
        raise MissingDependencyError(
            f"This installation of CellSeg Bridges has no {name}; it was looked for in {folder}.",
            hint="Install it again: pip install --force-reinstall --no-deps cellseg-engine",
        )
    return folder
