"""Images between ImageJ and NumPy, with axes and calibration; nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cellseg_engine.core.axes import check_letters, to_planes
from cellseg_engine.errors import AxesError, ChannelError, ImageError
from cellseg_imagej.calibration import Calibration, make_calibration, read_calibration
from cellseg_imagej.errors import JavaTypeError
from cellseg_imagej.java import IMAGEPLUS, describe_type, is_dataset, java_class
from cellseg_imagej.pixels import to_java
from cellseg_imagej.source import Source

MAX_COMPOSITE_CHANNELS = 7
MAX_EXACT_FLOAT = 1 << 24
MAX_PLANE_PIXELS = (1 << 31) - 1
_SIGN_BIT = np.uint16(0x8000)
_OPAQUE = np.uint32(0xFF000000)


class ImageArray(NamedTuple):
    """An image as Python has it.

    Attributes
    ----------
    array
        uint8, uint16, int16 or float32 of the shape that the axes say.
    axes
        One letter of ``TZCYXS`` per dimension; ``S`` are red, green and blue.
    calibration
        In space and time.
    """

    array: np.ndarray
    axes: str
    calibration: Calibration


def to_array(image: Any, axes: str | None = None) -> ImageArray:
    """Give the pixels, axes and calibration of an image of ImageJ.

    Parameters
    ----------
    image
        ``ij.ImagePlus`` or ``net.imagej.Dataset``. Planes on disk (a virtual stack) are read one
        by one, which the log says.
    axes
        The order wanted, for example ``"ZCYX"``: must name every dimension longer than 1; one
        that the image lacks becomes a dimension of length 1. If left out, those longer than 1 in
        the order ``TZCYXS``.

    Returns
    -------
    ImageArray. The array is a copy. Values are those stored: display ranges and look-up tables
    change nothing; only the palette of a picture becomes colours. 16-bit images whose calibration
    says signed are int16.

    Raises
    ------
    JavaTypeError
        The image is something else.
    ClosedImageError
        It was closed.
    AxesError
        The wanted axes leave out a dimension, or a Dataset has one of another kind.
    ImageError
        It does not fit into memory.
    """
    if is_dataset(image):
        from cellseg_imagej.datasets import read_dataset

        array, found, calibration = read_dataset(image)
    elif isinstance(image, java_class(IMAGEPLUS)):
        source = Source(image)
        array, found, calibration = source.read(), source.axes, read_calibration(image)
    else:
        raise JavaTypeError(
            f"to_array takes an ij.ImagePlus or a net.imagej.Dataset; this is "
            f"{describe_type(image)}."
        )
    if axes is None:
        return ImageArray(array, found, calibration)
    return ImageArray(_reorder(array, found, axes), axes.upper(), calibration)


def to_imageplus(
    array: Any,
    axes: str | None = None,
    calibration: Calibration | None = None,
    *,
    title: str = "array",
    channel_names: Sequence[str] = (),
) -> Any:
    """Give an array as an ``ij.ImagePlus``.

    Parameters
    ----------
    array
        uint8, uint16, int16 and float32 stay what they are; booleans become 0 and 255, 8 bits.
        Other numbers become 32-bit floats if that changes no value. Colour samples (``S``) are
        uint8. May be an `ImageArray`, which brings axes and calibration.
    axes
        What the dimensions are, in the order of the array, for example ``"ZCYX"``; may be left
        out for 2-D images only, because three numbers do not say whether there are channels,
        slices or frames.
    calibration
        1 pixel if left out.
    title
        Of the image.
    channel_names
        Become the labels of the slices; one per channel, or none.

    Raises
    ------
    AxesError
        The axes are missing or do not fit the array.
    ChannelError
        Another number of names than channels.
    ImageError
        ImageJ has no type that holds the values, or a plane is too large for it.
    """
    if isinstance(array, ImageArray):
        axes, calibration = axes or array.axes, calibration or array.calibration
        array = array.array
    stack = to_planes(np.asarray(array), axes)
    pixels = stack.pixels
    n_channels, height, width = pixels.shape[2:]
    _check_plane(height, width)
    if stack.is_rgb:
        pixels, n_channels = _pack_colours(pixels), 1
        is_signed = False
    else:
        pixels, is_signed = _storable(pixels)
    if channel_names and len(channel_names) != n_channels:
        raise ChannelError(
            f"{len(channel_names)} channel names were given for an image with {n_channels} "
            f"channel{'s' * (n_channels != 1)}.",
            hint="Give one name per channel, or none.",
        )
    image = make_imageplus(pixels, title, channel_names)
    java = make_calibration(calibration or Calibration())
    if is_signed:
        java.setSigned16BitCalibration()
    image.setCalibration(java)
    if is_signed:
        image.resetDisplayRange()
    return image


def make_imageplus(pixels: np.ndarray, title: str, channel_names: Sequence[str] = ()) -> Any:
    """Give planes of a type that ImageJ has as an ImagePlus without calibration.

    Parameters
    ----------
    pixels
        uint8, uint16, float32, or uint32 (packed colours) of shape (T, Z, C, Y, X).
    title, channel_names
        As `to_imageplus`.
    """
    n_frames, n_slices, n_channels, height, width = pixels.shape
    make = _processor_maker(pixels.dtype, width, height)
    if pixels[..., 0, 0].size == 1:
        image = java_class(IMAGEPLUS)(title, make(pixels[0, 0, 0]))
        if channel_names:
            image.setProperty("Label", channel_names[0])
        return image
    stack = java_class("ij.ImageStack")(width, height)
    for place in np.ndindex(pixels.shape[:3]):
        name = channel_names[place[2]] if channel_names else None
        stack.addSlice(name, make(pixels[place]))
    image = java_class(IMAGEPLUS)(title, stack)
    image.setDimensions(n_channels, n_slices, n_frames)
    if n_channels > 1:
        composite = java_class("ij.CompositeImage")
        few = n_channels <= MAX_COMPOSITE_CHANNELS
        image = composite(image, composite.COMPOSITE if few else composite.GRAYSCALE)
    image.setOpenAsHyperStack(True)
    return image


def _processor_maker(dtype: np.dtype[Any], width: int, height: int) -> Any:
    name = {"u1": "Byte", "u2": "Short", "f4": "Float", "u4": "Color"}[dtype.str[1:]]
    kind = java_class(f"ij.process.{name}Processor")
    more = () if name == "Color" else (None,)
    return lambda plane: kind(width, height, to_java(plane), *more)


def _check_plane(height: int, width: int) -> None:
    if height * width > MAX_PLANE_PIXELS:
        raise ImageError(
            f"The image has {height} x {width} px; a plane of ImageJ holds up to "
            f"{MAX_PLANE_PIXELS:,}.",
            hint="Give a part of it.",
        )


def _pack_colours(pixels: np.ndarray) -> np.ndarray:
    """Give (T, Z, 3, Y, X) as (T, Z, 1, Y, X) of ImageJ's packed colours, uint32."""
    if pixels.dtype != np.uint8:
        raise ImageError(
            f"Colour samples (S) of dtype {pixels.dtype} do not fit an RGB image of ImageJ, which "
            "has 8 bits each.",
            hint="Convert them to uint8, or give them as channels (C).",
        )
    red, green, blue = (pixels[:, :, n].astype(np.uint32) for n in range(3))
    return np.asarray((_OPAQUE | red << 16 | green << 8 | blue)[:, :, np.newaxis])


def _storable(pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """Give pixels in a type that ImageJ has, and whether they are signed 16-bit numbers."""
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if native.dtype == np.int16:
        return np.ascontiguousarray(native).view(np.uint16) ^ _SIGN_BIT, True
    if native.dtype in (np.uint8, np.uint16, np.float32):
        return native, False
    if native.dtype == bool:
        return native.astype(np.uint8) * np.uint8(255), False
    if native.dtype.kind in "ui":
        largest = max(abs(int(native.min())), abs(int(native.max())))
        is_exact = largest <= MAX_EXACT_FLOAT
        fact = f"go up to {largest:,}, and its 32-bit floats are exact up to {MAX_EXACT_FLOAT:,}"
    else:
        with np.errstate(over="ignore"):
            is_exact = np.array_equal(native.astype(np.float32), native, equal_nan=True)
        fact = "have more digits than its 32-bit floats"
    if not is_exact:
        raise ImageError(
            f"ImageJ has no type for these {native.dtype} values: they {fact}.",
            hint="Convert them first, for example with .astype('float32').",
        )
    return native.astype(np.float32), False


def _reorder(array: np.ndarray, found: str, wanted: str) -> np.ndarray:
    """Give the array with the axes that are wanted."""
    wanted = check_letters(wanted)
    missing = [letter for letter in found if letter not in wanted]
    if missing:
        sizes = ", ".join(f"{letter} ({array.shape[found.index(letter)]})" for letter in missing)
        raise AxesError(
            f"The axes {wanted} leave out {sizes} of an image with the axes {found}.",
            hint="Name every dimension that is longer than 1.",
        )
    for letter in wanted:
        if letter not in found:
            array, found = array[np.newaxis], letter + found
    return np.ascontiguousarray(array.transpose([found.index(letter) for letter in wanted]))
