"""Calibration and channel names that ImageJ and OME write into TIFF files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from tifffile import TiffFile, TiffPage

UNIT_UM = {
    **dict.fromkeys(("µm", "um", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("micrometers", "micrometres"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre", "nanometers", "nanometres"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre", "millimeters", "millimetres"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre", "centimeters", "centimetres"), 1e4),
    **dict.fromkeys(("m", "meter", "metre", "meters", "metres"), 1e6),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
    **dict.fromkeys(("inch", "inches", "in"), 25_400.0),
    "pm": 1e-6,
}
"""Micrometres in a unit of length, by its names in lower case."""
_UNCALIBRATED = 20
"""ImageJ's ``Calibration.NONE``."""


def unit_in_um(unit: object) -> float | None:
    r"""Give how many µm a unit of length is, or None where it is none (``pixel``) or not known.

    The spellings of the micro sign that occur in files count as one: the escape ``\u00B5``, the
    Greek letter, and UTF-8 read as Latin-1.
    """
    name = str(unit).strip().strip('"').lower()
    for spelling in ("\\u00b5", "\u03bc", "\u00e2\u00b5"):
        name = name.replace(spelling, "µ")
    name = name.replace("\\u00c5", "å").replace("\\u00e5", "å")
    return UNIT_UM.get(name)


def ome_pixels(tif: TiffFile, n_images: int) -> ET.Element | None:
    """Give the Pixels element of the first image in a file, or None.

    Of a set of files all name the images of all. None also where other than ``n_images`` of them
    are said to lie in this file: which one it is cannot be told then.
    """
    images = _images_in(tif)
    return images[0] if len(images) == n_images else None


def first_file(tif: TiffFile) -> str:
    """Give the name of the file in which the first image begins of which this one has a part."""
    images = _images_in(tif)
    if not images:
        return tif.filename
    order = images[0].attrib.get("DimensionOrder", "XYZCT")[:1:-1]
    planes = [
        ([int(data.attrib.get(f"First{letter}", 0)) for letter in order], name)
        for data in images[0].iterfind("./{*}TiffData")
        if (name := _file_name(data))
    ]
    return min(planes)[1] if planes else tif.filename


def _images_in(tif: TiffFile) -> list[ET.Element]:
    """Give the Pixels elements of the images of which a part lies in this file.

    A part of which no file is told lies in it.
    """
    try:
        root = ET.fromstring(tif.ome_metadata or "")  # noqa: S314 - expat limits expansions
    except ET.ParseError:
        return []
    return [
        pixels
        for pixels in root.iterfind("./{*}Image/{*}Pixels")
        if any(
            _file_name(data).casefold() in ("", tif.filename.casefold())
            for data in pixels.iterfind("./{*}TiffData")
        )
    ]


def _file_name(data: ET.Element) -> str:
    uuid = data.find("./{*}UUID")
    return "" if uuid is None else uuid.attrib.get("FileName", "")


def read_calibration(
    tif: TiffFile, described: ET.Element | None, page: TiffPage
) -> dict[str, float]:
    """Give the size of a pixel in µm along ``"Z"``, ``"Y"``, ``"X"``, as far as the file says."""
    sizes: dict[str, float | None] = {}
    if described is not None:
        sizes = {letter: _ome_size(described.attrib, letter) for letter in "ZYX"}
    elif tif.imagej_metadata:
        sizes = _imagej_sizes(tif.imagej_metadata, page)
    return {
        letter: um
        for letter, um in sizes.items()
        if um is not None and math.isfinite(um) and um > 0
    }


def read_value_calibration(tif: TiffFile) -> tuple[Any, ...] | None:
    """Give function and coefficients by which ImageJ says what numbers mean; None without."""
    facts = tif.imagej_metadata or {}
    if "c0" not in facts or facts.get("cf") == _UNCALIBRATED:
        return None
    return facts.get("cf", 0), facts["c0"], facts.get("c1")


def read_channel_names(
    tif: TiffFile, described: ET.Element | None, n_channels: int
) -> tuple[str, ...]:
    """Give the names of the channels, or nothing where they are not all named, or not apart."""
    names: list[str] = []
    if described is not None:
        channels = [child for child in described if child.tag.endswith("}Channel")]
        names = [channel.attrib.get("Name", "").strip() for channel in channels]
    elif tif.imagej_metadata:
        names = _imagej_names(tif.imagej_metadata, n_channels)
    is_complete = len(names) == n_channels and all(names) and len(set(names)) == n_channels
    return tuple(names) if is_complete else ()


def _ome_size(attributes: Mapping[str, str], letter: str) -> float | None:
    um = unit_in_um(attributes.get(f"PhysicalSize{letter}Unit", "µm"))
    return None if um is None else _times(attributes.get(f"PhysicalSize{letter}"), um)


def _imagej_sizes(metadata: Mapping[str, Any], page: TiffPage) -> dict[str, float | None]:
    units = {
        "X": metadata.get("unit"),
        "Y": metadata.get("yunit", metadata.get("unit")),
        "Z": metadata.get("zunit", metadata.get("unit")),
    }
    values: dict[str, object] = {"Z": metadata.get("spacing")}
    for letter in "YX":
        resolution = page.tags.valueof(f"{letter}Resolution")
        values[letter] = resolution[1] / resolution[0] if resolution and resolution[0] else None
    sizes: dict[str, float | None] = {}
    for letter, unit in units.items():
        um = unit_in_um(unit)
        sizes[letter] = None if um is None else _times(values[letter], um)
    return sizes


def _imagej_names(metadata: Mapping[str, Any], n_channels: int) -> list[str]:
    """Give the first lines of the slice labels if they name channels: the same on every plane."""
    labels = metadata.get("Labels")
    if not isinstance(labels, list | tuple) or len(labels) % n_channels:
        return []
    first_lines = [str(label).strip().split("\n")[0].strip() for label in labels]
    names = first_lines[:n_channels]
    return names if first_lines == names * (len(labels) // n_channels) else []


def _times(value: object, factor: float) -> float | None:
    if not isinstance(value, int | float | str):
        return None
    try:
        return abs(float(value)) * factor
    except ValueError:
        return None
