"""Rows of numbers between NumPy and Java, a copy at the speed of memory each way.

The arrays of ImageJ lie on the heap of Java, where the collector may move them, so they cannot be
shared with NumPy; what is here is one copy. (An image that lives in shared memory is a thing of
imglib2: pyimagej's ``ij.py.to_dataset``.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cellseg_imagej.java import java_class

_CHUNK = 1 << 27
"""Numbers that go over at once: a direct buffer holds up to 2 GiB."""
_KINDS = {
    np.dtype(np.uint8): ("JByte", None),
    np.dtype(np.int8): ("JByte", None),
    np.dtype(np.uint16): ("JShort", "asShortBuffer"),
    np.dtype(np.int16): ("JShort", "asShortBuffer"),
    np.dtype(np.uint32): ("JInt", "asIntBuffer"),
    np.dtype(np.int32): ("JInt", "asIntBuffer"),
    np.dtype(np.float32): ("JFloat", "asFloatBuffer"),
    np.dtype(np.float64): ("JDouble", "asDoubleBuffer"),
}


def to_java(values: np.ndarray) -> Any:
    """Give a Java array of the same bits.

    Parameters
    ----------
    values
        Whole numbers of 8, 16 or 32 bits, float32 or float64, any shape, native byte order.
    """
    import jpype

    flat = np.ascontiguousarray(values).reshape(-1)
    array = jpype.JArray(getattr(jpype, _KINDS[values.dtype][0]))(flat.size)
    for start, part, buffer in _buffers(flat):
        buffer.get(array, start, part)
    return array


def copy_from_java(array: Any, target: np.ndarray) -> bool:
    """Copy a Java array of numbers into a NumPy one of the same bits.

    Parameters
    ----------
    array
        ``byte[]``, ``short[]``, ``int[]``, ``float[]``, ``double[]``.
    target
        Contiguous, any shape.

    Returns
    -------
    False, with nothing copied, if the two have another type or number of elements.
    """
    import jpype

    same = jpype.JArray(getattr(jpype, _KINDS[target.dtype][0]))
    if not isinstance(array, same) or len(array) != target.size:
        return False
    for start, part, buffer in _buffers(target.reshape(-1)):
        buffer.put(array, start, part)
    return True


def _buffers(flat: np.ndarray) -> Iterator[tuple[int, int, Any]]:
    """Give the memory of a flat array to Java in parts: first element, elements, typed buffer."""
    import jpype.nio

    view = _KINDS[flat.dtype][1]
    native = java_class("java.nio.ByteOrder").nativeOrder()
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        buffer = jpype.nio.convertToDirectBuffer(part.view(np.uint8)).order(native)
        yield start, part.size, buffer if view is None else getattr(buffer, view)()
