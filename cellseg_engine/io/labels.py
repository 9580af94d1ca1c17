"""Label images as TIFF that ImageJ opens with calibration and axes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellseg_engine.core.axes import check_axes

IMAGEJ_LIMIT_BYTES = 4_000_000_000
_IMAGEJ_AXES = "TZCYXS"
"""All that the flavour has: of fewer, tifffile takes a last one of length 1 for the samples."""
_COMPRESSION_LEVEL = 1
_MAX_FRACTION = 2**32 - 1


def write_labels(
    path: Path,
    labels: np.ndarray,
    axes: str,
    pixel_size_um: Mapping[str, float] | None = None,
) -> None:
    """Write a label image, zlib-compressed.

    Up to 65,535 it is uint16 in ImageJ's own TIFF flavour. Larger ids need uint32, which that
    flavour does not have, so the file is an OME-TIFF then; so it is above 4 GB, as a BigTIFF.
    Negative numbers make it an OME-TIFF of int32.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    labels
        int of the axes' shape; -1 may stand for what is not annotated.
    axes
        Of ``T``, ``Z``, ``Y``, ``X``, for example ``"ZYX"``.
    pixel_size_um
        Size of a pixel in µm along ``"Z"``, ``"Y"``, ``"X"``, as far as known.

    Raises
    ------
    AxesError
        The axes do not fit the labels.
    OSError
        The file cannot be written; inside `staged` it is a `WriteError`.
    """
    labels = np.asarray(labels)
    axes = check_axes(axes, labels.shape)
    size = {letter: um for letter, um in (pixel_size_um or {}).items() if letter in axes and um > 0}
    ordered = sorted(axes, key="TZCYXS".index)
    labels = labels.transpose([axes.index(letter) for letter in ordered])
    axes = "".join(ordered)
    dtype: type[np.integer] = np.uint16
    if int(labels.min(initial=0)) < 0:
        dtype = np.int32
    elif int(labels.max(initial=0)) > np.iinfo(np.uint16).max:
        dtype = np.uint32
    stored = np.ascontiguousarray(labels, dtype)
    is_imagej = dtype == np.uint16 and stored.nbytes < IMAGEJ_LIMIT_BYTES
    options = _imagej_options(size) if is_imagej else _ome_options(axes, size)
    if is_imagej:
        lengths = dict(zip(axes, stored.shape, strict=True))
        stored = stored.reshape([lengths.get(letter, 1) for letter in _IMAGEJ_AXES])
    tifffile.imwrite(
        path,
        stored,
        bigtiff=stored.nbytes >= IMAGEJ_LIMIT_BYTES,
        photometric="minisblack",
        compression="zlib",
        compressionargs={"level": _COMPRESSION_LEVEL},
        **options,
    )


def _imagej_options(size: Mapping[str, float]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": _IMAGEJ_AXES}
    resolution = _resolution(size, 1, "NONE")
    if resolution:  # else readers would take pixels for 1 µm
        metadata["unit"] = "micron"
        if "Z" in size:
            metadata["spacing"] = size["Z"]
    return {"imagej": True, "metadata": metadata, **resolution}


def _ome_options(axes: str, size: Mapping[str, float]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    for letter, um in size.items():
        metadata[f"PhysicalSize{letter}"] = um
        metadata[f"PhysicalSize{letter}Unit"] = "µm"
    return {"ome": True, "metadata": metadata, **_resolution(size, 1e4, "CENTIMETER")}


def _resolution(size: Mapping[str, float], unit_um: float, unit: str) -> dict[str, Any]:
    """Give the tags of the pixel size; none where it is not known, or no fraction of TIFF."""
    if "Y" not in size or "X" not in size:
        return {}
    per_unit = (unit_um / size["X"], unit_um / size["Y"])
    if max(per_unit) > _MAX_FRACTION or min(per_unit) < 1 / _MAX_FRACTION:
        return {}
    return {"resolution": per_unit, "resolutionunit": unit}
