"""Folders that are searched."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from cellseg_engine.errors import ReadError


def visible_names(folder: Path, hint: str = "") -> list[str]:
    """Give the names in a folder, sorted, without hidden ones; none where there is no folder.

    Raises
    ------
    ReadError
        It cannot be read, or its name is one that no folder can have.
    """
    try:
        paths = list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        refuse_folder(error, hint)
    return sorted(path.name for path in paths if not path.name.startswith("."))


def refuse_folder(error: OSError, hint: str = "") -> NoReturn:
    """Refuse to leave out a folder that cannot be read; for ``onerror`` of `os.walk`.

    Raises
    ------
    ReadError
        Always.
    """
    raise ReadError(
        f"The folder {error.filename} cannot be read: {error.strerror}.", hint=hint
    ) from error
