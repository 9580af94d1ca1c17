"""Axes: what each dimension of an array means.

Letters: ``T`` time, ``Z`` depth, ``C`` channel, ``Y`` row, ``X`` column, ``S`` samples of
a colour pixel (red, green, blue). Each at most once, ``Y`` and ``X`` always.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cellseg_engine.errors import AxesError, ImageError

AXES = "TZCYXS"


def check_axes(axes: str | None, shape: tuple[int, ...]) -> str:
    """Give the axes in upper case, checked against the shape of the array.

    Parameters
    ----------
    axes
        For example ``"CYX"``. None is allowed for a 2-D array only, which is ``"YX"``.
    shape
        Shape of the array.

    Raises
    ------
    AxesError
        Missing where the array has more than two dimensions, unknown or repeated letters,
        no ``Y`` or ``X``, or another number of letters than dimensions.
    """
    if axes is None:
        if len(shape) == 2:
            return "YX"
        raise AxesError(
            f"The image has {len(shape)} dimensions {shape} and nothing says what they are.",
            hint="Give the axes, for example ZYX, CYX or TZCYX (S for red-green-blue samples).",
        )
    name = check_letters(axes)
    if len(name) != len(shape):
        raise AxesError(
            f"The axes {name} name {len(name)} dimensions but the image has {len(shape)}: {shape}."
        )
    if {"C", "S"} <= set(name) and shape[name.index("C")] > 1:
        raise AxesError(
            f"The axes {name} have both channels (C) and colour samples (S).",
            hint="Split the file, or give the samples as channels.",
        )
    return name


def check_letters(axes: str) -> str:
    """Give the axes in upper case, checked by themselves.

    Raises
    ------
    AxesError
        Unknown or repeated letters, or no ``Y`` or ``X``.
    """
    name = axes.upper()
    if set(name) - set(AXES) or len(set(name)) != len(name) or not {"Y", "X"} <= set(name):
        raise AxesError(
            f"The axes {axes!r} are not understood: use letters of {AXES}, each once, with Y and "
            "X.",
            hint="For example YX, CYX, ZYX, YXS or TZCYX.",
        )
    return name


@dataclass(frozen=True)
class PlaneStack:
    """An image as 2-D planes with channels.

    Attributes
    ----------
    pixels
        ndarray of shape (T, Z, C, Y, X), the dtype of the input (a view where possible).
    axes
        Axes of the labels that belong to it: of ``T``, ``Z``, ``Y``, ``X`` those the input had.
    is_rgb
        The channels are red, green and blue samples.
    """

    pixels: np.ndarray
    axes: str
    is_rgb: bool

    @property
    def n_planes(self) -> int:
        """Number of planes, over time and depth."""
        return int(self.pixels.shape[0] * self.pixels.shape[1])

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of the labels, along `axes`."""
        sizes = dict(zip("TZCYX", self.pixels.shape, strict=True))
        return tuple(int(sizes[letter]) for letter in self.axes)

    def planes(self) -> Iterator[np.ndarray]:
        """Yield the planes, shape (C, Y, X), time outermost."""
        for frame in self.pixels:
            yield from frame


def to_planes(image: np.ndarray, axes: str | None = None) -> PlaneStack:
    """Order an image as (T, Z, C, Y, X).

    Raises
    ------
    AxesError
        See `check_axes`; also for colour samples that are not 3 (or 4 with an alpha, dropped).
    ImageError
        No pixels, a dtype that is not a real number, or masked pixels.
    """
    if np.ma.is_masked(image):
        n_masked = np.ma.getmaskarray(image).sum()
        raise ImageError(
            f"The image has masked pixels ({n_masked} of {image.size}), and masks are not used. "
            "Give the values that they shall have, for example image.filled(0)."
        )
    image = np.asarray(image)
    if image.dtype.kind not in "buif":
        raise ImageError(
            f"The image has dtype {image.dtype}; integers, floats and booleans can be segmented."
        )
    name = check_axes(axes, image.shape)
    if image.size == 0:
        raise ImageError(f"The image has no pixels: its shape is {image.shape}.")
    is_rgb = "S" in name
    if is_rgb:
        if "C" in name:
            image = image.squeeze(axis=name.index("C"))
            name = name.replace("C", "")
        samples = image.shape[name.index("S")]
        if samples not in (3, 4):
            raise AxesError(
                f"A colour image has 3 samples (or 4 with an alpha); this has {samples}."
            )
        image = np.take(image, range(3), axis=name.index("S")) if samples == 4 else image
        channel_axes = name.replace("S", "C")
    else:
        channel_axes = name
    for letter in "TZC":
        if letter not in channel_axes:
            image = image[np.newaxis]
            channel_axes = letter + channel_axes
    order = [channel_axes.index(letter) for letter in "TZCYX"]
    label_axes = "".join(letter for letter in "TZYX" if letter in name)
    return PlaneStack(image.transpose(order), label_axes, is_rgb)


def check_finite(image: np.ndarray) -> None:
    """Refuse NaN and infinite pixels.

    Raises
    ------
    ImageError
        With the number of such pixels.
    """
    if image.dtype.kind != "f":
        return
    bad = image.size - int(np.count_nonzero(np.isfinite(image)))
    if bad:
        raise ImageError(
            f"The image has {bad} pixels that are NaN or infinite (of {image.size}).",
            hint="Replace them, for example by the background, before segmenting.",
        )
