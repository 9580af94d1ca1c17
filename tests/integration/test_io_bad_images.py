"""Files that cannot be read: one sentence with the path and the fact, never zeros, never noise."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellseg_engine.errors import ReadError
from cellseg_engine.io.images import read_image

RNG = np.random.default_rng(3)
FLAVOURS: list[tuple[tuple[int, ...], str, dict[str, Any]]] = [
    ((40, 50), "u2", {}),
    ((40, 50), "u1", {"metadata": None}),
    ((40, 50), "u2", {"rowsperstrip": 8}),
    ((40, 50), "u2", {"byteorder": ">"}),
    ((40, 50), "u2", {"compression": "zlib", "rowsperstrip": 8}),
    ((40, 50), "u1", {"compression": "lzw"}),
    ((40, 50), "u2", {"compression": "lzw", "predictor": True}),
    ((40, 50), "u1", {"compression": "packbits"}),
    ((40, 50), "u1", {"compression": "jpeg"}),
    ((40, 50), "u1", {"tile": (16, 16)}),
    ((40, 50), "u1", {"tile": (16, 16), "compression": "zlib"}),
    ((40, 50), "?", {}),
    ((40, 50), "f4", {"bigtiff": True}),
    ((5, 40, 50), "u2", {"imagej": True, "metadata": {"axes": "ZYX"}}),
    ((5, 40, 50), "u2", {"imagej": True, "compression": "zlib", "metadata": {"axes": "ZYX"}}),
    ((5, 40, 50), "u2", {"ome": True, "metadata": {"axes": "ZYX"}}),
    ((5, 40, 50), "u2", {"ome": True, "compression": "zlib", "metadata": {"axes": "ZYX"}}),
    ((5, 40, 50), "u1", {"metadata": {"axes": "ZYX"}}),
    ((5, 40, 50), "u1", {"compression": "zlib", "metadata": {"axes": "ZYX"}}),
    ((5, 40, 50), "u1", {"metadata": None}),
    ((5, 40, 50), "u1", {"compression": "zlib", "metadata": None}),
]


def refuse(path: Path) -> str:
    with pytest.raises(ReadError) as caught:
        read_image(path)
    message = caught.value.message
    assert str(path) in message
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("shape", "dtype", "options"), FLAVOURS, ids=str)
def test_truncated_tiff_is_refused_at_every_length(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    shape: tuple[int, ...],
    dtype: str,
    options: dict[str, Any],
) -> None:
    """What is read is right or refused; only bytes after the last pixel may be missing."""
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "x.tif"
    pixels = RNG.integers(0, 2 if dtype == "?" else 250, shape).astype(dtype)
    tifffile.imwrite(path, pixels, **options)
    data = path.read_bytes()
    axes = "ZYX" if len(shape) == 3 else None
    whole = read_image(path, axes=axes).pixels
    refused = 0
    for length in np.unique(np.linspace(0, len(data) - 1, 60).astype(int)):
        path.write_bytes(data[:length])
        try:
            pixels = read_image(path, axes=axes).pixels
        except ReadError:
            refused += 1
        else:
            assert np.array_equal(pixels, whole)
    assert refused > 40
    assert not [record for record in caplog.records if record.name == "tifffile"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("encode", ["png", "jpeg"])
def test_truncated_picture_is_refused(tmp_path: Path, encode: str) -> None:
    pixels = RNG.integers(0, 255, (60, 70, 3)).astype("u1")
    data = getattr(imagecodecs, f"{encode}_encode")(pixels)
    path = tmp_path / f"x.{encode}"
    path.write_bytes(data)
    whole = read_image(path).pixels
    for length in range(8, len(data) - 20, 97):
        path.write_bytes(data[:length])
        assert "damaged or truncated" in refuse(path)
    path.write_bytes(data + b"trailing bytes")
    assert np.array_equal(read_image(path).pixels, whole)


def test_tile_without_data_is_not_filled_with_zeros(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tiles = [np.ones((16, 16), "u1"), None, np.ones((16, 16), "u1"), np.ones((16, 16), "u1")]
    tifffile.imwrite(path, iter(tiles), shape=(32, 32), dtype="u1", tile=(16, 16))
    assert "parts of its pixels are missing" in refuse(path)


def test_imagej_file_with_fewer_planes_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path, np.ones((8, 9), "u1"), description="ImageJ=1.54p\nimages=7\nslices=7\n", metadata=None
    )
    assert "it promises more planes than it holds" in refuse(path)


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("x.tif", b"this is a text file\n", "is not a TIFF file, although its name says so"),
        ("x.tif", b"II is how it starts\n", "damaged, truncated or of an unusual kind"),
        ("x.png", b"this is a text file\n", "is not a PNG file, although its name says so"),
        ("x.jpg", b"this is a text file\n", "is not a JPEG file, although its name says so"),
        ("x.tif", b"", "is empty (0 bytes)"),
        ("x.png", b"", "is empty (0 bytes)"),
        ("x.txt", b"text", "the ending .txt is not supported"),
        ("x", b"text", "the ending (none) is not supported"),
    ],
)
def test_wrong_content(tmp_path: Path, name: str, content: bytes, fact: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert fact in refuse(path)


def test_unsupported_ending_lists_what_is_supported(tmp_path: Path) -> None:
    path = tmp_path / "x.bmp"
    path.write_bytes(b"BM")
    with pytest.raises(
        ReadError, match=r"\.czi, \.jpeg, \.jpg, \.lif, \.nd2, \.png, \.tif, \.tiff"
    ):
        read_image(path)


def test_missing_path_and_folder(tmp_path: Path) -> None:
    assert refuse(tmp_path / "no.tif") == f"There is no file {tmp_path / 'no.tif'}."
    (tmp_path / "folder.tif").mkdir()
    assert "is a folder, not an image file" in refuse(tmp_path / "folder.tif")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((4, 5), "u1"))

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", deny)
    assert refuse(path) == f"The file {path} cannot be read: permission denied."


def test_no_pixels_and_complex_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((4, 5), "u1"), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags["ImageLength"].overwrite(0)
    assert "has no pixels: its shape is (0, 5)" in refuse(path)
    tifffile.imwrite(path, np.ones((4, 5), "c8"))
    assert "complex64" in refuse(path)


def test_colours_of_print_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.ones((4, 5, 4), "u1"), photometric="separated")
    assert "cyan, magenta, yellow and black" in refuse(path)
    jpeg = tmp_path / "x.jpg"
    jpeg.write_bytes(
        imagecodecs.jpeg_encode(np.ones((40, 50, 4), "u1"), colorspace="cmyk", outcolorspace="cmyk")
    )
    assert "cyan, magenta, yellow and black" in refuse(jpeg)
