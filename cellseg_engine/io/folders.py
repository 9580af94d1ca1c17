"""Folders that are searched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
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


def walk_files(folder: Path, skip: Path | None = None, hint: str = "") -> Iterator[Path]:
    """Give the files of a folder and those below it, linked ones as well, each folder once.

    Files of a folder come before those of its sub-folders, both in the order of their names;
    what is hidden is left out.

    Parameters
    ----------
    skip
        A folder to leave out, resolved.
    hint
        What to do about a folder that cannot be read.

    Raises
    ------
    ReadError
        A folder cannot be read.
    """
    visited = {folder.resolve()}
    refuse = partial(refuse_folder, hint=hint)
    for parent, children, names in os.walk(folder, onerror=refuse, followlinks=True):
        places = {child: (Path(parent) / child).resolve() for child in sorted(children)}
        children[:] = [
            child
            for child, place in places.items()
            if not child.startswith(".") and place != skip and place not in visited
        ]
        visited.update(places[child] for child in children)
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


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
