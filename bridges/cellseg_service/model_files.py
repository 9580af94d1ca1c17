"""The weights files of the models that requests name: which they are, and their hashes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from cellseg_engine.errors import ModelNotFoundError
from cellseg_engine.nets.card import file_sha256
from cellseg_engine.settings import SAME_MODEL, Settings
from cellseg_engine.zoo.files import find_files

_HASHES_KEPT = 64


def find_stamps(model: str) -> tuple[object, ...]:
    """Say which files a model is, so that one made anew under its name is known to be another."""
    try:
        return tuple((str(path), *_stamp(path)) for path in find_files(model))
    except ModelNotFoundError:
        return ()


def weights_sha256(settings: Settings) -> list[str]:
    """Give the SHA-256 of each weights file, those of the side views last, as run.json has them.

    Raises
    ------
    ModelNotFoundError
        There is no such model, or no such file.
    """
    models = [settings.model]
    if settings.model_side_views != SAME_MODEL:
        models.append(settings.model_side_views)
    files = [path for model in models for path in find_files(model)]
    try:
        return [_digest(path, _stamp(path)) for path in files]
    except OSError as error:
        raise ModelNotFoundError(
            f"The weights {error.filename} cannot be read: {error.strerror}.",
            hint="Name another model; `cellseg models list` shows them.",
        ) from error


@lru_cache(_HASHES_KEPT)
def _digest(path: Path, _as_it_is: tuple[int, int]) -> str:
    return file_sha256(path)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except (OSError, ValueError):
        return 0, 0
    return about.st_mtime_ns, about.st_size
