"""The record of an installation: which files and folders of a host are ours."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from cellseg_engine.errors import ReadError

FORMAT = 1


@dataclass(frozen=True)
class Record:
    """What was installed.

    Attributes
    ----------
    host, version
        Into which kind of host, by which version of the engine.
    files
        Paths in the host's folder, with ``/``, and SHA-256 of what was written.
    folders
        Folders that were made, parents first.
    """

    host: str
    version: str
    files: dict[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Give the content of the record's file."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n").encode("utf-8")


def hash_bytes(content: bytes) -> str:
    """Give the SHA-256 as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def hash_file(path: Path) -> str | None:
    """Give the SHA-256 of a plain file; None if it is missing or something else (a link, say).

    Raises
    ------
    ReadError
        It cannot be read.
    """
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return hash_bytes(path.read_bytes())
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror}.") from error


def read_record(folder: Path, name: str) -> Record | None:
    """Read the record of a host, None if nothing was installed there.

    Raises
    ------
    ReadError
        The record is damaged, or names files outside the host's folder.
    """
    path = folder / name
    try:
        content = json.loads(path.read_bytes())
        record = Record(
            content["host"],
            content["version"],
            {str(path): str(sha256) for path, sha256 in content["files"].items()},
            tuple(map(str, content["folders"])),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path) from error
    if not all(_is_inside(name) for name in (*record.files, *record.folders)):
        raise _damaged(path)
    return record


def _is_inside(name: str) -> bool:
    """Say whether a path of a record stays below the host's folder, on any system."""
    is_absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    return bool(name) and not is_absolute and ".." not in PureWindowsPath(name).parts


def _damaged(path: Path) -> ReadError:
    return ReadError(
        f"The record of the installation, {path}, is damaged, so nothing was touched.",
        hint="Delete it and the files of CellSeg in that folder yourself, then install again.",
    )
