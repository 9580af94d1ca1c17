"""Which weights files a model is."""

from __future__ import annotations

from pathlib import Path

from cellseg_engine.errors import ModelNotFoundError
from cellseg_engine.zoo.paths import expand_path, weights_files
from cellseg_engine.zoo.store import find_model, looks_like_path

_HINT = "Give a weights file, or the folder that `cellseg train` made."


def find_files(name: str) -> list[Path]:
    """Give the weights files of a model, by name or by the path of a file or a folder of them.

    Raises
    ------
    ModelNotFoundError
        No such name, no weights in the folder, or something that is no plain file: a device or
        a pipe would be read for ever. A file that is missing is found when it is read.
    """
    if not looks_like_path(name):
        return list(find_model(name).files)
    try:
        paths = weights_files(expand_path(name))
        strange = [path for path in paths if path.exists() and not path.is_file()]
    except OSError as error:
        raise ModelNotFoundError(
            f"The weights {name} cannot be read: {error.strerror}.", hint=_HINT
        ) from error
    if strange:
        raise ModelNotFoundError(
            f"{strange[0]} is no weights file but a device, a pipe or a folder.", hint=_HINT
        )
    return paths
