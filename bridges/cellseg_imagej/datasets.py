"""Images of ImageJ2 (``net.imagej.Dataset``), where the class path has them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cellseg_engine.core.axes import check_axes, to_planes
from cellseg_engine.errors import AxesError, ImageError
from cellseg_imagej.calibration import Calibration
from cellseg_imagej.errors import JavaError, JavaTypeError
from cellseg_imagej.java import DATASET, describe_type, java_class
from cellseg_imagej.pixels import copy_from_java, to_java

_LETTERS = {"X": "X", "Y": "Y", "Z": "Z", "Channel": "C", "Time": "T"}
_LABELS = {letter: label for label, letter in _LETTERS.items()}
_DTYPES = {
    "UnsignedByteType": np.uint8,
    "ByteType": np.int8,
    "UnsignedShortType": np.uint16,
    "ShortType": np.int16,
    "UnsignedIntType": np.uint32,
    "IntType": np.int32,
    "FloatType": np.float32,
    "DoubleType": np.float64,
}
_ORDER = "TZCYX"
_NO_UNIT = "pixel"


def read_dataset(dataset: Any) -> tuple[np.ndarray, str, Calibration]:
    """Give the pixels, axes and calibration of a Dataset; see `cellseg_imagej.to_array`.

    Merged red, green and blue are colour samples, ``S``. Axes that are not linear are taken at
    their start.

    Raises
    ------
    AxesError
        A dimension longer than 1 is none of X, Y, Z, Channel and Time.
    ImageError
        The pixels are of a type that NumPy does not have.
    """
    sizes = [int(dataset.dimension(d)) for d in range(int(dataset.numDimensions()))]
    labels = [str(dataset.axis(d).type().getLabel()) for d in range(len(sizes))]
    unknown = [
        f"{label} ({size})"
        for label, size in zip(labels, sizes, strict=True)
        if size > 1 and label not in _LETTERS
    ]
    if unknown:
        raise AxesError(
            f"The Dataset {dataset.getName()} has a dimension {', '.join(unknown)}; those that "
            "are understood are X, Y, Z, Channel and Time.",
            hint="Give a view of it without that dimension, or name it (Image, Axes).",
        )
    array = _read_planes(dataset, sizes)
    # The last dimension of Java is the first one here.
    letters = [_LETTERS.get(label, "") for label in reversed(labels)]
    kept = [n for n, letter in enumerate(letters) if letter in ("Y", "X") or array.shape[n] > 1]
    array = array.reshape([array.shape[n] for n in kept])
    letters = [letters[n] for n in kept]
    if not {"Y", "X"} <= set(letters):
        raise AxesError(f"The Dataset {dataset.getName()} has no X and Y: {', '.join(labels)}.")
    wanted = [letter for letter in _ORDER if letter in letters]
    array = array.transpose([letters.index(letter) for letter in wanted])
    axes = "".join(wanted)
    if dataset.isRGBMerged() and "C" in axes:
        array, axes = np.moveaxis(array, axes.index("C"), -1), axes.replace("C", "") + "S"
    return np.ascontiguousarray(array), axes, _read_calibration(dataset, labels)


def to_dataset(
    gateway: Any,
    array: np.ndarray,
    axes: str | None = None,
    calibration: Calibration | None = None,
    *,
    title: str = "array",
) -> Any:
    """Give an array as a ``net.imagej.Dataset``.

    Parameters
    ----------
    gateway
        ImageJ2, as ``imagej.init`` of pyimagej gives it.
    array
        Whole numbers of 8, 16 or 32 bits, float32, float64, or booleans (as 0 and 255).
    axes
        What the dimensions are, in the order of the array; may be left out for 2-D images.
    calibration
        1 pixel if left out.
    title
        Name of the Dataset.

    Returns
    -------
    Dataset with the dimensions X, Y, Channel, Z, Time in this order, those that the axes name.
    Colour samples (``S``, uint8) become merged red, green and blue.

    Raises
    ------
    AxesError
        The axes are missing or do not fit the array.
    ImageError
        ImageJ2 has no such type.
    JavaError
        The class path has no Dataset.
    JavaTypeError
        The gateway is none.
    """
    java_class(DATASET)
    if not hasattr(gateway, "dataset"):
        raise JavaTypeError(
            f"The gateway is what imagej.init() gives; this is {describe_type(gateway)}."
        )
    array = np.asarray(array)
    name = check_axes(axes, array.shape)
    stack = to_planes(array, name)
    pixels = stack.pixels
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    kind = pixels.dtype.newbyteorder("=")
    if kind not in [np.dtype(known) for known in _DTYPES.values()]:
        raise ImageError(
            f"A Dataset holds whole numbers of 8, 16 or 32 bits and floats of 32 or 64; these are "
            f"{kind}.",
            hint="Convert them first, for example with .astype('float32').",
        )
    letters = [x for x in reversed(_ORDER) if x in name.replace("S", "C")]
    sizes = dict(zip(_ORDER, pixels.shape, strict=True))
    dataset = _create(gateway, title, letters, [sizes[x] for x in letters], kind)
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    for index, plane in enumerate(planes):
        dataset.setPlaneSilently(index, to_java(plane.astype(kind, copy=False)))
    _write_calibration(dataset, letters, calibration or Calibration())
    if stack.is_rgb:
        dataset.setRGBMerged(True)
    return dataset


def _read_planes(dataset: Any, sizes: list[int]) -> np.ndarray:
    """Give all pixels in the order of Java: its first dimension is the last one here."""
    kind = str(dataset.getType().getClass().getSimpleName())
    if kind not in _DTYPES:
        raise ImageError(
            f"The Dataset {dataset.getName()} has pixels of the type {kind}, which is not "
            f"supported.",
            hint="Convert it in ImageJ (Image, Type).",
        )
    array = np.empty((math.prod(sizes[2:]), sizes[1], sizes[0]), _DTYPES[kind])
    for index in range(len(array)):
        if not copy_from_java(dataset.getPlane(index), array[index]):
            raise JavaError(f"Plane {index + 1} of the Dataset {dataset.getName()} is incomplete.")
    return array.reshape(sizes[::-1])


def _create(gateway: Any, title: str, letters: list[str], sizes: list[int], kind: Any) -> Any:
    import jpype

    axis_class = java_class("net.imagej.axis.Axes")
    types = [axis_class.get(_LABELS[letter]) for letter in letters]
    return gateway.dataset().create(
        jpype.JArray(jpype.JLong)(sizes),
        title,
        jpype.JArray(java_class("net.imagej.axis.AxisType"))(types),
        kind.itemsize * 8,
        kind.kind != "u",
        kind.kind == "f",
    )


def _read_calibration(dataset: Any, labels: list[str]) -> Calibration:
    values: dict[str, Any] = {}
    for index, label in enumerate(labels):
        axis = dataset.axis(index)
        scale, unit = float(axis.averageScale(0, 1)), axis.unit()
        if label == "Time":
            # Without a unit it is the scale of a series that nobody has timed.
            values["frame_interval"] = scale if unit is not None else 0.0
            values["time_unit"] = str(unit) if unit is not None else "sec"
        elif label in ("X", "Y", "Z"):
            size = {"X": "pixel_width", "Y": "pixel_height", "Z": "pixel_depth"}[label]
            values[size] = scale
            values[f"{label.lower()}_unit"] = str(unit) if unit is not None else _NO_UNIT
            origin = -float(axis.calibratedValue(0)) / scale if scale else 0.0
            values[f"{label.lower()}_origin"] = origin + 0.0  # not -0
    return Calibration(**values)


def _write_calibration(dataset: Any, letters: list[str], calibration: Calibration) -> None:
    linear = java_class("net.imagej.axis.DefaultLinearAxis")
    c = calibration
    known = {
        "X": (c.pixel_width, c.x_unit, c.x_origin),
        "Y": (c.pixel_height, c.y_unit, c.y_origin),
        "Z": (c.pixel_depth, c.z_unit, c.z_origin),
        "T": (c.frame_interval, c.time_unit, 0.0),
    }
    for index, letter in enumerate(letters):
        scale, unit, origin = known.get(letter, (0.0, "", 0.0))
        if scale:
            kind = dataset.axis(index).type()
            dataset.setAxis(linear(kind, unit, scale, -origin * scale), index)
