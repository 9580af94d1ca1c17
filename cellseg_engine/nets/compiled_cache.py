"""Compiled models on disk, in the user's cache folder.

Every file begins with the SHA-256 of the rest, and takes its place in one step. So several
processes may read and write at once, and a damaged file counts as none. A folder that cannot be
written to means no cache, never an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from pathlib import Path

import platformdirs

log = logging.getLogger(__name__)

MAX_FILES = 12
"""A file is as large as its weights; the ones that were used longest ago go first."""
_SUFFIX = ".model"
_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """Give the folder of compiled models; it need not exist."""
    return platformdirs.user_cache_path("cellseg", False) / "compiled-models"


def load(key: str) -> bytes | None:
    """Give what was stored under a key; None if nothing or something damaged is there."""
    path = cache_folder() / f"{key}{_SUFFIX}"
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(blob).digest() != digest:
        drop(key)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return blob


def store(key: str, blob: bytes) -> None:
    """Keep something under a key, if the folder can be written to."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{key}.", suffix=".part", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(blob).digest())
                file.write(blob)
            os.replace(name, folder / f"{key}{_SUFFIX}")
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        _remove_oldest(folder)
    except OSError as error:
        log.debug("no compiled model is kept in %s: %s", folder, error)


def drop(key: str) -> None:
    """Remove what was stored under a key."""
    with contextlib.suppress(OSError):
        (cache_folder() / f"{key}{_SUFFIX}").unlink(missing_ok=True)


def _remove_oldest(folder: Path) -> None:
    """Keep the files used last; parts that a killed process left count as files."""
    files = [path for path in folder.iterdir() if path.suffix in (_SUFFIX, ".part")]
    files.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in files[MAX_FILES:]:
        path.unlink(missing_ok=True)
