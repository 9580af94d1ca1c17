"""Flow targets kept on disk, by the content of the labels that they belong to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.io.staging import staged

_FORMAT = 1


class FlowCache:
    """A folder of ``.npy`` files, each named by a hash of labels and flow variant.

    Parameters
    ----------
    folder
        Made when the first flows are kept. Several runs may share it; a file appears complete or
        not at all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def flows(self, labels: np.ndarray, variant: FlowVariant) -> np.ndarray:
        """Give the flows of a label image, from the disk if they are there.

        Parameters
        ----------
        labels
            int32 of shape (Y, X).
        variant
            See `cellseg_engine.core.flow_variants`.

        Returns
        -------
        float32 of shape (2, Y, X), read-only, mapped from the disk.

        Raises
        ------
        WriteError
            The folder cannot be written to.
        """
        path = self._folder / f"{_key(labels, variant)}.npy"
        shape = (2, *labels.shape)
        known = _read(path, shape)
        if known is not None:
            return known
        with staged(self._folder) as stage, stage.path(path.name).open("wb") as file:
            np.save(file, labels_to_flows(labels, variant))
        written = _read(path, shape)
        return written if written is not None else labels_to_flows(labels, variant)


def _key(labels: np.ndarray, variant: str) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {variant} {labels.shape} {labels.dtype.str}".encode())
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Give the array of a file, or None where it is missing, cut short or of another shape."""
    try:
        flows: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return flows if flows.shape == shape and flows.dtype == np.float32 else None
