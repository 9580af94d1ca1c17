"""An ImagePlus as an array: what its dimensions are, and its pixels plane by plane."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from cellseg_engine.errors import ImageError
from cellseg_imagej.errors import ClosedImageError
from cellseg_imagej.java import java_class
from cellseg_imagej.pixels import copy_from_java, to_java

logger = logging.getLogger(__name__)

_SIGN_BIT = np.uint16(0x8000)
_BYTE_BITS, _RGB_BITS = 8, 24
_MAX_PLANE_SHARE = 0.9


class Source:
    """An ImagePlus that is read as an array.

    Attributes
    ----------
    lengths
        Number of frames, slices and channels.
    axes
        One letter of ``TZCYXS`` for each dimension longer than 1, and Y and X. ``S``, red, green
        and blue, comes last for RGB pixels and before Y for files with 16 bits per colour.
    is_virtual
        Its planes are on disk.

    Raises
    ------
    ClosedImageError
        It was closed.
    """

    def __init__(self, image: Any) -> None:
        self.image = image
        if image.getProcessor() is None:
            raise _closed(image)
        width, height, n_channels, n_slices, n_frames = (int(n) for n in image.getDimensions())
        self.lengths = (n_frames, n_slices, n_channels)
        self.size = (height, width)
        self.is_virtual = bool(image.getStack().isVirtual())
        depth = int(image.getBitDepth())
        self._is_rgb = depth == _RGB_BITS or _shows_palette(image)
        self._is_signed = depth == 16 and bool(image.getLocalCalibration().isSigned16Bit())
        # Signed numbers are read as they are stored, and moved afterwards.
        self._stored = np.dtype(
            np.uint32 if self._is_rgb else {8: np.uint8, 16: np.uint16, 32: np.float32}[depth]
        )
        is_colour_file = _is_colour_file(image) and n_channels == 3
        letters = "TZ" + ("S" if is_colour_file else "C")
        kept = [x for x, length in zip(letters, self.lengths, strict=True) if length > 1]
        self.axes = "".join(kept) + "YX" + ("S" if self._is_rgb else "")

    @property
    def title(self) -> str:
        """Title of the image."""
        return str(self.image.getTitle())

    @property
    def n_planes(self) -> int:
        """Number of planes, over time, depth and channels."""
        return int(np.prod(self.lengths))

    def describe_virtual(self) -> str:
        """Give the sentence that says how planes on disk are read."""
        return (
            f"{self.title} is a virtual stack: its {self.n_planes} planes were read from disk one "
            "by one."
        )

    def read(self) -> np.ndarray:
        """Give the pixels, copied, in the order of `axes`.

        Returns
        -------
        uint8, uint16, int16 (where the calibration says signed) or float32. Values are those
        stored: display ranges, look-up tables and density calibrations change nothing. Only
        ImageJ's 8-bit Color, and the palette of a file, become red, green and blue.

        Raises
        ------
        ClosedImageError
            It was closed meanwhile.
        ImageError
            It does not fit into memory, or a plane is of another type than the others.
        """
        height, width = self.size
        shape = (self.n_planes, height, width)
        bytes_per_pixel = 3 if self._is_rgb else self._stored.itemsize
        self._check_fits(int(np.prod(shape)) * bytes_per_pixel)
        if self.is_virtual:
            logger.info("%s", self.describe_virtual())
        array = np.empty((*shape, 3), np.uint8) if self._is_rgb else np.empty(shape, self._stored)
        packed = np.empty(self.size if self._is_rgb else 0, np.uint32)
        for index in range(self.n_planes):
            pixels = self._pixels(index + 1)
            if not copy_from_java(pixels, packed if self._is_rgb else array[index]):
                raise ImageError(
                    f"Plane {index + 1} of {self.title} is of another type or size than the first.",
                    hint="Convert the stack to one type in ImageJ (Image, Type).",
                )
            if self._is_rgb:
                for colour, shift in enumerate((16, 8, 0)):
                    array[index, ..., colour] = (packed >> np.uint32(shift)).astype(np.uint8)
        if self._is_signed:
            array ^= _SIGN_BIT  # ImageJ keeps signed numbers 32,768 higher
            array = array.view(np.int16)
        sizes = [length for length in self.lengths if length > 1]
        return array.reshape(*sizes, *array.shape[1:])

    def _pixels(self, number: int) -> Any:
        """Give the Java array of a plane, from 1."""
        stack = self.image.getStack()
        if not self._is_rgb and not self.is_virtual and self.n_planes > 1:
            pixels = stack.getPixels(number)
        else:
            several = self.n_planes > 1
            processor = stack.getProcessor(number) if several else self.image.getProcessor()
            if processor is None:
                raise _closed(self.image)
            if self._is_rgb:
                processor = processor.convertToRGB()
            pixels = processor.getPixels()
        if pixels is None:
            raise _closed(self.image)
        return pixels

    def _check_fits(self, n_bytes: int) -> None:
        import psutil

        free = int(psutil.virtual_memory().available)
        if n_bytes > free * _MAX_PLANE_SHARE:
            raise ImageError(
                f"{self.title} has {self.n_planes} planes, {n_bytes / 1e9:.1f} GB as an array; "
                f"{free / 1e9:.1f} GB of memory are free.",
                hint="Read a part of it (Image, Duplicate), or segment the file with "
                "`cellseg segment`.",
            )


def channel_names(image: Any) -> tuple[str, ...]:
    """Give the names of the channels: first lines of the slice labels, if the same everywhere.

    Empty where channels are not all named, or not apart, and for planes on disk.
    """
    stack, n_channels = image.getStack(), int(image.getNChannels())
    if stack.isVirtual():
        return ()
    size = int(stack.getSize())
    labels = [str(stack.getSliceLabel(n) or "") for n in range(1, size + 1)]
    lines = [label.strip().split("\n")[0].strip() for label in labels]
    names = lines[:n_channels]
    is_named = all(names) and len(set(names)) == n_channels
    is_same = bool(names) and lines == names * (len(lines) // n_channels)
    return tuple(names) if is_named and is_same else ()


def _closed(image: Any) -> ClosedImageError:
    return ClosedImageError(
        f"The image {image.getTitle()} is closed, so its pixels are gone.",
        hint="Open it again, and keep it open until it is read.",
    )


def _is_colour_file(image: Any) -> bool:
    """Say whether the channels are the red, green and blue of a file with 16 bits per colour."""
    info = image.getOriginalFileInfo()
    kind = java_class("ij.io.FileInfo")
    return info is not None and int(info.fileType) in (int(kind.RGB48), int(kind.RGB48_PLANAR))


def _shows_palette(image: Any) -> bool:
    """Say whether the colours of an 8-bit image are its content, as in a palette PNG.

    They are after Image > Type > 8-bit Color, and where its file has them. In a file of ImageJ,
    and where they rise with the value, they only tint intensities, as tables that users choose.
    """
    if int(image.getBitDepth()) != _BYTE_BITS or isinstance(image, java_class("ij.CompositeImage")):
        return False
    processor = image.getProcessor()
    if not processor.isColorLut():
        return False
    # ImageJ 1.54 says so of images that it converted, not of those that it opened.
    if int(image.getType()) == int(image.COLOR_256) and not processor.isPseudoColorLut():
        return True
    info = image.getOriginalFileInfo()
    if info is None or str(info.description or "").startswith("ImageJ"):
        return False
    stack = image.getStack()
    planes = (stack.getProcessor(n) for n in range(1, int(stack.getSize()) + 1))
    used = int(max(plane.getStatistics().max for plane in planes)) + 1
    table, from_file = _colours(processor.getLut())[:, :used], _file_colours(info)
    if from_file is None or not np.array_equal(table, from_file[:, :used]):
        return False
    return bool((np.diff(table.astype(int)) < 0).any())


def _file_colours(info: Any) -> np.ndarray | None:
    """Give the palette that a file has, uint8 of shape (3, n), or None."""
    if int(info.lutSize) > 0 and info.reds is not None:
        table = np.zeros((3, len(info.reds)), np.uint8)
        for values, java in zip(table, (info.reds, info.greens, info.blues), strict=True):
            copy_from_java(java, values)
        return table
    file = java_class("java.io.File")(str(info.directory or ""), str(info.fileName or ""))
    try:
        picture = java_class("javax.imageio.ImageIO").read(file) if file.isFile() else None
    except java_class("java.io.IOException"):
        return None
    model = picture.getColorModel() if picture is not None else None
    is_table = isinstance(model, java_class("java.awt.image.IndexColorModel"))
    return _colours(model) if is_table else None


def _colours(model: Any) -> np.ndarray:
    """Give the reds, greens and blues of a table, uint8 of shape (3, n)."""
    table = np.zeros((3, int(model.getMapSize())), np.uint8)
    for values, read in zip(table, (model.getReds, model.getGreens, model.getBlues), strict=True):
        java = to_java(values)
        read(java)
        copy_from_java(java, values)
    return table
