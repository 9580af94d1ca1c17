"""Pickled dictionaries in ``.npy`` files, as Cellpose writes them, read without running anything.

A pickle can run programs when it is read. This unpickler admits NumPy arrays, numbers and plain
containers; everything else is refused by name. NumPy itself sees no pickle: its own way to fill
arrays and dtypes trusts what it reads.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from typing import Any, ClassVar, Literal

import numpy as np

NUMBERS = "biuf"
"""Kinds of dtypes that are numbers."""
_PLAIN_DTYPE = re.compile("[biufUSO][0-9]{0,9}")
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")


class RefusedError(Exception):
    """The message names what a pickle asked for."""


def load_plain_npy(data: bytes, scalar_kinds: str = NUMBERS) -> Any:
    """Give the object of a ``.npy`` file that holds one pickled object.

    The values of a dictionary that are arrays are given as such; deeper ones are not made.

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
    if isinstance(content, _Array):
        content = content.make()
    if isinstance(content, list):
        (content,) = content
    if not isinstance(content, dict):
        return content
    return {key: v.make() if isinstance(v, _Array) else v for key, v in content.items()}


class _Dtype:
    """Stand in for a dtype of plain numbers, texts or objects.

    NumPy's own believes a pickle about its fields and flags: with wrong ones the bytes of an
    array count as the addresses of objects.
    """

    def __init__(self, text: object) -> None:
        if not isinstance(text, str) or not _PLAIN_DTYPE.fullmatch(text):
            raise RefusedError(f"the dtype {text!r}")
        self.plain: np.dtype[Any] = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, byte_order, *inner, _size, _alignment, _flags = state[:8]
        if len(inner) != 3 or any(part is not None for part in (*inner, *state[8:])):
            raise RefusedError("a dtype with fields")
        self.plain = self.plain.newbyteorder(byte_order)


class _Array:
    """Stand in for an array, which is made only where it is wanted."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self._shape, dtype, self._is_fortran, self._data = state
        if not isinstance(dtype, _Dtype):
            raise RefusedError("an array without a dtype")
        self._dtype = dtype.plain

    def make(self) -> Any:
        """Give the array; of one with objects the list of them."""
        if self._dtype.hasobject:
            return list(self._data)
        if len(self._data) != math.prod(self._shape) * self._dtype.itemsize:
            raise ValueError("an array of another size than its bytes")
        order: Literal["F", "C"] = "F" if self._is_fortran else "C"
        return np.ndarray(self._shape, self._dtype, bytearray(self._data), order=order)


class _PlainUnpickler(pickle.Unpickler):
    _STAND_INS: ClassVar[dict[tuple[str, str], str]] = {
        **{(module, name): "_path" for module in ("pathlib", "pathlib._local") for name in _PATHS},
        ("numpy", "dtype"): "_dtype",
        **{
            (f"numpy.{core}.multiarray", name): f"_{name.strip('_')}"
            for core in ("core", "_core")
            for name in ("_reconstruct", "scalar")
        },
    }

    def __init__(self, stream: io.BytesIO, scalar_kinds: str) -> None:
        super().__init__(stream)
        self._scalar_kinds = scalar_kinds

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return _Array
        try:
            return getattr(self, self._STAND_INS[module, name])
        except KeyError:
            raise RefusedError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedError("objects outside the file")

    def _dtype(self, text: object, *_: object) -> _Dtype:
        return _Dtype(text)

    def _reconstruct(self, kind: type, shape: tuple[int, ...], _: object) -> _Array:
        """Give an empty array, which the pickle then fills."""
        if kind is not _Array or shape != (0,):
            raise RefusedError("something else than a NumPy array")
        return _Array()

    def _scalar(self, dtype: object, data: bytes) -> Any:
        if not isinstance(dtype, _Dtype) or dtype.plain.kind not in self._scalar_kinds:
            raise RefusedError(f"a scalar of dtype {getattr(dtype, 'plain', dtype)}")
        return np.frombuffer(data, dtype.plain)[0]

    def _path(self, *parts: str) -> str:
        """Give the paths of Python, as which a script may have given a file name, as text."""
        return "/".join(map(str, parts))
