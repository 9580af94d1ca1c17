"""Models given by the path of their weights."""

from __future__ import annotations

from pathlib import Path

from cellseg_engine.errors import ModelNotFoundError


def expand_path(name: str) -> Path:
    """Give the path of a weights file, with ``~`` replaced where it stands for a home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def weights_in(folder: Path) -> list[Path]:
    """Give the ``.safetensors`` files of a folder, without hidden ones: those are half-written."""
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))


def weights_files(path: Path) -> list[Path]:
    """Give the weights files that a path stands for: of a folder all its ``.safetensors`` files.

    Raises
    ------
    ModelNotFoundError
        The folder has none.
    """
    if not path.is_dir():
        return [path]
    found = weights_in(path)
    if not found:
        raise ModelNotFoundError(
            f"There are no weights files (.safetensors) in the folder {path}.",
            hint="Give a weights file, or the folder that `cellseg train` made.",
        )
    return found
