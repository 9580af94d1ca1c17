"""Arrays that others wrote: `.npy` files, checked before a byte of them is used."""

from __future__ import annotations

import math
import os
import stat
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cellseg_service.errors import ArrayError, FileNameError

LARGEST_ITEM_BYTES = 8
MAX_DIMENSIONS = 6
_HEADER_FAULTS = (
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    MemoryError,
    RecursionError,
    OverflowError,
    EOFError,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class ArrayHeader:
    """What a `.npy` file says about itself.

    Attributes
    ----------
    shape, dtype, is_fortran
        Of the array.
    offset
        Of its first byte in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    is_fortran: bool
    offset: int

    @property
    def size(self) -> int:
        """Number of items."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the items."""
        return self.size * self.dtype.itemsize


def read_header(path: Path) -> ArrayHeader:
    """Read and check the header of a `.npy` file.

    Raises
    ------
    ArrayError
        No `.npy`, not of real numbers, or of another size than it says.
    """
    with _open(path) as file:
        return _read_header(file)


def load_array(path: Path) -> np.ndarray:
    """Read a `.npy` file into memory: native byte order, C order; errors as `read_header`."""
    with _open(path) as file:
        header = _read_header(file)
        file.seek(header.offset)
        array = np.fromfile(file, header.dtype, header.size)
    if array.size != header.size:
        raise ArrayError("The file became shorter while it was read.")
    if header.dtype.kind == "b":
        array = array.view(np.uint8) != 0
    array = array.astype(header.dtype.newbyteorder("="), copy=False)
    if header.is_fortran:
        return np.ascontiguousarray(array.reshape(header.shape[::-1]).T)
    return array.reshape(header.shape)


def _open(path: Path) -> BinaryIO:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise FileNameError(
            f"{path.name!r} cannot be read: {error.strerror}; links are not followed."
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNameError(f"{path.name!r} in the exchange folder is no file.")
    return os.fdopen(descriptor, "rb")


def _read_header(file: BinaryIO) -> ArrayHeader:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers written by Python 2
            shape, is_fortran, dtype = _parse_header(file)
    except _HEADER_FAULTS as error:
        raise ArrayError(
            f"The file is not a .npy array: {str(error)[:200]}", hint="Write it with numpy.save."
        ) from None
    if dtype.hasobject or dtype.kind not in "buif" or dtype.itemsize > LARGEST_ITEM_BYTES:
        raise ArrayError(
            f"The array has dtype {str(dtype)[:100]}; integers, booleans and floats of up to 64 "
            "bits can be segmented, Python objects are never read."
        )
    if len(shape) > MAX_DIMENSIONS or any(n < 1 for n in shape):
        raise ArrayError(f"The array has the shape {str(shape)[:200]}, which no image has.")
    header = ArrayHeader(shape, dtype, is_fortran, file.tell())
    expected = header.offset + header.nbytes
    actual = os.fstat(file.fileno()).st_size
    if actual != expected:
        raise ArrayError(
            f"The file has {actual} bytes, but its header says {expected}: it is not complete, or "
            "was changed."
        )
    return header


def _parse_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the format is not known")
