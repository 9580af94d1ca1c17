"""Channel files of a plate joined to one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg_engine.errors import ReadError
from cellseg_engine.io.images import ImageData
from cellseg_engine.io.plates import group_plate, parse_pattern, read_plate_image


def read(folder: Path, pattern: str = "{well}_{channel}", axes: str | None = None) -> ImageData:
    [group], _ = group_plate(sorted(folder.iterdir()), parse_pattern(pattern))
    return read_plate_image(group, axes=axes)


def write(path: Path, shape: tuple[int, ...], dtype: str = "u2", **options: Any) -> np.ndarray:
    pixels = np.random.default_rng(len(path.name)).integers(0, 99, shape).astype(dtype)
    tifffile.imwrite(path, pixels, **options)
    return pixels


def test_channels_are_joined(tmp_path: Path) -> None:
    metadata = {"axes": "YX", "unit": "um"}
    dapi = write(
        tmp_path / "A1_DAPI.tif", (8, 9), imagej=True, resolution=(2, 2), metadata=metadata
    )
    gfp = write(tmp_path / "A1_GFP.tif", (8, 9))
    image = read(tmp_path)
    assert image.axes == "CYX"
    assert image.channel_names == ("DAPI", "GFP")
    assert np.array_equal(image.pixels, [dapi, gfp])
    assert image.pixel_size_um == {"Y": 0.5, "X": 0.5}
    assert image.source == tmp_path / "A1_DAPI.tif"


def test_stacks_are_joined_with_given_axes(tmp_path: Path) -> None:
    write(tmp_path / "A1_DAPI.tif", (5, 8, 9))
    write(tmp_path / "A1_GFP.tif", (5, 8, 9))
    image = read(tmp_path, axes="ZYX")
    assert (image.axes, image.pixels.shape) == ("CZYX", (2, 5, 8, 9))


def test_one_channel_keeps_its_name(tmp_path: Path) -> None:
    write(tmp_path / "A1_DAPI.tif", (8, 9))
    assert read(tmp_path).channel_names == ("DAPI",)
    assert read(tmp_path).axes == "CYX"


def test_without_channel_field_the_file_is_read_as_it_is(tmp_path: Path) -> None:
    pixels = write(tmp_path / "A1.tif", (2, 8, 9), imagej=True, metadata={"axes": "CYX"})
    image = read(tmp_path, "{well}")
    assert image.axes == "CYX"
    assert np.array_equal(image.pixels, pixels)


@pytest.mark.parametrize(
    ("shape", "dtype", "fact"),
    [
        ((8, 7), "u2", r"their shape is \(8, 9\) and \(8, 7\)"),
        ((8, 9), "u1", "their dtype is uint16 and uint8"),
    ],
)
def test_files_that_differ_are_named(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, fact: str
) -> None:
    write(tmp_path / "A1_DAPI.tif", (8, 9))
    write(tmp_path / "A1_GFP.tif", shape, dtype)
    with pytest.raises(ReadError, match=rf"A1_DAPI\.tif and .*A1_GFP\.tif .*: {fact}"):
        read(tmp_path)


def test_stack_beside_a_plane_is_named(tmp_path: Path) -> None:
    write(tmp_path / "A1_DAPI.tif", (8, 9))
    write(tmp_path / "A1_GFP.tif", (3, 8, 9), imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(ReadError, match="their axes is YX and ZYX"):
        read(tmp_path)


def test_colour_file_is_no_channel(tmp_path: Path) -> None:
    write(tmp_path / "A1_DAPI.tif", (8, 9))
    write(tmp_path / "A1_GFP.tif", (8, 9, 3), "u1", photometric="rgb")
    with pytest.raises(ReadError, match=r"A1_GFP\.tif has several channels itself \(axes YXS\)"):
        read(tmp_path)
