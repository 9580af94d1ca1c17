"""Images and label images from files, with axes and calibration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_engine.errors import ReadError
from cellseg_engine.io.bioio_formats import BIOIO_READERS, read_bioio
from cellseg_engine.io.pictures import read_jpeg, read_png
from cellseg_engine.io.raw import RawImage, settle_axes
from cellseg_engine.io.tiff import read_tiff

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
IMAGE_SUFFIXES = TIFF_SUFFIXES | JPEG_SUFFIXES | {".png"} | BIOIO_READERS.keys()
"""Endings of the files that can be read, in lower case; .nd2, .czi and .lif need bioio."""
LABEL_SUFFIXES = TIFF_SUFFIXES | {".png"}
"""Those of label images: what JPEG stores is not what was given to it."""
_SIGNED = -32_768
"""What signed numbers of 16 bits begin with."""


@dataclass(frozen=True)
class ImageData:
    """One image and what is known about it.

    Attributes
    ----------
    pixels
        ndarray, native byte order, C-contiguous.
    axes
        One letter of ``TZCYXS`` per dimension; ``S``, red-green-blue samples, comes last.
    channel_names
        One per channel, or empty where they are not known.
    pixel_size_um
        Size of a pixel in µm along ``"Z"``, ``"Y"``, ``"X"``; what is not known is not there.
    source
        The file, of several the first.
    warnings
        Sentences that the user should read.
    files
        All that were read, in the order of their planes: OME-TIFF files can be parts of one image.
    """

    pixels: np.ndarray
    axes: str
    channel_names: tuple[str, ...]
    pixel_size_um: dict[str, float]
    source: Path
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def image_stem(path: Path) -> str:
    """Give the file name without its ending; ``.ome.tif`` is one ending."""
    stem = path.stem
    if path.suffix.lower() in TIFF_SUFFIXES and stem.lower().endswith(".ome"):
        stem = stem[: -len(".ome")]
    return stem


def read_image(path: Path | str, *, axes: str | None = None) -> ImageData:
    """Read an image: TIFF, PNG, JPEG, and through bioio .nd2, .czi and .lif.

    Parameters
    ----------
    path
        The file. Of several images in it (series, scenes) the first is read, with a warning. Of an
        image that lies in several OME-TIFF files all are read, whichever is given.
    axes
        What the dimensions are, for example ``"ZYX"``; goes before what the file says.

    Returns
    -------
    ImageData. Values are those stored: white-is-zero images are not inverted, a look-up table
    of ImageJ or a single ramp of colour is left out, a picture in palette colours becomes red,
    green and blue. An alpha is dropped.

    Raises
    ------
    ReadError
        The file is missing, not readable, empty, damaged or of another kind.
    AxesError
        The file does not say what its dimensions are, or ``axes`` does not fit it.
    MissingDependencyError
        The format needs a package that is not installed; the hint is the install line.
    """
    path = Path(path)
    raw = _read_raw(path, expand_palette=True)
    pixels, name = settle_axes(raw, axes, path)
    n_channels = pixels.shape[name.index("C")] if "C" in name else 1
    names = raw.channel_names if "S" not in name and len(raw.channel_names) == n_channels else ()
    sizes = {letter: um for letter, um in raw.pixel_size_um.items() if letter in name}
    files = raw.files or (path,)
    return ImageData(pixels, name, names, sizes, path, raw.warnings, files)


def read_labels(
    path: Path | str, *, axes: str | None = None, lowest: int = 0
) -> tuple[np.ndarray, str]:
    """Read a label image: TIFF or PNG.

    Parameters
    ----------
    path
        The file.
    axes
        What the dimensions are; goes before what the file says.
    lowest
        Number that is allowed; -1 where a label image says what is not annotated.

    Returns
    -------
    labels
        int32, ids as stored, 0 is background. Where ImageJ has stored signed numbers as unsigned
        ones that are 32,768 larger, as its calibration says, these are the signed ones.
    axes
        One letter of ``TZYX`` per dimension.

    Raises
    ------
    ReadError
        As `read_image`; also for colours, several channels, fractions, negative numbers, the
        compression of JPEG, and where a calibration of ImageJ says that numbers mean others.
    AxesError
        As `read_image`.
    """
    path = Path(path)
    raw = _read_raw(path, expand_palette=False, suffixes=LABEL_SUFFIXES)
    if raw.warnings:
        raise ReadError(
            f"The file {path} cannot be read as a label image: it holds several images (series).",
            hint="Save the labels in a file of their own.",
        )
    if raw.is_lossy:
        raise _no_labels(path, "is compressed as JPEG, which changes numbers")
    pixels, name = settle_axes(raw, axes, path)
    if "S" in name or "C" in name:
        what = "colours" if "S" in name else f"{pixels.shape[name.index('C')]} channels"
        raise _no_labels(path, f"has {what}")
    if pixels.dtype.kind == "f" and not np.array_equal(pixels, np.trunc(pixels)):
        raise _no_labels(path, "has numbers that are not whole")
    if offset := _imagej_offset(path, raw.calibration):
        pixels = pixels.astype(np.int64) + offset
    low, high = pixels.min(), pixels.max()
    if low < lowest:
        raise _no_labels(path, f"has negative numbers, down to {low:g}")
    if high > np.iinfo(np.int32).max:
        raise _no_labels(path, f"has numbers above 2,147,483,647, up to {high:g}")
    return pixels.astype(np.int32), name


def _imagej_offset(path: Path, calibration: tuple[Any, ...] | None) -> int:
    """Give what ImageJ's calibration adds to the numbers of a label image.

    ImageJ shows signed numbers of 16 bits as unsigned ones with such a calibration, and saves both.

    Raises
    ------
    ReadError
        It is another one, such as that of optical densities.
    """
    if calibration in (None, (0, 0, 1)):
        return 0
    if calibration == (0, _SIGNED, 1):
        return _SIGNED
    raise ReadError(
        f"The file {path} is no label image: ImageJ calibrated it, so that its numbers stand for "
        "other values.",
        hint="Take the calibration off (Analyze > Calibrate, function None) and save it again.",
    )


def _no_labels(path: Path, fact: str) -> ReadError:
    return ReadError(
        f"The file {path} is no label image: it {fact}.",
        hint="A label image is grey, with 0 for background and a whole number for each object.",
    )


def _read_raw(
    path: Path, *, expand_palette: bool, suffixes: frozenset[str] = IMAGE_SUFFIXES
) -> RawImage:
    suffix = path.suffix.lower()
    _check_readable(path, suffix, suffixes)
    if suffix in TIFF_SUFFIXES:
        return read_tiff(path, expand_palette=expand_palette)
    if suffix in JPEG_SUFFIXES:
        return read_jpeg(path)
    if suffix == ".png":
        return read_png(path)
    return read_bioio(path)


def _check_readable(path: Path, suffix: str, suffixes: frozenset[str]) -> None:
    try:
        if path.is_dir():
            raise ReadError(f"{path} is a folder, not an image file.")
        is_there = path.exists()
        if is_there and suffix in suffixes:
            with path.open("rb") as stream:
                is_empty = not stream.read(1)
    except OSError as error:
        if isinstance(error, ReadError):
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ReadError(f"The file {path} cannot be read: {reason.lower()}.") from error
    if not is_there:
        raise ReadError(f"There is no file {path}.")
    if suffix not in suffixes:
        raise ReadError(
            f"The file {path} cannot be read: the ending {suffix or '(none)'} is not supported.",
            hint=f"Supported are {', '.join(sorted(suffixes))}.",
        )
    if is_empty:
        raise ReadError(f"The file {path} is empty (0 bytes).")
