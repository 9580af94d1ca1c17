"""Flow targets kept on disk, by the content of the labels that they belong to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

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

    def flows(self, labels: np.ndarray, variant: FlowVariant) -> KeptFlows:
        """Give the flows of a label image, from the disk if they are there.

        Parameters
        ----------
        labels
            int32 of shape (Y, X).
        variant
            See `cellseg_engine.core.flow_variants`.

        Raises
        ------
        WriteError
            The folder cannot be written to.
        """
        path = self._folder / f"{_key(labels, variant)}.npy"
        if _read(path, labels.shape) is None:
            with staged(self._folder) as stage, stage.path(path.name).open("wb") as file:
                np.save(file, labels_to_flows(labels, variant))
        return KeptFlows(path, labels, variant)


class KeptFlows:
    """An array on the disk, for `numpy.asarray`: float32 of shape (2, Y, X), read-only.

    The file is open only as long as the array is in use, so that there may be any number of them.
    """

    def __init__(self, path: Path, labels: np.ndarray, variant: FlowVariant) -> None:
        self._path, self._labels, self._variant = path, labels, variant

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """Map the file; where it is gone or damaged, the flows are calculated again."""
        flows = _read(self._path, self._labels.shape)
        if flows is None:
            flows = labels_to_flows(self._labels, self._variant)
        return np.array(flows, dtype) if copy else np.asarray(flows, dtype)


def _key(labels: np.ndarray, variant: str) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {variant} {labels.shape} {labels.dtype.str}".encode())
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Give the flows of a file, or None where it is missing, cut short or of another shape."""
    try:
        flows: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return flows if flows.shape == (2, *shape) and flows.dtype == np.float32 else None
