"""Folders that are searched."""

from __future__ import annotations

from cellseg_engine.errors import ReadError


def refuse_folder(error: OSError, hint: str = "") -> None:
    """Refuse to leave out a folder that cannot be read; for ``onerror`` of `os.walk`.

    Raises
    ------
    ReadError
        Always.
    """
    raise ReadError(
        f"The folder {error.filename} cannot be read: {error.strerror}.", hint=hint
    ) from error
