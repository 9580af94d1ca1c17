"""Get the files of a separate model: from a file, or over the network."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPException, IncompleteRead, InvalidURL
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

from cellseg_engine.errors import ReadError, WeightsError
from cellseg_engine.io.staging import staged
from cellseg_engine.zoo.store import ModelEntry, absent_models, find_model, verify

TIMEOUT_S = 30.0
MAX_BYTES = 1 << 30
"""More than the weights of any network have."""
_PIECE = 1 << 20


def fetch_model(
    name: str, place: str, progress: Callable[[int, int], None] = lambda *_: None
) -> ModelEntry:
    """Get a separate model; one that is here and whole is left as it is.

    Parameters
    ----------
    name
        Of a separate model.
    place
        Its file, a folder with it, or an address beginning with ``https://`` or ``http://``: of
        the file, or of a folder if it ends with ``/``.
    progress
        Called with the bytes so far and in all; 0 in all where that is not known.

    Raises
    ------
    ModelNotFoundError
        No such model.
    ReadError
        The file or address cannot be read.
    WeightsError
        It is not the file that belongs to the model (its SHA-256 differs), or the model is one
        that is not got from elsewhere, and damaged.
    WriteError
        The models folder cannot be written to.
    """
    absent = {entry.name: entry for entry in absent_models()}
    entry = absent.get(name) or find_model(name)
    if verify(entry):
        return entry
    if entry.source != "separate":
        raise WeightsError(
            f"The files of {name} are missing or damaged, and it does not come from elsewhere.",
            hint=entry.remedy,
        )
    with staged(entry.files[0].parent) as stage:
        for path, expected in zip(entry.files, entry.sha256, strict=True):
            with closing(_open(place, path.name)) as source:
                found = _copy(source, stage.path(path.name), progress, (place, path.name))
            if found != expected:
                raise WeightsError(
                    f"{place} is not the {path.name} that belongs to {name} (its SHA-256 is "
                    f"{found[:12]}..., not {expected[:12]}...).",
                    hint="It is damaged or of another version: get it again.",
                )
    return find_model(name)


def _open(place: str, name: str) -> IO[bytes]:
    try:
        if urlsplit(place).scheme in ("http", "https"):
            address = place + name if place.endswith("/") else place
            answer = urllib.request.urlopen(address, timeout=TIMEOUT_S)  # noqa: S310 - looked at above
            return cast(IO[bytes], answer)
        path = Path(place).expanduser()
        return (path / name if path.is_dir() else path).open("rb")
    except (OSError, ValueError, RuntimeError, HTTPException) as error:
        raise _unreadable(place, name, error) from error


def _copy(
    source: IO[bytes], target: Path, progress: Callable[[int, int], None], what: tuple[str, str]
) -> str:
    """Copy a file, of which the place and name are given, and give its SHA-256."""
    headers = getattr(source, "headers", None)
    stated = (headers.get("Content-Length") or "") if headers else ""
    total = int(stated) if stated.isdecimal() and len(stated) < 20 else 0
    digest, done = hashlib.sha256(), 0
    with target.open("wb") as file:
        while piece := _read(source, *what):
            if done + len(piece) > MAX_BYTES:
                raise WeightsError(
                    f"{what[0]} has more than {MAX_BYTES >> 20} MiB, so it is not {what[1]}.",
                    hint="Give the file of the model itself, or the folder with it.",
                )
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            progress(done, total)
    return digest.hexdigest()


def _read(source: IO[bytes], place: str, name: str) -> bytes:
    try:
        return source.read(_PIECE)
    except (OSError, HTTPException) as error:
        raise _unreadable(place, name, error) from error


def _unreadable(place: str, name: str, error: Exception) -> ReadError:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        reason = f"the server answers {error.code}"
    elif isinstance(error, urllib.error.URLError):
        reason = f"no connection: {error.reason}"
    elif isinstance(error, InvalidURL):
        reason = "it is not an address; a space in one is written %20"
    elif isinstance(error, IncompleteRead):
        reason = "the answer was cut off"
    elif isinstance(error, HTTPException):
        reason = "the answer is not one of a web server"
    else:
        reason = getattr(error, "strerror", None) or str(error)
    return ReadError(
        f"{name} cannot be read from {place}: {reason}.",
        hint="Without a network, copy the file from another computer and give its path with "
        "--from.",
    )
