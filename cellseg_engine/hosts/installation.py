"""Install into a host's folder, and remove what was installed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cellseg_engine._version import __version__
from cellseg_engine.errors import ReadError, WriteError
from cellseg_engine.hosts.caches import remove_caches
from cellseg_engine.hosts.changes import (
    Changes,
    apply_changes,
    plan_changes,
    remove_empty_folders,
)
from cellseg_engine.hosts.layouts import LAYOUTS, collect_files
from cellseg_engine.hosts.record import hash_file, read_record


@dataclass(frozen=True)
class Removal:
    """What uninstalling did, or would do; paths are relative to the host's folder."""

    files: list[str]
    kept: list[str]
    folders: list[str]


def plan_installation(folder: Path, host: str) -> Changes:
    """Say what installing into a folder will do; nothing is written.

    Parameters
    ----------
    folder
        Of the host.
    host
        A key of `LAYOUTS`.

    Raises
    ------
    ReadError
        The record that is there is damaged.
    WriteError
        Something that was not installed by us is in the way.
    MissingDependencyError
        This installation of the engine lacks files.
    """
    layout = LAYOUTS[host]
    old = read_record(folder, layout.record)
    return plan_changes(folder, collect_files(layout), old, host, __version__)


def install(folder: Path, host: str) -> Changes:
    """Install or update, and give what was done.

    Raises
    ------
    ReadError, WriteError, MissingDependencyError
        Nothing was changed; the sentence says why.
    """
    record = LAYOUTS[host].record
    old = read_record(folder, record)
    changes = plan_installation(folder, host)
    apply_changes(folder, record, changes, old)
    remove_caches(folder, [*changes.remove, *changes.keep])
    remove_empty_folders(folder, _needless(changes))
    return changes


def uninstall(folder: Path, host: str, *, is_rehearsal: bool = False) -> Removal:
    """Remove what the record lists, then the folders that were made, if they are empty.

    Parameters
    ----------
    folder, host
        As for `install`.
    is_rehearsal
        Only say what would be done; folders are then not named.

    Returns
    -------
    Removal
        Files that were changed since they were installed are kept.

    Raises
    ------
    ReadError
        Nothing was installed there, or its record is damaged; nothing was touched.
    WriteError
        A file cannot be removed; what is left stays in the record.
    """
    layout = LAYOUTS[host]
    record = read_record(folder, layout.record)
    if record is None:
        raise ReadError(
            f"CellSeg is not installed in {folder}: there is no {layout.record}. Nothing was "
            "touched.",
        )
    found = {name: hash_file(folder / name) for name in record.files}
    ours = [name for name, sha256 in found.items() if sha256 == record.files[name]]
    kept = [name for name in found if name not in ours and os.path.lexists(folder / name)]
    if is_rehearsal:
        return Removal(ours, kept, [])
    _remove_files(folder, [*ours, layout.record], layout.name)
    remove_caches(folder, record.files)
    return Removal(ours, kept, remove_empty_folders(folder, record.folders))


def _remove_files(folder: Path, names: list[str], host: str) -> None:
    """Remove files, the record last: one that stays keeps the record, to try again."""
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(
                f"{folder / name} cannot be removed: {error.strerror}.",
                hint=f"Close {host} if it runs, or get the right to write there; then uninstall "
                "again: what is left is still known.",
            ) from error


def _needless(changes: Changes) -> tuple[str, ...]:
    """Give the folders of the record that no file needs any more."""
    return tuple(
        name
        for name in changes.record.folders
        if not any(file.startswith(name + "/") for file in changes.record.files)
    )
