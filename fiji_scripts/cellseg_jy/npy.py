"""Arrays as ``.npy`` files: written and read plane by plane through one direct buffer.

Never mapped: a mapped file that is full or truncated ends the whole JVM.
"""

from __future__ import unicode_literals

import re
import uuid

import jarray
from java.io import File, IOException
from java.nio import ByteBuffer, ByteOrder
from java.nio.channels import FileChannel
from java.nio.file import Files, NoSuchFileException, Paths, StandardOpenOption

from cellseg_jy.problems import Problem
from cellseg_jy.texts import to_bytes, to_text

_BUFFER_BYTES = 1 << 20
_HEADER_BYTES = 128
_HEADER_LIMIT_BYTES = 65536
_MAGIC = (0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59)
_ITEM_BYTES = {"|u1": 1, "<u2": 2, "<i2": 2, "<f4": 4, "<i4": 4}
_TYPE_CODES = {"|u1": "b", "<u2": "h", "<i2": "h", "<f4": "f"}


class FolderGone(Problem):
    """The exchange folder is not there: the engine ended since it was found."""


def write_array(folders, dtype, shape, planes):
    """Write planes as one array under a new name, and give the name and the file.

    Parameters
    ----------
    folders
        Exchange folders, the fast one first; it is used if more than twice the size is free.
    dtype
        ``|u1``, ``<u2``, ``<i2`` or ``<f4``.
    shape
        Of the whole array.
    planes
        Function that gives the Java arrays of the planes anew each time.

    Raises
    ------
    FolderGone, Problem
        It cannot be written; nothing is left behind.
    """
    size = _ITEM_BYTES[dtype]
    for length in shape:
        size *= length
    fast, large = folders[0], folders[-1]
    is_roomy = fast != large and File(fast).getUsableSpace() > 2 * size
    reason = ""
    for folder in [fast, large] if is_roomy else [large]:
        if not File(folder).isDirectory():
            raise FolderGone("The engine's folder {} is gone.".format(folder), code="lost")
        name = uuid.uuid4().hex + ".npy"
        path = Paths.get(folder, [name])
        try:
            _write(path, dtype, shape, planes)
            return name, path
        except IOException as error:
            reason = error.getMessage()
            delete(path)
        except BaseException:
            delete(path)
            raise
    raise Problem(
        "The image cannot be written for the engine into {}: {}.".format(large, reason),
        "It needs {:.1f} MB there; free some space, or segment a part of the image.".format(
            size / 1e6
        ),
        "exchange-full",
    )


def read_labels(path):
    """Give the shape of a label array and its planes, and remove the file.

    Returns
    -------
    shape
        Its last two lengths are the height and the width.
    planes
        One Java array each: short[] up to 65,535 objects, else int[].
    """
    path = Paths.get(path, [])
    try:
        channel = FileChannel.open(path, [StandardOpenOption.READ])
        try:
            dtype, shape, offset = _read_header(channel)
            channel.position(offset)
            return shape, list(_read_planes(channel, dtype, shape))
        finally:
            channel.close()
    except NoSuchFileException:
        raise Problem("The engine's result is gone: {}.".format(path), "Try again.", "lost")
    except IOException as error:
        raise Problem("The engine's result cannot be read: {}.".format(error.getMessage()))
    finally:
        delete(path)


def delete(path):
    """Remove a file; one that is gone, or open elsewhere, is left to the engine."""
    try:
        Files.deleteIfExists(path)
    except IOException:
        pass


def make_buffer():
    """Give a direct buffer for one task; two tasks must not share one."""
    return ByteBuffer.allocateDirect(_BUFFER_BYTES).order(ByteOrder.LITTLE_ENDIAN)


def _write(path, dtype, shape, planes):
    channel = FileChannel.open(path, [StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE])
    try:
        buffer = make_buffer()
        buffer.put(_make_header(dtype, shape))
        buffer.flip()
        _drain(buffer, channel)
        expected = shape[-1] * shape[-2]
        for pixels in planes():
            if pixels.typecode != _TYPE_CODES[dtype]:
                raise Problem("The planes of the image have different pixel types.", code="image")
            if len(pixels) != expected:
                raise Problem("The planes of the image have different sizes.", code="image")
            _write_plane(buffer, channel, dtype, pixels)
    finally:
        channel.close()


def _write_plane(buffer, channel, dtype, pixels):
    item = _ITEM_BYTES[dtype]
    step = _BUFFER_BYTES // item
    buffer.clear()  # a view covers position to limit
    view = {"|u1": buffer.duplicate, "<f4": buffer.asFloatBuffer}.get(dtype, buffer.asShortBuffer)()
    for start in range(0, len(pixels), step):
        count = min(step, len(pixels) - start)
        view.clear()
        view.put(pixels, start, count)
        buffer.clear()
        buffer.limit(count * item)
        _drain(buffer, channel)


def _drain(buffer, channel):
    while buffer.hasRemaining():
        channel.write(buffer)


def _make_header(dtype, shape):
    text = "{{'descr': '{}', 'fortran_order': False, 'shape': ({},), }}".format(
        dtype, ", ".join("{:d}".format(length) for length in shape)
    )
    length = _HEADER_BYTES - 10
    head = "".join(unichr(byte) for byte in _MAGIC + (1, 0, length & 0xFF, length >> 8))
    return to_bytes(head + text.ljust(length - 1) + "\n", "ISO-8859-1")


def _read_header(channel):
    start = ByteBuffer.allocate(_HEADER_LIMIT_BYTES).order(ByteOrder.LITTLE_ENDIAN)
    while start.hasRemaining() and channel.read(start) > 0:
        pass
    start.flip()
    if start.limit() < 10 or any(start.get(n) & 0xFF != byte for n, byte in enumerate(_MAGIC)):
        raise Problem("The engine's result is no array.")
    is_first = start.get(6) == 1
    length = start.getShort(8) & 0xFFFF if is_first else start.getInt(8)
    begin = 10 if is_first else 12
    text = to_text(start.array()[begin : begin + length], "ISO-8859-1")
    dtype = re.search("'descr': '([^']+)'", text)
    shape = re.search(r"'shape': \(([\d, ]+)\)", text)
    if not dtype or not shape or "'fortran_order': False" not in text:
        raise Problem("The engine's result is an array of another kind: {}.".format(text.strip()))
    lengths = [int(part) for part in shape.group(1).split(",") if part.strip()]
    return dtype.group(1), lengths, begin + length


def _read_planes(channel, dtype, shape):
    n_planes = 1
    for length in shape[:-2]:
        n_planes *= length
    n_pixels = shape[-1] * shape[-2]
    buffer = make_buffer()
    if dtype not in ("<u2", "<i4"):
        raise Problem("The engine's labels are of another kind: {}.".format(dtype))
    kind = str("h") if dtype == "<u2" else str("i")
    view = buffer.asShortBuffer() if dtype == "<u2" else buffer.asIntBuffer()
    item = _ITEM_BYTES[dtype]
    step = _BUFFER_BYTES // item
    for _ in range(n_planes):
        pixels = jarray.zeros(n_pixels, kind)
        for start in range(0, n_pixels, step):
            count = min(step, n_pixels - start)
            buffer.clear()
            buffer.limit(count * item)
            while buffer.hasRemaining():
                if channel.read(buffer) < 0:
                    raise Problem("The engine's result is truncated.", "Try again.", "lost")
            view.clear()
            view.get(pixels, start, count)
        yield pixels
