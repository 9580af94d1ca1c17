"""Pickled dictionaries in ``.npy`` files, as Cellpose writes them, read without running anything.

A pickle can run programs when it is read. This unpickler admits NumPy arrays, numbers and plain
containers; everything else is refused by name.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, ClassVar

import numpy as np

NUMBERS = "biuf"
"""Kinds of dtypes that are numbers."""


class RefusedError(Exception):
    """The message names what a pickle asked for."""


def load_plain_npy(data: bytes, scalar_kinds: str = NUMBERS) -> Any:
    """Give the object of a ``.npy`` file that holds one pickled object.

    Parameters
    ----------
    data
        The file.
    scalar_kinds
        Kinds of the dtypes that NumPy scalars in it may have.

    Raises
    ------
    RefusedError
        It asks for anything but plain data; nothing was executed.
    Exception
        Damaged bytes can raise nearly anything.
    """
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(stream)
    if shape != () or not dtype.hasobject:
        raise ValueError("not a pickled dictionary")
    content = _PlainUnpickler(stream, scalar_kinds).load()
    return content.item() if isinstance(content, np.ndarray) else content


def _empty_array(kind: type, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Stand in for NumPy's ``_reconstruct``: an empty array that the pickle then fills."""
    if kind is not np.ndarray or shape != (0,):
        raise RefusedError("something else than a NumPy array")
    return np.ndarray(shape, dtype)


def _path(*parts: str) -> str:
    """Stand in for the paths of Python, as which a script may have given a file name."""
    return "/".join(map(str, parts))


_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")


class _PlainUnpickler(pickle.Unpickler):
    _ADMITTED: ClassVar[dict[tuple[str, str], Any]] = {
        **{(module, name): _path for module in ("pathlib", "pathlib._local") for name in _PATHS},
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    }
    _SCALARS = (("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"))

    def __init__(self, stream: io.BytesIO, scalar_kinds: str) -> None:
        super().__init__(stream)
        self._scalar_kinds = scalar_kinds

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._SCALARS:
            return self._scalar
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise RefusedError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedError("objects outside the file")

    def _scalar(self, dtype: np.dtype, data: bytes) -> Any:
        """Stand in for NumPy's ``scalar``."""
        if dtype.kind not in self._scalar_kinds:
            raise RefusedError(f"a scalar of dtype {dtype}")
        return np.frombuffer(data, dtype)[0]
