"""What a file reader hands over, and the way from there to known axes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_engine.core.axes import AXES, check_axes
from cellseg_engine.errors import AxesError, ReadError

_EXAMPLES = {
    3: "ZYX for a stack, CYX for channels or TYX for a time series",
    4: "CZYX or ZCYX for a stack with channels, TCYX or TZYX for a time series",
}


@dataclass(frozen=True)
class RawImage:
    """Pixels as a file has them.

    Attributes
    ----------
    pixels
        ndarray with every dimension that the file names.
    axes
        One letter per dimension; letters other than ``TZCYXS`` are dimensions of no known
        meaning.
    channel_names
        Names of the channels, may be empty.
    pixel_size_um
        Size of a pixel in µm along ``"Z"``, ``"Y"``, ``"X"``, as far as known.
    warnings
        Sentences that the user should read.
    files
        Those that were read, in the order of their planes; empty for the one that was given.
    is_lossy
        Whether numbers were changed when they were stored, by the compression of JPEG.
    calibration
        Function and coefficients by which ImageJ says what numbers mean: ``cf``, ``c0``, ``c1``;
        None without one.
    """

    pixels: np.ndarray
    axes: str
    channel_names: tuple[str, ...] = ()
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    is_lossy: bool = False
    calibration: tuple[Any, ...] | None = None


def settle_axes(raw: RawImage, given: str | None, path: Path) -> tuple[np.ndarray, str]:
    """Give the pixels with axes of ``TZCYXS`` only, samples last.

    Dimensions of length one are dropped, except ``Y`` and ``X`` and those that the user names.

    Parameters
    ----------
    raw
        What the file has.
    given
        Axes that the user states, which go before the file's, or None.
    path
        The file, for messages.

    Returns
    -------
    pixels
        Native byte order, C-contiguous; colour has three samples (an alpha is dropped).
    axes
        One letter per dimension.

    Raises
    ------
    AxesError
        The file does not say what its dimensions are, or they do not fit what the user states.
    ReadError
        No pixels, or complex numbers.
    """
    if raw.pixels.size == 0:
        raise ReadError(f"The image in {path} has no pixels: its shape is {raw.pixels.shape}.")
    if raw.pixels.dtype.kind not in "buif":
        raise ReadError(
            f"The image in {path} holds numbers of the kind {raw.pixels.dtype}; integers and "
            "floats can be read."
        )
    pixels, axes = _squeeze(raw.pixels, raw.axes, keep="YX")
    if given is not None:
        pixels, axes = _fit_given(raw, pixels, given, path)
    elif set(axes) - set(AXES):
        raise AxesError(
            f"The image in {path} has {pixels.ndim} dimensions {pixels.shape} and the file does "
            "not say what they are.",
            hint=f"Give the axes (--axes, or axes= in Python), for example "
            f"{_EXAMPLES.get(pixels.ndim, 'TZCYX')}.",
        )
    try:
        axes = check_axes(axes, pixels.shape)
    except AxesError as error:
        raise AxesError(f"{path}: {error.message}", hint=error.hint) from error
    if "S" in axes:
        pixels, axes = _drop_alpha(np.moveaxis(pixels, axes.index("S"), -1), axes, path)
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("=")), axes


def _squeeze(pixels: np.ndarray, axes: str, keep: str) -> tuple[np.ndarray, str]:
    dropped = tuple(
        index
        for index, letter in enumerate(axes)
        if pixels.shape[index] == 1 and letter not in keep
    )
    kept = "".join(letter for index, letter in enumerate(axes) if index not in dropped)
    return pixels.squeeze(dropped), kept


def _fit_given(
    raw: RawImage, squeezed: np.ndarray, given: str, path: Path
) -> tuple[np.ndarray, str]:
    """Give the pixels with as many dimensions as the user names."""
    name = given.upper()
    as_named, as_named_axes = _squeeze(raw.pixels, raw.axes, keep=name)
    if squeezed.ndim == len(name):
        return squeezed, name
    if as_named_axes == name:
        return as_named, name
    if raw.pixels.ndim == len(name):
        return raw.pixels, name
    check_axes(name, (1,) * len(name))
    raise AxesError(
        f"The axes {name} name {len(name)} dimensions but the image in {path} has "
        f"{squeezed.ndim}: {squeezed.shape}."
    )


def _drop_alpha(pixels: np.ndarray, axes: str, path: Path) -> tuple[np.ndarray, str]:
    """Give three samples, or none where the file has a single one, with or without an alpha."""
    samples = pixels.shape[-1]
    axes = axes.replace("S", "")
    if samples in (1, 2):
        return pixels[..., 0], axes
    if samples not in (3, 4):
        raise AxesError(
            f"The image in {path} has {samples} samples per pixel (S); a colour image has 3.",
            hint="If they are channels, name that dimension C.",
        )
    return pixels[..., :3], axes + "S"
