"""PNG and JPEG files."""

from __future__ import annotations

import re
from pathlib import Path

import imagecodecs
import numpy as np

from cellseg_engine.errors import ReadError
from cellseg_engine.io.raw import RawImage

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8\xff"
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


def read_png(path: Path) -> RawImage:
    """Read a PNG file; grey is YX, colour (also from a palette) is YXS.

    Raises
    ------
    ReadError
        The file is no PNG, or damaged.
    """
    data = path.read_bytes()
    if not data.startswith(_PNG_START):
        raise ReadError(f"The file {path} is not a PNG file, although its name says so.")
    try:
        pixels = imagecodecs.png_decode(data)
    except (imagecodecs.PngError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    return _picture(pixels)


def read_jpeg(path: Path) -> RawImage:
    """Read a JPEG file; grey is YX, colour is YXS.

    Raises
    ------
    ReadError
        The file is no JPEG, is damaged or ends early (the decoder would fill up with grey), or
        has the colours of print.
    """
    data = path.read_bytes()
    if not data.startswith(_JPEG_START):
        raise ReadError(f"The file {path} is not a JPEG file, although its name says so.")
    if not _jpeg_is_complete(data):
        raise _damaged(path, "it ends before the image does")
    try:
        pixels = imagecodecs.jpeg_decode(data)
    except (imagecodecs.JpegError, imagecodecs.Jpeg8Error, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        raise ReadError(
            f"The file {path} cannot be read: its colours are cyan, magenta, yellow and black.",
            hint="Save it as red, green and blue.",
        )
    return _picture(pixels)


def _picture(pixels: np.ndarray) -> RawImage:
    return RawImage(pixels, "YX" if pixels.ndim == 2 else "YXS")


def _damaged(path: Path, reason: str) -> ReadError:
    return ReadError(f"The file {path} is damaged or truncated: {reason}.")


def _jpeg_is_complete(data: bytes) -> bool:
    """Say whether the segments of a JPEG file lead to the end-of-image marker."""
    position = 2
    while match := _MARKER.match(data, position):
        marker = match[1][0]
        if marker == _END_OF_IMAGE:
            return True
        length = int.from_bytes(data[match.end() : match.end() + 2], "big")
        position = match.end() + length
        if marker == _START_OF_SCAN:
            next_marker = _MARKER.search(data, position)
            if next_marker is None:
                return False
            position = next_marker.start()
    return False
