"""Models given by the path of their weights."""

from __future__ import annotations

from pathlib import Path


def looks_like_path(name: str) -> bool:
    """Say whether a model is given by the path of a file or folder, and not by name."""
    if name == AUTO or _is_known(name):
        return False
    return (
        "/" in name
        or "\\" in name
        or name.endswith((".pth", ".safetensors"))
        or is_file(Path(name))
    )


def expand_path(name: str) -> Path:
    """Give the path of a weights file, with ``~`` replaced where it stands for a home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)
