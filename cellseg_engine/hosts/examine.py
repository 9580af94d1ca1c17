"""Say how an installation in a host is: what the doctor reports about Fiji and CellProfiler."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg_engine._version import __version__
from cellseg_engine.errors import CellSegError
from cellseg_engine.hosts import cellprofiler, fiji
from cellseg_engine.hosts.layouts import LAYOUTS
from cellseg_engine.hosts.record import Record, hash_file, read_record

OK, NOTE, PROBLEM = "ok", "note", "problem"
PROBE_TIMEOUT_S = 60.0
NEEDED = ("cellseg_engine", "cellseg_service", "starlette", "uvicorn", "psutil")

# Asked of the engine's Python; nothing is imported, so that it is quick and cannot break.
_PROBE = """
import importlib.metadata, importlib.util, json, sys
missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
try:
    version = importlib.metadata.version("cellseg-engine")
except importlib.metadata.PackageNotFoundError:
    version = ""
print(json.dumps({"missing": missing, "version": version}))
"""
_NOT_FOR_CHILDREN = ("PYTHONPATH", "PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report: what, its state, and what to do about it."""

    what: str
    state: str
    detail: str
    remedy: str = ""


def examine_hosts(plugins_directory: Path | None, fiji_folder: Path | None) -> Iterator[Finding]:
    """Yield what is known about both hosts.

    Parameters
    ----------
    plugins_directory
        Of CellProfiler; None to take the one that its preferences name.
    fiji_folder
        None to take the one that ``FIJI_HOME`` names.
    """
    folder = plugins_directory or cellprofiler.read_plugins_directory()
    if folder is None or (plugins_directory is None and not folder.is_dir()):
        yield Finding(
            "CellProfiler",
            NOTE,
            "its preferences name no plugins directory"
            if folder is None
            else f"its preferences name a plugins directory that is not there, {folder}",
            "If you use it: cellseg doctor --plugins-directory DIR",
        )
    else:
        yield from examine_host(folder, "cellprofiler")
    folder = fiji_folder or _variable_folder()
    if folder is None:
        yield Finding(
            "Fiji",
            NOTE,
            f"not looked at: {fiji.FOLDER_VARIABLE} names no folder",
            "If you use it: cellseg doctor --fiji DIR",
        )
        return
    try:
        folder, host = fiji.recognise(folder)
    except CellSegError as error:
        yield Finding("Fiji", PROBLEM, error.message, error.hint)
        return
    yield from examine_host(folder, host)
    missing = fiji.describe_missing_jython(folder)
    if missing:
        yield Finding(LAYOUTS[host].name, NOTE, missing)


def examine_host(folder: Path, host: str) -> Iterator[Finding]:
    """Yield what is known about an installation into one folder."""
    layout = LAYOUTS[host]
    install = f"{layout.command} {_quote(folder)}"
    if not folder.is_dir():
        yield Finding(
            layout.name, PROBLEM, f"there is no folder {folder}", "Make it, or name another one."
        )
        return
    try:
        record = read_record(folder, layout.record)
        if record is None:
            yield Finding(layout.name, NOTE, f"CellSeg is not installed in {folder}", install)
            return
        yield _judge_version(layout.name, folder, record, install)
        yield from _judge_files(layout.name, folder, record, layout.configuration, install)
    except CellSegError as error:
        yield Finding(layout.name, PROBLEM, error.message, error.hint or install)
        return
    yield _judge_engine(layout.name, folder / layout.configuration, install)


def _judge_version(name: str, folder: Path, record: Record, install: str) -> Finding:
    detail = f"CellSeg {record.version} is installed in {folder}"
    if record.version == __version__:
        return Finding(name, OK, detail)
    return Finding(name, NOTE, f"{detail}, this engine is {__version__}", install)


def _judge_files(
    name: str, folder: Path, record: Record, configuration: str, install: str
) -> Iterator[Finding]:
    """Compare with the record; the configuration is judged by what it says instead."""
    missing, changed = [], []
    for file, sha256 in record.files.items():
        if not os.path.lexists(folder / file):
            missing.append(file)
        elif file != configuration and hash_file(folder / file) != sha256:
            changed.append(file)
    if missing:
        yield Finding(f"{name} files", PROBLEM, f"missing: {', '.join(missing)}", install)
    if changed:
        yield Finding(
            f"{name} files",
            NOTE,
            f"changed since they were installed: {', '.join(changed)}",
            f"{install} (what you changed is kept as NAME.saved)",
        )
    if not missing and not changed:
        yield Finding(f"{name} files", OK, f"{len(record.files)} files, as installed")


def _judge_engine(name: str, configuration: Path, install: str) -> Finding:
    """Look whether the Python that the host will start has an engine."""
    what = f"{name} engine"
    try:
        python = str(json.loads(configuration.read_bytes())["engine_python"])
    except (OSError, ValueError, TypeError, KeyError):
        return Finding(what, PROBLEM, f"{configuration} cannot be read", install)
    try:
        found = _probe(python)
    except (OSError, ValueError, subprocess.SubprocessError):
        return Finding(what, PROBLEM, f"{python} is gone or does not run", install)
    if "cellseg_engine" in found["missing"]:
        return Finding(
            what, PROBLEM, f"{python} has no cellseg-engine", f"{install} (to use this one)"
        )
    if found["missing"]:
        lacks = ", ".join(found["missing"])
        add = f"{_quote(python)} -m pip install 'cellseg-engine[service]'"
        return Finding(what, PROBLEM, f"{python} lacks {lacks} for the service", add)
    if found["version"] != __version__:
        detail = f"{python} has version {found['version']}, this is {__version__}"
        return Finding(what, NOTE, detail, f"{install} (to use this one)")
    return Finding(what, OK, f"{python} has version {found['version']} with the service")


def _probe(python: str) -> dict[str, Any]:
    """Ask a Python what it has, in the environment that the client would start it in."""
    environment = {
        name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN
    }
    ran = subprocess.run(
        [python, "-c", _PROBE, *NEEDED],
        capture_output=True,
        timeout=PROBE_TIMEOUT_S,
        check=True,
        env={**environment, "PYTHONSAFEPATH": "1"},
    )
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _variable_folder() -> Path | None:
    value = os.environ.get(fiji.FOLDER_VARIABLE)
    return Path(value) if value else None


def _quote(path: object) -> str:
    """Write a path so that it can be pasted into this system's terminal."""
    if os.name == "nt":
        return f'"{path}"'
    return shlex.quote(str(path))
