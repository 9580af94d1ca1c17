"""Images read from real files: every flavour keeps its pixels, axes, names and calibration."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellseg_engine.errors import AxesError, MissingDependencyError, ReadError
from cellseg_engine.io.images import IMAGE_SUFFIXES, image_stem, read_image, read_labels
from cellseg_engine.io.tiff_metadata import unit_in_um

RNG = np.random.default_rng(7)


def sample(*shape: int, dtype: str = "u2") -> np.ndarray:
    return RNG.integers(0, 200, shape).astype(dtype)


def write(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": None},
        {"byteorder": ">"},
        {"tile": (16, 16)},
        {"rowsperstrip": 7},
        {"compression": "zlib"},
        {"bigtiff": True},
    ],
    ids=str,
)
def test_plain_tiff(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    pixels = sample(37, 45, dtype=dtype)
    image = read_image(write(tmp_path / "x.tif", pixels, **options))
    assert image.axes == "YX"
    assert image.pixels.dtype == np.dtype(dtype)
    assert image.pixels.dtype.isnative
    assert image.pixels.flags.c_contiguous
    assert np.array_equal(image.pixels, pixels)
    assert (image.channel_names, image.pixel_size_um, image.warnings) == ((), {}, ())
    assert image.source == tmp_path / "x.tif"


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True},
        {"compression": "packbits"},
        {"compression": "zstd"},
        {"compression": "zlib", "tile": (16, 32)},
    ],
    ids=str,
)
def test_compressed_tiff(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = sample(37, 45)
    image = read_image(write(tmp_path / "x.TIFF", pixels, **options))
    assert np.array_equal(image.pixels, pixels)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=str)
def test_one_bit_tiff(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = RNG.random((20, 27)) > 0.5
    path = write(tmp_path / "x.tif", pixels, photometric="minisblack", **options)
    image = read_image(path)
    assert image.pixels.dtype == bool
    assert np.array_equal(image.pixels, pixels)
    assert np.array_equal(read_labels(path)[0], pixels)


def test_imagej_hyperstack(tmp_path: Path) -> None:
    pixels = sample(2, 3, 4, 10, 12)
    path = write(
        tmp_path / "x.tif",
        pixels,
        imagej=True,
        resolution=(1 / 0.25, 1 / 0.5),
        metadata={
            "axes": "TZCYX",
            "unit": "um",
            "spacing": 1.5,
            "Labels": ["DAPI", "GFP", "RFP\nmore", "Cy5"] * 6,
        },
    )
    image = read_image(path)
    assert image.axes == "TZCYX"
    assert np.array_equal(image.pixels, pixels)
    assert image.pixel_size_um == pytest.approx({"Z": 1.5, "Y": 0.5, "X": 0.25})
    assert image.channel_names == ("DAPI", "GFP", "RFP", "Cy5")


def test_labels_of_slices_are_no_channel_names(tmp_path: Path) -> None:
    metadata = {"axes": "CYX", "Labels": ["a", "b", "a"]}
    path = write(tmp_path / "x.tif", sample(3, 8, 9), imagej=True, metadata=metadata)
    assert read_image(path).channel_names == ()


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("micron", 1.0),
        ("\\u00B5m", 1.0),
        ("µm", 1.0),
        ("μm", 1.0),
        ("Âµm", 1.0),
        ("nm", 1e-3),
        ("mm", 1e3),
        ("cm", 1e4),
        ("inch", 25_400.0),
        ("pixel", None),
        (" ", None),
        ("reference frame", None),
        (None, None),
    ],
)
def test_units(unit: str | None, um: float | None) -> None:
    assert unit_in_um(unit) == um


@pytest.mark.parametrize(("unit", "um"), [("\\u00B5m", 1.0), ("nm", 1e-3), ("pixel", None)])
def test_imagej_units(tmp_path: Path, unit: str, um: float | None) -> None:
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 3}
    path = write(
        tmp_path / "x.tif", sample(2, 8, 9), imagej=True, resolution=(0.5, 0.25), metadata=metadata
    )
    expected = {} if um is None else {"Z": 3 * um, "Y": 4 * um, "X": 2 * um}
    assert read_image(path).pixel_size_um == pytest.approx(expected)


def test_resolution_of_a_plain_tiff_is_no_calibration(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", sample(8, 9), resolution=(72, 72), resolutionunit="INCH")
    assert read_image(path).pixel_size_um == {}


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
def test_ome_tiff(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = sample(3, 2, 20, 22)
    path = write(
        tmp_path / "x.ome.tif",
        pixels,
        metadata={
            "axes": "ZCYX",
            "PhysicalSizeX": 250,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.5,
            "PhysicalSizeYUnit": "µm",
            "PhysicalSizeZ": 1,
            "PhysicalSizeZUnit": "pixel",
            "Channel": {"Name": ["DAPI", "GFP"]},
        },
        **options,
    )
    image = read_image(path)
    assert image.axes == "ZCYX"
    assert np.array_equal(image.pixels, pixels)
    assert image.pixel_size_um == pytest.approx({"Y": 0.5, "X": 0.25})
    assert image.channel_names == ("DAPI", "GFP")


def test_ome_tiff_in_several_files(tmp_path: Path) -> None:
    pixels = sample(2, 8, 9)
    uuids = [f"urn:uuid:0000000{n}-0000-0000-0000-000000000000" for n in range(2)]
    tiff_data = "".join(
        f'<TiffData IFD="0" PlaneCount="1" FirstC="{n}" FirstT="0" FirstZ="0">'
        f'<UUID FileName="c{n}.ome.tif">{uuid}</UUID></TiffData>'
        for n, uuid in enumerate(uuids)
    )
    for n, uuid in enumerate(uuids):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="9" SizeY="8" SizeC="2" SizeZ="1" SizeT="1">{tiff_data}</Pixels></Image></OME>'
        )
        write(tmp_path / f"c{n}.ome.tif", pixels[n], description=xml, metadata=None)
    image = read_image(tmp_path / "c0.ome.tif")
    assert image.axes == "CYX"
    assert np.array_equal(image.pixels, pixels)
    (tmp_path / "c1.ome.tif").unlink()
    with pytest.raises(ReadError, match=r"c0\.ome\.tif is truncated or damaged: plane 2 of 2"):
        read_image(tmp_path / "c0.ome.tif")


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_tiff_has_samples_last(tmp_path: Path, planar: str) -> None:
    pixels = sample(20, 30, 3, dtype="u1")
    stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    image = read_image(write(tmp_path / "x.tif", stored, photometric="rgb", planarconfig=planar))
    assert image.axes == "YXS"
    assert np.array_equal(image.pixels, pixels)


def test_rgb_stack_of_imagej(tmp_path: Path) -> None:
    pixels = sample(4, 20, 30, 3, dtype="u1")
    image = read_image(
        write(tmp_path / "x.tif", pixels, imagej=True, photometric="rgb", metadata={"axes": "ZYXS"})
    )
    assert image.axes == "ZYXS"
    assert np.array_equal(image.pixels, pixels)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = sample(20, 30, 4, dtype="u1")
    path = write(tmp_path / "x.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read_image(path).pixels, pixels[..., :3])
    grey = write(tmp_path / "y.tif", pixels[..., :2], extrasamples=["unassalpha"],
                 photometric="minisblack", planarconfig="contig")  # fmt: skip
    assert np.array_equal(read_image(grey).pixels, pixels[..., 0])


def test_grey_samples_are_channels(tmp_path: Path) -> None:
    pixels = sample(20, 30, 5, dtype="u1")
    path = write(tmp_path / "x.tif", pixels, photometric="minisblack", planarconfig="contig")
    image = read_image(path)
    assert image.axes == "YXC"
    assert np.array_equal(image.pixels, pixels)


def test_palette_of_colours_becomes_rgb(tmp_path: Path) -> None:
    indices = RNG.integers(0, 3, (20, 30)).astype("u1")
    colormap = np.zeros((3, 256), "u2")
    colormap[:, :3] = np.array([[255, 0, 0], [0, 0, 255], [0, 9, 0]]).T * 256
    path = write(tmp_path / "x.tif", indices, photometric="palette", colormap=colormap)
    image = read_image(path)
    assert image.axes == "YXS"
    assert np.array_equal(image.pixels, colormap.T[indices] // 256)
    labels, axes = read_labels(path)
    assert axes == "YX"
    assert np.array_equal(labels, indices)


@pytest.mark.parametrize("imagej", [False, True])
def test_look_up_table_leaves_intensities(tmp_path: Path, imagej: bool) -> None:
    pixels = sample(20, 30, dtype="u1")
    colormap = np.zeros((3, 256), "u2")
    colormap[1] = np.arange(256) * 256 if not imagej else np.arange(256)[::-1] * 256
    path = write(
        tmp_path / "x.tif", pixels, photometric="palette", colormap=colormap, imagej=imagej
    )
    image = read_image(path)
    assert image.axes == "YX"
    assert np.array_equal(image.pixels, pixels)


def test_first_of_several_series_with_a_warning(tmp_path: Path) -> None:
    first = sample(20, 30)
    with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
        tif.write(first)
        tif.write(sample(9, 9))
    image = read_image(tmp_path / "x.tif")
    assert np.array_equal(image.pixels, first)
    assert image.warnings == ("The file x.tif holds 2 images (series); the first is read.",)


@pytest.mark.parametrize(("metadata", "n"), [(None, 3), ({}, 3), (None, 4)])
def test_stack_of_unknown_meaning_is_refused(
    tmp_path: Path, metadata: dict[str, Any] | None, n: int
) -> None:
    shape = (2, 5, 10, 12)[4 - n :]
    if n == 4:
        metadata = {}
    path = write(tmp_path / "x.tif", sample(*shape), metadata=metadata)
    with pytest.raises(AxesError) as caught:
        read_image(path)
    message = str(caught.value)
    assert f"The image in {path} has {n} dimensions {shape}" in message
    assert "--axes" in message
    assert "ZYX" in message
    assert "CYX" in message
    with pytest.raises(AxesError, match="--axes"):
        read_labels(path)


def test_given_axes_go_before_the_files(tmp_path: Path) -> None:
    pixels = sample(5, 10, 12)
    plain = write(tmp_path / "x.tif", pixels)
    for axes in ("ZYX", "cyx"):
        image = read_image(plain, axes=axes)
        assert image.axes == axes.upper()
        assert np.array_equal(image.pixels, pixels)
    timed = write(tmp_path / "y.tif", pixels, imagej=True, metadata={"axes": "TYX"})
    assert read_image(timed).axes == "TYX"
    assert read_image(timed, axes="ZYX").axes == "ZYX"
    assert read_labels(plain, axes="ZYX")[1] == "ZYX"


def test_given_axes_may_name_dimensions_of_length_one(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", sample(1, 3, 10, 12), imagej=True, metadata={"axes": "ZCYX"})
    assert read_image(path).axes == "CYX"
    image = read_image(path, axes="ZCYX")
    assert (image.axes, image.pixels.shape) == ("ZCYX", (1, 3, 10, 12))
    plain = write(tmp_path / "y.tif", sample(1, 1, 10, 12))
    assert read_image(plain).axes == "YX"
    assert read_image(plain, axes="TCYX").pixels.shape == (1, 1, 10, 12)


@pytest.mark.parametrize(
    ("axes", "fact"),
    [
        ("TZCYX", r"TZCYX name 5 dimensions but the image in .*x\.tif has 3: \(5, 10, 12\)"),
        ("YX", r"YX name 2 dimensions but the image in .*x\.tif has 3"),
        ("QYX", "'QYX' are not understood"),
        ("ZZYX", "'ZZYX' are not understood"),
    ],
)
def test_given_axes_that_do_not_fit(tmp_path: Path, axes: str, fact: str) -> None:
    path = write(tmp_path / "x.tif", sample(5, 10, 12))
    with pytest.raises(AxesError, match=fact):
        read_image(path, axes=axes)


def test_thin_images_keep_their_dimensions(tmp_path: Path) -> None:
    for shape in ((1, 12), (12, 1), (1, 1)):
        assert read_image(write(tmp_path / "x.tif", sample(*shape))).pixels.shape == shape


@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [((20, 30), "u1", "YX"), ((20, 30), "u2", "YX"), ((20, 30, 3), "u1", "YXS"),
     ((20, 30, 3), "u2", "YXS"), ((20, 30, 4), "u1", "YXS"), ((20, 30, 2), "u1", "YX")],
)  # fmt: skip
def test_png(tmp_path: Path, shape: tuple[int, ...], dtype: str, axes: str) -> None:
    pixels = sample(*shape, dtype=dtype)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(pixels))
    image = read_image(tmp_path / "x.png")
    assert image.axes == axes
    assert image.pixels.dtype == np.dtype(dtype)
    expected = pixels[..., 0] if shape[2:] == (2,) else pixels[..., :3] if shape[2:] else pixels
    assert np.array_equal(image.pixels, expected)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
@pytest.mark.parametrize(("shape", "axes"), [((40, 60), "YX"), ((40, 60, 3), "YXS")])
def test_jpeg(tmp_path: Path, suffix: str, shape: tuple[int, ...], axes: str) -> None:
    pixels = np.broadcast_to(np.linspace(0, 255, 60)[:, None], (40, 60, 3)).astype("u1")
    pixels = pixels[..., 0] if axes == "YX" else pixels
    path = tmp_path / f"x{suffix}"
    path.write_bytes(imagecodecs.jpeg_encode(np.ascontiguousarray(pixels), level=98))
    image = read_image(path)
    assert image.axes == axes
    assert np.abs(image.pixels.astype(int) - pixels).max() < 8


def test_labels_keep_large_ids(tmp_path: Path) -> None:
    pixels = np.array([[0, 70_000], [3, 0]], "u4")
    labels, axes = read_labels(write(tmp_path / "x.tif", pixels))
    assert labels.dtype == np.int32
    assert axes == "YX"
    assert np.array_equal(labels, pixels)
    whole, _ = read_labels(write(tmp_path / "y.tif", pixels.astype("f4")))
    assert np.array_equal(whole, pixels)


@pytest.mark.parametrize(
    ("pixels", "fact"),
    [
        (np.zeros((5, 6, 3), "u1"), "colours"),
        (np.full((5, 6), 0.5, "f4"), "numbers that are not whole"),
        (np.full((5, 6), np.nan, "f4"), "numbers that are not whole"),
        (np.full((5, 6), np.inf, "f4"), "numbers above"),
        (np.full((5, 6), -2, "i2"), "negative numbers, down to -2"),
        (np.full((5, 6), 2**31, "u4"), "numbers above 2,147,483,647"),
    ],
)
def test_what_is_no_label_image(tmp_path: Path, pixels: np.ndarray, fact: str) -> None:
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    path = write(tmp_path / "x.tif", pixels, photometric=photometric)
    with pytest.raises(ReadError, match=rf"The file .*x\.tif is no label image: it has {fact}"):
        read_labels(path)


def test_several_series_are_no_label_image(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path) as writer:
        for shape in ((8, 9), (12, 9)):
            writer.write(sample(*shape), photometric="minisblack")
    with pytest.raises(ReadError, match="several images") as caught:
        read_labels(path)
    assert "in a file of their own" in str(caught.value)


def test_jpeg_is_no_label_image(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(imagecodecs.jpeg_encode(sample(8, 9, dtype="u1")))
    with pytest.raises(ReadError, match=r"ending \.jpg is not supported") as caught:
        read_labels(path)
    assert "Supported are .png, .tif, .tiff." in str(caught.value)


def test_jpeg_in_a_tiff_is_no_label_image(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", sample(64, 64, dtype="u1"), compression="jpeg")
    assert read_image(path).axes == "YX"
    with pytest.raises(ReadError, match="no label image: it is compressed as JPEG"):
        read_labels(path)


def test_several_channels_are_no_label_image(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", sample(2, 5, 6), imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(ReadError, match="it has 2 channels"):
        read_labels(path)


def test_image_stem() -> None:
    names = {
        "a.tif": "a",
        "a.ome.tif": "a",
        "a.OME.TIFF": "a",
        "a.b.png": "a.b",
        "a.ome.png": "a.ome",
    }
    assert {name: image_stem(Path(name)) for name in names} == names
    assert {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".nd2", ".czi", ".lif"} == IMAGE_SUFFIXES


def test_bioio_missing_names_the_install_line(tmp_path: Path) -> None:
    path = tmp_path / "x.nd2"
    path.write_bytes(b"something")
    with pytest.raises(MissingDependencyError, match=r"x\.nd2") as caught:
        read_image(path)
    assert caught.value.hint == "pip install bioio bioio-nd2"


class FakeBioImage:
    """What bioio 1.x and later give, as far as the engine uses it."""

    scenes = ("Image:0", "Image:1")
    dims = SimpleNamespace(order="TCZYX")
    channel_names = ("DAPI", "GFP")
    physical_pixel_sizes = SimpleNamespace(Z=None, Y=0.2, X=0.1)

    def __init__(self, path: Path) -> None:
        if path.read_bytes() != b"good":
            raise ValueError("no magic bytes")
        self.data = np.arange(2 * 4 * 5, dtype="u2").reshape(1, 2, 1, 4, 5)


def test_bioio_first_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bioio = ModuleType("bioio")
    bioio.BioImage = FakeBioImage  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bioio", bioio)
    monkeypatch.setitem(sys.modules, "bioio_czi", ModuleType("bioio_czi"))
    path = tmp_path / "x.czi"
    path.write_bytes(b"good")
    image = read_image(path)
    assert (image.axes, image.pixels.shape) == ("CYX", (2, 4, 5))
    assert image.channel_names == ("DAPI", "GFP")
    assert image.pixel_size_um == {"Y": 0.2, "X": 0.1}
    assert "holds 2 scenes" in image.warnings[0]
    path.write_bytes(b"bad")
    with pytest.raises(ReadError, match=r"x\.czi cannot be read by bioio-czi: no magic bytes"):
        read_image(path)
