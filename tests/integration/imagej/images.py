"""Images between ImageJ and NumPy, seen from both sides."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

import cellseg_imagej
from cellseg_engine.errors import AxesError, ChannelError, ImageError
from cellseg_imagej import Calibration, ClosedImageError, ImageArray, to_array, to_imageplus
from cellseg_imagej.errors import JavaTypeError
from tests.integration.imagej.conftest import Java

UNITS = st.sampled_from(["pixel", "micron", "\u00b5m", "nm", "mm", "inch"])
SIZES = st.floats(1e-3, 1e3)
CALIBRATIONS = st.builds(
    Calibration,
    pixel_width=SIZES,
    pixel_height=SIZES,
    pixel_depth=SIZES,
    x_unit=UNITS,
    y_unit=UNITS,
    z_unit=UNITS,
    x_origin=st.floats(-50, 50),
    y_origin=st.floats(-50, 50),
    z_origin=st.floats(-50, 50),
    frame_interval=st.floats(0, 1e4),
    time_unit=st.sampled_from(["sec", "min", "msec"]),
)
STACK = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[np.ndarray, str]:
    """Give an array of a type that ImageJ has, with axes in any order."""
    kind = draw(st.sampled_from(["uint8", "uint16", "int16", "float32", "rgb"]))
    extra = draw(st.lists(st.sampled_from("TZ" if kind == "rgb" else "TZC"), unique=True))
    letters = ["Y", "X", *extra, *(["S"] if kind == "rgb" else [])]
    axes = "".join(draw(st.permutations(letters)))
    shape = tuple(3 if x == "S" else draw(st.integers(1, 4)) for x in axes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "float32":
        return rng.normal(size=shape).astype(np.float32), axes
    dtype = np.dtype(np.uint8 if kind == "rgb" else kind)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True), axes


def value_in_imagej(imp: Any, place: dict[str, int]) -> float | tuple[int, ...]:
    """Ask ImageJ for the value at a place, by its own numbers of channel, slice and frame."""
    c, z, t = (place.get(letter, 0) + 1 for letter in "CZT")
    processor = imp.getStack().getProcessor(imp.getStackIndex(c, z, t))
    if imp.getBitDepth() == 24:
        packed = int(processor.get(place["X"], place["Y"])) & 0xFFFFFF
        return packed >> 16, packed >> 8 & 255, packed & 255
    processor.setCalibrationTable(imp.getCalibration().getCTable())  # signed numbers
    return float(processor.getPixelValue(place["X"], place["Y"]))


@given(arrays(), CALIBRATIONS, st.data())
@settings(max_examples=150, deadline=None)
def test_every_type_and_order_goes_there_and_back(
    image: tuple[np.ndarray, str], calibration: Calibration, data: st.DataObject
) -> None:
    array, axes = image
    imp = to_imageplus(array, axes, calibration, title="a b")
    sizes = dict(zip(axes, array.shape, strict=True))
    assert [int(n) for n in imp.getDimensions()] == [sizes.get(x, 1) for x in "XYCZT"]
    assert str(imp.getTitle()) == "a b"
    place = {x: data.draw(st.integers(0, sizes[x] - 1)) for x in axes if x != "S"}
    index = tuple(slice(None) if x == "S" else place[x] for x in axes)
    expected = array[index]
    found = value_in_imagej(imp, place)
    assert found == (tuple(expected.tolist()) if "S" in axes else float(expected))
    again = to_array(imp, axes)
    assert again.array.dtype == array.dtype and again.axes == axes
    np.testing.assert_array_equal(again.array, array)
    assert again.calibration == calibration
    plain = to_array(imp)
    kept = "".join(x for x in "TZCYXS" if (x in "YXS" and x in axes) or sizes.get(x, 1) > 1)
    assert plain.axes == kept
    order = [axes.index(x) for x in "TZCYXS" if x in axes]
    np.testing.assert_array_equal(plain.array, array.transpose(order).reshape(plain.array.shape))


@given(CALIBRATIONS)
@settings(max_examples=20, deadline=None)
def test_the_size_of_a_pixel_in_um(calibration: Calibration) -> None:
    factors = {"micron": 1.0, "\u00b5m": 1.0, "nm": 1e-3, "mm": 1e3, "inch": 25400.0}
    expected = {
        letter: size * factors[unit]
        for letter, size, unit in (
            ("X", calibration.pixel_width, calibration.x_unit),
            ("Y", calibration.pixel_height, calibration.y_unit),
            ("Z", calibration.pixel_depth, calibration.z_unit),
        )
        if unit in factors
    }
    assert calibration.pixel_size_um("CZYX") == pytest.approx(expected)
    assert set(calibration.pixel_size_um("TYX")) == set(expected) - {"Z"}


def test_names_of_channels_go_there_and_back() -> None:
    imp = to_imageplus(STACK, "CZYX", channel_names=["DAPI", "Actin"])
    assert cellseg_imagej.channel_names(imp) == ("DAPI", "Actin")
    assert cellseg_imagej.channel_names(to_imageplus(STACK, "CZYX")) == ()
    with pytest.raises(ChannelError, match="3 channel names were given for an image with 2"):
        to_imageplus(STACK, "CZYX", channel_names=["a", "b", "c"])


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5)])
def test_dimensions_without_names_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(AxesError, match=f"has {len(shape)} dimensions .* Give the axes"):
        to_imageplus(np.zeros(shape, np.uint8))
    assert to_imageplus(np.zeros((4, 5), np.uint8)).getWidth() == 5


def test_axes_that_leave_something_out_are_refused() -> None:
    imp = to_imageplus(STACK, "CZYX")
    with pytest.raises(AxesError, match=r"ZYX leave out C \(2\) of an image with the axes ZCYX"):
        to_array(imp, "ZYX")
    assert to_array(imp, "tczyx").array.shape == (1, 2, 3, 4, 5)


def test_a_closed_image(java: Java) -> None:
    imp = to_imageplus(STACK, "CZYX", title="gone.tif")
    imp.flush()  # what closing the window does
    with pytest.raises(ClosedImageError, match=r"The image gone\.tif is closed"):
        to_array(imp)


def test_a_virtual_stack_is_read_plane_by_plane(
    java: Java, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "disk.tif"
    frames = np.arange(2 * 3 * 2 * 8 * 9, dtype=np.uint16).reshape(2, 3, 2, 8, 9)
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TZCYX", "unit": "um"})
    imp = java("ij.IJ").openVirtual(str(path))
    assert imp.getStack().isVirtual()
    with caplog.at_level(logging.INFO, "cellseg_imagej"):
        image = to_array(imp)
    assert image.axes == "TZCYX"
    np.testing.assert_array_equal(image.array, frames)
    assert "disk.tif is a virtual stack: its 12 planes were read from disk one by one" in (
        caplog.text
    )


def test_what_does_not_fit_into_memory(java: Java, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    class Few:
        available = 100

    monkeypatch.setattr(psutil, "virtual_memory", Few)
    with pytest.raises(ImageError, match=r"array has 6 planes, 0\.0 GB as an array"):
        to_array(to_imageplus(STACK, "CZYX"))


def test_display_ranges_of_a_composite_change_no_value() -> None:
    imp = to_imageplus(STACK, "CZYX")
    for channel, (low, high) in enumerate([(10, 20), (0, 60000)], start=1):
        imp.setC(channel)
        imp.setDisplayRange(low, high)
    np.testing.assert_array_equal(to_array(imp, "CZYX").array, STACK)


def test_a_stack_of_colours_and_a_file_with_16_bits_per_colour(java: Java, tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (3, 6, 7, 3), np.uint8)
    imp = to_imageplus(colours, "ZYXS")
    assert (imp.getBitDepth(), imp.getNSlices()) == (24, 3)
    assert to_array(imp).axes == "ZYXS"
    np.testing.assert_array_equal(to_array(imp).array, colours)
    deep = colours[0].astype(np.uint16) * 200
    tifffile.imwrite(tmp_path / "rgb48.tif", deep, photometric="rgb")
    found = to_array(java("ij.IJ").openImage(str(tmp_path / "rgb48.tif")))
    assert found.axes == "SYX"
    np.testing.assert_array_equal(found.array, deep.transpose(2, 0, 1))
    with pytest.raises(ImageError, match=r"Colour samples \(S\) of dtype uint16"):
        to_imageplus(deep, "YXS")


def test_8_bit_colour_is_colour_and_a_look_up_table_is_not(java: Java, tmp_path: Path) -> None:
    colours = np.random.default_rng(2).integers(0, 256, (5, 6, 3), np.uint8)
    path = tmp_path / "colours.tif"
    tifffile.imwrite(path, colours, photometric="rgb")
    picture = java("ij.IJ").openImage(str(path))
    java("ij.process.ImageConverter")(picture).convertRGBtoIndexedColor(256)
    assert picture.getBitDepth() == 8
    found = to_array(picture)
    assert found.axes == "YXS"
    assert np.abs(found.array.astype(int) - colours).max() < 16  # the median cut of ImageJ
    grey = to_imageplus(colours[..., 0], "YX")
    grey.setLut(cellseg_imagej.labels_to_imageplus(np.eye(3, dtype=int)).getLuts()[0])
    assert grey.getProcessor().isColorLut()
    np.testing.assert_array_equal(to_array(grey).array, colours[..., 0])


def test_the_palette_of_a_file_is_colour_whatever_is_selected(java: Java, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 200, (20, 24), np.uint8)
    pixels[:5, :5] = 0
    colours = np.random.default_rng(4).integers(0, 65536, (3, 256), np.uint16)
    path = tmp_path / "palette.tif"
    tifffile.imwrite(path, pixels, photometric="palette", colormap=colours)
    picture = java("ij.IJ").openImage(str(path))
    picture.setRoi(0, 0, 5, 5)
    found = to_array(picture)
    assert found.axes == "YXS"
    np.testing.assert_array_equal(found.array, (colours >> 8).astype(np.uint8).T[pixels])
    picture.setLut(cellseg_imagej.labels_to_imageplus(np.eye(3, dtype=int)).getLuts()[0])
    np.testing.assert_array_equal(to_array(picture).array, pixels)
    ramp = np.arange(256, dtype=np.uint16) * 257
    tifffile.imwrite(
        path, pixels, photometric="palette", colormap=np.stack([ramp, ramp // 2, ramp])
    )
    np.testing.assert_array_equal(to_array(java("ij.IJ").openImage(str(path))).array, pixels)


def test_numbers_that_imagej_does_not_have() -> None:
    for exact in (np.array([[-5, 1 << 24]], np.int64), np.array([[0.5, np.nan]])):
        found = to_array(to_imageplus(exact)).array
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, exact)
    mask = np.array([[True, False]])
    assert to_array(to_imageplus(mask)).array.tolist() == [[255, 0]]
    swapped = STACK[0, 0].astype(">u2")
    np.testing.assert_array_equal(to_array(to_imageplus(swapped)).array, swapped)
    with pytest.raises(ImageError, match=r"ImageJ has no type for these int32 .* 16,777,217"):
        to_imageplus(np.array([[(1 << 24) + 1]], np.int32))
    with pytest.raises(ImageError, match=r"no type for these float64 .* more digits"):
        to_imageplus(np.array([[0.1]]))
    with pytest.raises(ImageError, match="dtype complex128"):
        to_imageplus(np.ones((2, 2), complex))
    with pytest.raises(ImageError, match="no pixels"):
        to_imageplus(np.ones((0, 2), np.uint8))


@pytest.mark.parametrize("thing", [None, [1, 2], np.zeros((3, 3)), "cells.tif"])
def test_what_is_no_image(java: Java, thing: object) -> None:
    with pytest.raises(JavaTypeError, match=r"takes an ij\.ImagePlus or a net\.imagej\.Dataset"):
        to_array(thing)


def test_no_class_path_has_a_dataset_here() -> None:
    with pytest.raises(cellseg_imagej.JavaError, match=r"no class net\.imagej\.Dataset"):
        cellseg_imagej.to_dataset(None, STACK, "CZYX")


def test_converters_when_asked() -> None:
    import scyjava

    cellseg_imagej.register_converters()
    cellseg_imagej.register_converters()
    image = ImageArray(STACK, "CZYX", Calibration(0.5, 0.5, 2.0, "micron", "micron", "micron"))
    imp = scyjava.to_java(image)
    assert imp.getNSlices() == 3
    found = scyjava.to_python(imp)
    assert (found.axes, found.calibration) == ("ZCYX", image.calibration)
    np.testing.assert_array_equal(found.array, STACK.transpose(1, 0, 2, 3))
    assert scyjava.to_python(scyjava.to_java([1, 2])) == [1, 2]
