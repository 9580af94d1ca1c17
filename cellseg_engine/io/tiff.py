"""TIFF files, refused rather than filled up with zeros when pixels are missing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tifffile import (
    COMPRESSION,
    PHOTOMETRIC,
    TiffFile,
    TiffFrame,
    TiffPage,
    TiffPageSeries,
)

from cellseg_engine.errors import CellSegError, ReadError
from cellseg_engine.io.raw import RawImage
from cellseg_engine.io.tiff_metadata import (
    first_file,
    ome_pixels,
    read_calibration,
    read_channel_names,
    read_value_calibration,
)

_START = (b"II", b"MM")
_ALPHA = (1, 2)
_COLOUR_KINDS: dict[int | None, str] = {
    PHOTOMETRIC.SEPARATED: "cyan, magenta, yellow and black",
    PHOTOMETRIC.YCBCR: "YCbCr",
    PHOTOMETRIC.CIELAB: "CIE Lab",
    PHOTOMETRIC.ICCLAB: "ICC Lab",
    PHOTOMETRIC.ITULAB: "ITU Lab",
    PHOTOMETRIC.LOGLUV: "LogLuv",
}
_JPEG = (COMPRESSION.OJPEG, COMPRESSION.JPEG)


def read_tiff(path: Path, *, expand_palette: bool) -> RawImage:
    """Read the first image (series) of a TIFF file; of several files that belong together, all.

    Parameters
    ----------
    path
        The file.
    expand_palette
        Turn palette colours into red, green and blue, unless they are a look-up table.

    Raises
    ------
    ReadError
        The file is no TIFF, is damaged, ends before its pixels do, or is of an unusual kind.
    """
    with _opened(path) as tif:
        return _read_first_series(tif, path, expand_palette)


def begins_in(path: Path) -> Path:
    """Give the file in which the image begins of which a TIFF file holds a part.

    That is another one only if OME metadata say so. Pixels are not read; a file that cannot be
    read counts as one of its own.
    """
    try:
        with _opened(path) as tif:
            name = first_file(tif) if tif.is_ome else path.name
    except (OSError, ReadError):
        return path
    return path.with_name(Path(name).name)


@contextmanager
def _opened(path: Path) -> Iterator[TiffFile]:
    """Open a file; what its parser raises becomes a `ReadError`."""
    with path.open("rb") as stream:
        if stream.read(2) not in _START:
            raise ReadError(f"The file {path} is not a TIFF file, although its name says so.")
    try:
        with _quiet(), TiffFile(path) as tif:
            yield tif
    except CellSegError:
        raise
    except MemoryError as error:
        raise ReadError(f"The image in {path} does not fit into memory.") from error
    except Exception as error:  # on damaged bytes the parser can raise anything
        reason = str(error).strip() or type(error).__name__
        raise ReadError(
            f"The file {path} is damaged, truncated or of an unusual kind: {reason}."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile's remarks on damaged files out of the log; what matters is checked here."""
    logger = logging.getLogger("tifffile")

    def drop(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def _read_first_series(tif: TiffFile, path: Path, expand_palette: bool) -> RawImage:
    inside = _series_inside(tif, path)
    series = inside[0]
    page = series.keyframe
    _check_colours(page, path)
    _check_complete(tif, series, path)
    axes = series.get_axes(squeeze=False)
    pixels = series.asarray().reshape(series.get_shape(squeeze=False))
    if axes.endswith("S") and pixels.shape[-1] == 1:
        pixels, axes = pixels[..., 0], axes[:-1]
    if expand_palette and page.photometric == PHOTOMETRIC.PALETTE and not tif.is_imagej:
        colours = _palette(page, pixels)
        if colours is not None:
            pixels, axes = colours[pixels], axes + "S"
    elif "S" in axes:
        axes = _name_samples(axes, pixels.shape, page)
    n_channels = pixels.shape[axes.index("C")] if "C" in axes else 1
    n_series = len(inside)
    described = ome_pixels(tif, n_series) if tif.is_ome else None
    warning = f"The file {path.name} holds {n_series} images (series); the first is read."
    return RawImage(
        pixels=pixels,
        axes=axes,
        channel_names=read_channel_names(tif, described, n_channels),
        pixel_size_um=read_calibration(tif, described, page),
        warnings=(warning,) if n_series > 1 else (),
        files=_files_of(series, path),
        is_lossy=page.compression in _JPEG and page.bitspersample == 8,
        calibration=read_value_calibration(tif),
    )


def _series_inside(tif: TiffFile, path: Path) -> list[TiffPageSeries]:
    """Give the images of which a part lies in this file.

    OME metadata list all files of a set, and tifffile opens the others as well.
    """
    if not tif.series:
        raise ReadError(f"The file {path} holds no image.")
    inside = [series for series in tif.series if any(_is_inside(page, tif) for page in series)]
    if not inside:
        raise ReadError(
            f"The file {path} says that its images lie in other files, for example "
            f"{tif.series[0].keyframe.parent.filename}.",
            hint="Give those files.",
        )
    return inside


def _is_inside(page: TiffPage | TiffFrame | None, tif: TiffFile) -> bool:
    return page is not None and page.parent is tif


def _files_of(series: TiffPageSeries, path: Path) -> tuple[Path, ...]:
    """Give the files in which an image lies, in the order of its planes."""
    if not series.is_multifile:
        return (path,)
    names = dict.fromkeys(page.parent.filename for page in series if page is not None)
    return tuple(path.with_name(name) for name in names)


def _check_colours(page: TiffPage, path: Path) -> None:
    """Refuse what would come out as something else than red, green, blue or intensities."""
    kind = _COLOUR_KINDS.get(page.photometric)
    if kind and not (page.photometric == PHOTOMETRIC.YCBCR and page.compression in _JPEG):
        raise ReadError(
            f"The file {path} cannot be read: its colours are {kind}.",
            hint="Save it as red, green and blue.",
        )


def _check_complete(tif: TiffFile, series: TiffPageSeries, path: Path) -> None:
    """Refuse a file that lacks a part of the pixels it promises."""
    if tif.is_imagej and series.kind in ("generic", "uniform"):
        raise _truncated(path, "it promises more planes than it holds")
    _check_chain_of_pages(tif, path)
    if series.dataoffset is not None:
        n_bytes = int(np.prod(series.get_shape(squeeze=False), dtype=np.int64))
        end = series.dataoffset + n_bytes * series.dtype.itemsize
        _check_end(end, tif.filehandle.size, path)
        return
    n_pages = len(series)
    n_pixels = int(np.prod(series.get_shape(squeeze=False), dtype=np.int64))
    if n_pages * series.keyframe.size != n_pixels:
        raise _truncated(path, "it promises more planes than it holds")
    for number, page in enumerate(series, 1):
        if page is None or page.keyframe is None:
            raise _truncated(path, f"plane {number} of {n_pages} is missing")
        _check_page(page, page.keyframe, path)


def _check_chain_of_pages(tif: TiffFile, path: Path) -> None:
    """Refuse a file whose last page says that another one follows, which is not there."""
    offset = tif.pages.next_page_offset
    if offset is None:
        return
    tif.filehandle.seek(offset)
    data = tif.filehandle.read(tif.tiff.offsetsize)
    if len(data) < tif.tiff.offsetsize or any(data):
        raise _truncated(path, f"only {len(tif.pages)} pages can be found")


def _check_page(page: TiffPage | TiffFrame, keyframe: TiffPage, path: Path) -> None:
    starts = np.asarray(page.dataoffsets, np.int64)
    counts = np.asarray(page.databytecounts, np.int64)
    n_segments = int(np.prod(keyframe.chunked, dtype=np.int64))
    if min(len(starts), len(counts)) < n_segments or not (starts.all() and counts.all()):
        raise _truncated(path, "parts of its pixels are missing")
    end = int(np.max(starts[:n_segments] + counts[:n_segments]))
    if keyframe.is_contiguous:
        end = max(end, int(starts[0]) + keyframe.nbytes)
    _check_end(end, page.parent.filehandle.size, path)


def _check_end(end: int, size: int, path: Path) -> None:
    if end > size:
        raise _truncated(path, f"its pixels should reach to byte {end:,} but it has {size:,} bytes")


def _truncated(path: Path, fact: str) -> ReadError:
    return ReadError(f"The file {path} is truncated or damaged: {fact}.")


def _name_samples(axes: str, shape: tuple[int, ...], page: TiffPage) -> str:
    """Call samples that are neither colours nor grey with an alpha channels.

    A channel axis of length one that is there already makes room.
    """
    samples = shape[axes.index("S")]
    is_colour = page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) and samples in (3, 4)
    has_alpha = samples == 2 and len(page.extrasamples) == 1 and page.extrasamples[0] in _ALPHA
    if is_colour or has_alpha:
        return axes
    if "C" in axes and shape[axes.index("C")] == 1:
        axes = axes.replace("C", "Q")
    return axes.replace("S", "Q" if "C" in axes else "C")


def _palette(page: TiffPage, pixels: np.ndarray) -> np.ndarray | None:
    """Give the colours of a palette, uint8 of shape (n, 3), or None if it only tints a ramp.

    A look-up table that rises in every colour over the indices in use (grey, or the green of a
    fluorescence channel) shows intensities; these are the data then.
    """
    if page.colormap is None or pixels.dtype.kind != "u":
        return None
    used = np.asarray(page.colormap, np.int64)[:, : int(pixels.max(initial=0)) + 1]
    if np.all(np.diff(used, axis=1) >= 0):
        return None
    return np.asarray(np.asarray(page.colormap).T >> 8, np.uint8)
