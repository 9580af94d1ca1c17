"""Which weights files a model is."""

from __future__ import annotations

from pathlib import Path

from cellseg_engine.zoo.paths import expand_path, weights_files
from cellseg_engine.zoo.store import find_model, looks_like_path


def find_files(name: str) -> list[Path]:
    """Give the weights files of a model, by name or by the path of a file or a folder of them.

    Raises
    ------
    ModelNotFoundError
        No such name, or no weights in the folder.
    """
    if looks_like_path(name):
        return weights_files(expand_path(name))
    return list(find_model(name).files)
