"""Annotations of the Cellpose interface: ``NAME_seg.npy``.

The format is a pickled dictionary, and a pickle can run programs when it is read. Here it is read
by an unpickler that admits NumPy arrays, numbers, texts and plain containers only.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cellseg_engine.errors import ReadError

MAX_FILE_BYTES = 4 << 30


def read_seg_labels(path: Path) -> np.ndarray:
    """Read the masks of a ``_seg.npy`` file; nothing in it is executed.

    Returns
    -------
    Numbers of shape (Y, X), or (Z, Y, X) for stacks, as stored.

    Raises
    ------
    ReadError
        Damaged, without masks, or asking for anything but plain data.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ReadError(f"{path} is larger than {MAX_FILE_BYTES / 1e9:.0f} GB.")
        data = path.read_bytes()
    except OSError as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError(f"The file {path} cannot be read: {error.strerror}.") from error
    try:
        content = _load(data)
    except _RefusedError as error:
        raise ReadError(
            f"{path} is refused: it asks for {error}, which an annotation does not need.",
            hint="Do not use this file: loading it could run a program hidden in it.",
        ) from None
    except Exception as error:  # unpickling damaged bytes can raise nearly anything
        raise ReadError(
            f"{path} is damaged or not a _seg.npy file of Cellpose.",
            hint="Save it again there, or export the masks as TIFF.",
        ) from error
    masks = content.get("masks") if isinstance(content, dict) else None
    if (
        not isinstance(masks, np.ndarray)
        or masks.dtype.kind not in "biuf"
        or masks.ndim not in (2, 3)
    ):
        raise ReadError(
            f"{path} holds no masks.", hint="Save it again in the Cellpose interface with masks."
        )
    return masks[0] if masks.ndim == 3 and len(masks) == 1 else masks


def _load(data: bytes) -> Any:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(stream)
    if shape != () or not dtype.hasobject:
        raise ValueError("not a pickled dictionary")
    content = _PlainUnpickler(stream).load()
    return content.item() if isinstance(content, np.ndarray) else content


class _RefusedError(Exception):
    """Names what a pickle asked for."""


def _empty_array(kind: type, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Stand in for NumPy's ``_reconstruct``: an empty array that the pickle then fills."""
    if kind is not np.ndarray or shape != (0,):
        raise _RefusedError("something else than a NumPy array")
    return np.ndarray(shape, dtype)


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    """Stand in for NumPy's ``scalar``."""
    if dtype.kind not in "biufSU":
        raise _RefusedError(f"a scalar of dtype {dtype}")
    return np.frombuffer(data, dtype)[0]


class _PlainUnpickler(pickle.Unpickler):
    """Admits NumPy arrays, numbers, texts and plain containers."""

    _ADMITTED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy._core.multiarray", "_reconstruct"): _empty_array,
        ("numpy.core.multiarray", "scalar"): _scalar,
        ("numpy._core.multiarray", "scalar"): _scalar,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("objects outside the file")
