"""Checkpoints: all that a training needs to go on exactly where it was.

A checkpoint is written beside the last one, brought to the disk, and then takes its name; the one
before is kept. A kill at any moment leaves at least one that is whole.
"""

from __future__ import annotations

import io
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from cellseg_engine.errors import ReadError
from cellseg_engine.io.staging import writing

NEWEST, PREVIOUS, UNFINISHED = "newest.pt", "previous.pt", "unfinished.pt"
FORMAT = 1

_log = logging.getLogger(__name__)


class CheckpointFolder:
    """The two newest checkpoints of a training.

    Parameters
    ----------
    folder
        Made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, content: dict[str, Any]) -> None:
        """Keep a checkpoint: tensors, numbers, texts and containers of them.

        Raises
        ------
        WriteError
            The disk is full or the folder cannot be written to; earlier checkpoints stay.
        """
        unfinished = self._folder / UNFINISHED
        content_bytes = io.BytesIO()  # torch hides the reason when it fails to write itself
        torch.save({"format": FORMAT, **content}, content_bytes)
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with unfinished.open("wb") as file:
                    file.write(content_bytes.getbuffer())
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            if (self._folder / NEWEST).exists():
                os.replace(self._folder / NEWEST, self._folder / PREVIOUS)
            os.replace(unfinished, self._folder / NEWEST)
            _sync_folder(self._folder)

    def read(self) -> dict[str, Any] | None:
        """Give the newest checkpoint that is whole; None if there is none.

        Raises
        ------
        ReadError
            There are checkpoints, and none of them can be read.
        """
        there = [path for name in (NEWEST, PREVIOUS) if (path := self._folder / name).is_file()]
        for path in there:
            content = _read(path)
            if content is not None:
                return content
            _log.warning("%s is damaged; the one before is used.", path)
        if there:
            raise ReadError(
                f"The checkpoints in {self._folder} are damaged.",
                hint="Begin anew with --overwrite.",
            )
        return None

    def remove(self) -> None:
        """Delete all checkpoints.

        Raises
        ------
        WriteError
            The disk is read-only, or there is no permission.
        """
        with writing(self._folder):
            for name in (NEWEST, PREVIOUS, UNFINISHED):
                (self._folder / name).unlink(missing_ok=True)
            if self._folder.is_dir() and not any(self._folder.iterdir()):
                self._folder.rmdir()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 (damaged bytes can raise nearly anything)
        return None
    is_ours = isinstance(content, dict) and content.get("format") == FORMAT
    return content if is_ours else None


def _sync_folder(folder: Path) -> None:
    """Bring the new names to the disk, where the system can do that for a folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
