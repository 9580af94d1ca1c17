"""Change a host's folder as a whole: all of it happens, or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cellseg_engine.errors import WriteError
from cellseg_engine.hosts.record import Record, hash_bytes, hash_file

STAGING = ".cellseg-installing"


@dataclass(frozen=True)
class Changes:
    """What an installation will do to a folder; paths are relative, with ``/``.

    Attributes
    ----------
    write
        Files that are new or different, with their content.
    unchanged
        Files that are there already as they should be.
    remove
        Files of the installation before that are needed no more.
    keep
        Files that the user has changed, and the names under which they stay.
    make
        Folders, parents first.
    record
        What will be installed then.
    """

    write: dict[str, bytes] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    keep: dict[str, str] = field(default_factory=dict)
    make: list[str] = field(default_factory=list)
    record: Record = field(default_factory=lambda: Record("", ""))


def plan_changes(
    folder: Path, files: Mapping[str, bytes], old: Record | None, host: str, version: str
) -> Changes:
    """Compare what is to be there with what is there; nothing is written.

    Parameters
    ----------
    folder
        Of the host.
    files
        Paths and contents that are to be there.
    old
        The record of the installation before.
    host, version
        For the new record.

    Raises
    ------
    WriteError
        Something that was not installed by us is in the way.
    """
    before = old or Record(host, version)
    make = _missing_folders(folder, files)
    record = Record(
        host,
        version,
        {name: hash_bytes(content) for name, content in files.items()},
        (*(name for name in before.folders if name not in make), *make),
    )
    changes = Changes(make=make, record=record)
    for name, content in files.items():
        _plan_file(folder, name, content, before, changes)
    for name in sorted(set(before.files) - set(files)):
        found = hash_file(folder / name)
        if found == before.files[name]:
            changes.remove.append(name)
        elif os.path.lexists(folder / name):
            changes.keep[name] = _free_name(folder, name)
    return changes


def apply_changes(folder: Path, record_name: str, changes: Changes, old: Record | None) -> None:
    """Do it: everything is written beside first, then moved into place.

    Until it is done the record names the files of both installations, so that nothing of ours
    is without an owner if the computer stops in the middle.

    Raises
    ------
    WriteError
        It failed; the folder is as it was before.
    """
    before = old or Record("", "")
    both = Record(
        changes.record.host,
        changes.record.version,
        {**before.files, **changes.record.files},
        changes.record.folders,
    )
    with _staging(folder) as staging:
        move = _Move(staging / "old")
        try:
            new = _stage(staging, changes, {"both": both, "final": changes.record})
            for name in changes.make:
                move.make_folder(folder / name)
            move.into_place(new["both"], folder / record_name)
            for name, kept in changes.keep.items():
                move.rename(folder / name, folder / kept)
            for name in changes.remove:
                move.away(folder / name)
            for name in changes.write:
                move.into_place(new[name], folder / name)
            move.into_place(new["final"], folder / record_name)
        except BaseException as error:
            lost = move.undo()
            if not isinstance(error, OSError):
                raise
            raise _failed(folder, error, lost) from error


def remove_empty_folders(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Remove those of the folders that are empty, and give them; children before parents."""
    removed = []
    for name in sorted(names, key=lambda name: -len(PurePosixPath(name).parts)):
        try:
            (folder / name).rmdir()
        except OSError:
            continue  # it holds something of the user's, or is gone
        removed.append(name)
    return removed


def _plan_file(folder: Path, name: str, content: bytes, before: Record, changes: Changes) -> None:
    path = folder / name
    if not os.path.lexists(path):
        changes.write[name] = content
        return
    if name not in before.files:
        raise WriteError(
            f"{path} is there already and was not installed by CellSeg, so nothing was written.",
            hint="Move it away, then install again.",
        )
    found = hash_file(path)
    if found == hash_bytes(content):
        changes.unchanged.append(name)
        return
    if found != before.files[name]:
        changes.keep[name] = _free_name(folder, name)
    changes.write[name] = content


def _missing_folders(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Give the folders that the files need and that are not there, parents first."""
    needed = {
        str(parent)
        for name in files
        for parent in PurePosixPath(name).parents
        if str(parent) != "."
    }
    missing = []
    for name in sorted(needed):
        if (folder / name).is_dir():
            continue
        if os.path.lexists(folder / name):
            raise WriteError(
                f"{folder / name} is in the way: a folder is needed there, so nothing was written.",
                hint="Move it away, then install again.",
            )
        missing.append(name)
    return missing


def _free_name(folder: Path, name: str) -> str:
    """Give a name beside it that is free: ``NAME.saved``, ``NAME.saved2`` ..."""
    number = 1
    while True:
        kept = f"{name}.saved{number if number > 1 else ''}"
        if not os.path.lexists(folder / kept):
            return kept
        number += 1


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Give a folder on the same disk, which also keeps a second installation away."""
    staging = folder / STAGING
    try:
        staging.mkdir()
    except FileExistsError as error:
        raise WriteError(
            f"Another installation into {folder} is running, or one was interrupted.",
            hint=f"If none is running, delete the folder {staging} and try again.",
        ) from error
    except OSError as error:
        raise _failed(folder, error, []) from error
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _stage(staging: Path, changes: Changes, records: Mapping[str, Record]) -> dict[str, Path]:
    """Write all contents beside, where a full disk does no harm."""
    contents = {name: record.encode() for name, record in records.items()} | changes.write
    places = {}
    (staging / "old").mkdir()
    for number, (name, content) in enumerate(contents.items()):
        places[name] = staging / str(number)
        places[name].write_bytes(content)
    return places


class _Move:
    """Steps within one disk, each with the step that takes it back."""

    def __init__(self, old: Path) -> None:
        self._old = old
        self._back: list[tuple[Path, Callable[[], object]]] = []

    def make_folder(self, path: Path) -> None:
        path.mkdir()
        self._back.append((path, path.rmdir))

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)
        self._back.append((source, lambda: target.rename(source)))

    def away(self, path: Path) -> None:
        self.rename(path, self._old / str(len(self._back)))

    def into_place(self, source: Path, target: Path) -> None:
        if os.path.lexists(target):
            self.away(target)
        source.rename(target)
        self._back.append((target, target.unlink))

    def undo(self) -> list[Path]:
        """Take all steps back, the last one first; give what could not be put back."""
        lost = []
        for path, step in reversed(self._back):
            try:
                step()
            except OSError:
                lost.append(path)
        return lost


def _failed(folder: Path, error: OSError, lost: list[Path]) -> WriteError:
    named = [Path(name) for name in (error.filename, error.filename2) if name]
    where = next((path for path in named if STAGING not in path.parts), folder)
    what = f"Nothing was installed: {where} cannot be written: {error.strerror}."
    if lost:
        return WriteError(
            f"{what} These could not be put back as they were: {', '.join(map(str, lost))}.",
            hint="Install again when that is mended.",
        )
    return WriteError(
        f"{what} {folder} is as it was.",
        hint="Free some space or choose a folder that you may write, then install again.",
    )
