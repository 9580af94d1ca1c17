"""Models in the official layout, for cellpose 2 and 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cellseg_engine.io.staging import staged
from cellseg_engine.nets.card import WeightsFile
from cellseg_engine.nets.size_model import write_official_size_model
from cellseg_engine.nets.weights import export_official


def official_names(target: Path, files: Sequence[WeightsFile]) -> list[str]:
    """Give the names of the files that `write_official` writes beside one another."""
    names = [target.name]
    if len(files) > 1:
        names = [f"{target.stem}_{number}{target.suffix}" for number in range(len(files))]
    return [*names, f"{names[0]}_size.npy"] if files[0].size_model else names


def write_official(target: Path, files: Sequence[WeightsFile]) -> list[Path]:
    """Write the networks of a model as official weights files, and its size model beside them.

    Parameters
    ----------
    target
        The weights file; an ensemble becomes ``TARGET_0``, ``TARGET_1`` ..., with the suffix
        at the end. Existing files are replaced.

    Returns
    -------
    The files written, the size model last; it has the name of the first network and ``_size.npy``.

    Raises
    ------
    WriteError
        They cannot be written; none is there then.
    """
    names = official_names(target, files)
    with staged(target.parent) as stage:
        for name, file in zip(names, files, strict=False):
            export_official(stage.path(name), file)
        if files[0].size_model:
            write_official_size_model(stage.path(names[-1]), files[0].size_model)
    return [target.with_name(name) for name in names]
