"""What each host gets, and where it lies there: one table.

A new file of a host is a new line of `LAYOUTS`; installing, updating, removing and the doctor
follow it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cellseg_engine._version import __version__
from cellseg_engine.errors import MissingDependencyError
from cellseg_engine.hosts.assets import AssetName, asset_folder

_NOT_FOR_HOSTS = ("__pycache__", "tests")


@dataclass(frozen=True)
class Copy:
    """Files that go from an asset's folder into one folder of the host.

    Parameters
    ----------
    asset
        Which asset.
    source
        Folder in it, ``""`` for the asset itself.
    pattern
        Of the files below ``source``; their sub-folders are kept.
    target
        Folder of the host that they go to, ``""`` for the host's own.
    """

    asset: AssetName
    source: str
    pattern: str
    target: str


@dataclass(frozen=True)
class Layout:
    """What a host gets.

    Attributes
    ----------
    name
        Of the host, for people.
    command
        What installs it, without the folder.
    copies
        The files.
    configuration
        Where ``engine.json`` goes: which Python has the engine.
    record
        Where the record of the installation goes.
    client
        Folder that holds the copied ``cellseg_client``; empty where the host calls the one of
        the engine's Python.
    next_step
        What the user does then.
    """

    name: str
    command: str
    copies: tuple[Copy, ...]
    configuration: str
    record: str
    client: str
    next_step: str


_FIJI_COPIES = (
    Copy("fiji_scripts", "", "*.py", "scripts/Plugins/CellSeg"),
    Copy("fiji_scripts", "cellseg_jy", "**/*", "jars/Lib/cellseg_jy"),
)
_FIJI_CONFIGURATION = "jars/Lib/cellseg_jy/engine.json"
_FIJI_RECORD = "cellseg-installed.json"

LAYOUTS: dict[str, Layout] = {
    "cellprofiler": Layout(
        name="CellProfiler",
        command="cellseg install cellprofiler --plugins-directory",
        copies=(
            Copy("cellprofiler_modules", "", "*.py", ""),
            Copy("cellprofiler_modules", "_cellseg", "**/*", "_cellseg"),
            Copy("cellseg_client", "", "**/*.py", "_cellseg/cellseg_client"),
        ),
        configuration="_cellseg/engine.json",
        record="_cellseg/installed.json",
        client="_cellseg",
        next_step="Restart CellProfiler, then: Add module > Object Processing > IdentifyCells.",
    ),
    "fiji": Layout(
        name="Fiji",
        command="cellseg install fiji",
        copies=_FIJI_COPIES,
        configuration=_FIJI_CONFIGURATION,
        record=_FIJI_RECORD,
        client="",
        next_step="Restart Fiji, then: Plugins > CellSeg > Segment Cells.",
    ),
    "imagej": Layout(
        name="ImageJ",
        command="cellseg install fiji",
        # The jar gives an ImageJ 1 what Fiji has already: menu commands from scripts.
        copies=(*_FIJI_COPIES, Copy("fiji_scripts", "imagej", "*.jar", "plugins")),
        configuration=_FIJI_CONFIGURATION,
        record=_FIJI_RECORD,
        client="",
        next_step="Restart ImageJ, then: Plugins > CellSeg > Segment Cells.",
    ),
}


def engine_python() -> str:
    """Give the Python that hosts will start the engine with: the one that runs now."""
    return sys.executable


def collect_files(layout: Layout) -> dict[str, bytes]:
    """Give the content of every file that a host gets, without the record.

    Returns
    -------
    dict
        Paths in the host's folder, with ``/`` on every system, and contents.

    Raises
    ------
    MissingDependencyError
        This installation of the engine lacks files that the host needs.
    """
    files: dict[str, bytes] = {}
    for copy in layout.copies:
        base = asset_folder(copy.asset) / copy.source
        found = {
            _join(copy.target, path.relative_to(base)): path.read_bytes()
            for path in sorted(base.glob(copy.pattern))
            if path.is_file() and _is_for_hosts(path.relative_to(base))
        }
        if not found:
            raise MissingDependencyError(
                f"This installation of CellSeg Bridges has no files for {layout.name}; they were "
                f"looked for in {base}.",
                hint="Install it again: pip install --force-reinstall --no-deps cellseg-engine",
            )
        files |= found
    about = {"engine_python": engine_python(), "version": __version__}
    files[layout.configuration] = (json.dumps(about, indent=2) + "\n").encode("utf-8")
    return files


def _is_for_hosts(path: Path) -> bool:
    """Say whether a file is for hosts: no caches, tests, read-me or hidden files."""
    if any(part in _NOT_FOR_HOSTS or part.startswith(".") for part in path.parts):
        return False
    is_cache = path.suffix == ".pyc" or path.name.endswith("$py.class")
    return not is_cache and not path.name.startswith("README")


def _join(folder: str, path: Path) -> str:
    return str(PurePosixPath(folder, *path.parts))
