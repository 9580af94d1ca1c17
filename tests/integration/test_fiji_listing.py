"""What Segment Folder opens in a real headless ImageJ, what it refuses and what it leaves out."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any
from zlib import compress, crc32

import numpy as np
import tifffile
from imagecodecs import gif_encode, jpeg_encode

from cellseg_engine.batch.plan import make_plan
from cellseg_engine.io.images import read_image
from tests.integration.fiji_host import ImageJ
from tests.integration.fiji_runs import SETTINGS, crop
from tests.integration.test_fiji_folder import run, summary

OPEN = """
from cellseg_jy import listing
from cellseg_jy.problems import Problem
result = []
for path in {paths!r}:
    try:
        image, remarks = listing.open_image(path)
        result.append([image.getWidth(), image.getHeight()] + remarks)
    except Problem as problem:
        result.append(problem.code + ": " + problem.message)
"""
# Stands for Bio-Formats, which is no part of this host.
BIO_FORMATS = """
from ij import IJ
from cellseg_jy import listing

class Reader(object):
    def isThisType(self, path, may_open):
        return False
    def setFlattenedResolutions(self, wanted):
        self.count = 1 if wanted else 3
    def setId(self, path):
        pass
    def getSeriesCount(self):
        return self.count
    def close(self):
        pass

class Formats(object):
    @staticmethod
    def openImagePlus(path):
        return [IJ.createImage(path, "8-bit ramp", 30, 20, 1)]

listing.ImageReader, listing.BF = Reader, Formats
try:
    found = listing.find_images({folder!r}, {folder!r} + "/out")
    result = [[name, listing.open_image(path)[1]] for path, name in found]
finally:
    listing.ImageReader = listing.BF = None
"""


FIND = """
from cellseg_jy import listing
result = listing.find_images({folder!r}, {out!r})
"""


def fits(pixels: np.ndarray) -> bytes:
    sizes = {"BITPIX": 8, "NAXIS": 2, "NAXIS1": pixels.shape[1], "NAXIS2": pixels.shape[0]}
    cards = [f"{'SIMPLE':<8}= {'T':>20}", *(f"{k:<8}= {v:>20}" for k, v in sizes.items()), "END"]
    header = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    return header + pixels.tobytes() + bytes(-pixels.size % 2880)


# For each image: its axes, those of its first corner, and those with another look-up table.
AXES = """
from ij import IJ
from cellseg_jy.source import Source
result = []
for path in {paths!r}:
    image = IJ.openImage(path)
    image.setRoi(0, 0, 8, 8)
    row = [Source(image).axes, Source(image, image.getRoi().getBounds()).axes]
    image.killRoi()
    IJ.run(image, "Fire", "")
    result.append(row + [Source(image).axes])
"""
COLOUR_256 = """
from ij import IJ
from ij.process import ImageConverter
from cellseg_jy import preview
from cellseg_jy.source import Source
image = IJ.openImage({path!r})
ImageConverter(image).convertRGBtoIndexedColor(256)
image.setFileInfo(None)
part = preview.cut_out(image, preview.choose_bounds(image))
result = [Source(image).axes, Source(part).axes]
"""


def palette_png(pixels: np.ndarray, colours: np.ndarray) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    head = struct.pack(">2I5B", pixels.shape[1], pixels.shape[0], 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = ((b"IHDR", head), (b"PLTE", colours.tobytes()), (b"IDAT", compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in (*chunks, (b"IEND", b"")))


def make_files() -> dict[str, bytes]:
    """Give one picture as the bytes of files of several formats."""
    pixels = crop(100, 200, 90, 110)
    height, width = pixels.shape
    wide = pixels.astype(">u2").tobytes()
    return {
        "a.jpg": bytes(jpeg_encode(pixels, level=95)),
        "a.gif": bytes(gif_encode(np.stack([pixels, pixels[::-1]]))),
        "a.pgm": b"P5\n# a comment\n%d %d\n255\n" % (width, height) + pixels.tobytes(),
        "b.pgm": b"P5 %d %d 4095\n" % (width, height) + wide,
        "a.fits": fits(pixels),
    }


def test_files_that_end_too_early_are_refused(fiji: ImageJ, tmp_path: Path) -> None:
    files = make_files()
    paths = []
    for name, data in files.items():
        for kind, kept in (("whole", len(data)), ("cut", len(data) * 2 // 3), ("head", 60)):
            paths.append(tmp_path / f"{kind} {name}")
            paths[-1].write_bytes(data[:kept])
    found = fiji.python(OPEN.format(paths=[str(path) for path in paths]))
    for path, answer in zip(paths, found, strict=True):
        if path.name.startswith("whole"):
            assert answer == [110, 90], path.name
        else:
            assert answer.startswith("read: The file "), (path.name, answer)
    for path, answer in zip(paths, found, strict=True):
        if path.name.startswith("cut"):
            assert answer.startswith(f"read: The file {path} is truncated: "), answer


def test_a_jpeg_may_hold_thumbnails_and_other_data(fiji: ImageJ, tmp_path: Path) -> None:
    data = make_files()["a.jpg"]
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(data[:400]) + 4) + data[:400] + b"\xff\xd9"
    within = data[:2] + thumbnail + data[2:]
    paths = [tmp_path / name for name in ("within.jpg", "behind.jpg", "cut.jpg")]
    paths[0].write_bytes(within)
    paths[1].write_bytes(data + b"\xff\xda more")
    paths[2].write_bytes(within[:-300])
    whole, behind, cut = fiji.python(OPEN.format(paths=[str(path) for path in paths]))
    assert whole == behind == [110, 90]
    assert "it ends before the image does" in cut


def test_the_colours_of_a_palette_are_the_image(fiji: ImageJ, tmp_path: Path) -> None:
    pixels = crop(100, 200, 40, 50)
    pixels[:8, :8] = 0  # a corner without colour
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256), np.uint16)
    colours[:, 0] = 0
    ramp = np.arange(256, dtype=np.uint16) * 257
    tinted = np.stack([ramp, ramp * 0, ramp // 2])
    tables: dict[str, Any] = {"photometric": "palette", "colormap": colours}
    tifffile.imwrite(tmp_path / "palette.tif", pixels, **tables)
    stack = np.stack([pixels * 0, pixels])
    tifffile.imwrite(tmp_path / "stack.tif", stack, metadata={"axes": "ZYX"}, **tables)
    tifffile.imwrite(tmp_path / "tinted.tif", pixels, **{**tables, "colormap": tinted})
    (tmp_path / "palette.png").write_bytes(palette_png(pixels, (colours.T >> 8).astype(np.uint8)))
    paths = [tmp_path / name for name in ("palette.tif", "stack.tif", "tinted.tif", "palette.png")]
    found = fiji.python(AXES.format(paths=[str(path) for path in paths]))
    assert found == [
        ["SYX", "SYX", "YX"],
        ["ZSYX", "ZSYX", "ZYX"],
        ["YX", "YX", "YX"],
        ["SYX", "SYX", "YX"],
    ]
    for path, (axes, *_) in zip(paths, found, strict=True):
        assert ("S" in axes) is ("S" in read_image(path).axes)


def test_8_bit_color_is_colour_with_or_without_a_file(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "rgb.tif"
    colours = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    tifffile.imwrite(path, colours, photometric="rgb")
    assert fiji.python(COLOUR_256.format(path=str(path))) == ["SYX", "SYX"]


def test_of_pages_of_several_sizes_the_first_is_read_and_a_warning_says_so(
    fiji: ImageJ, tmp_path: Path
) -> None:
    path, same = tmp_path / "pages.tif", tmp_path / "same.tif"
    with tifffile.TiffWriter(path) as tif:
        for size in (60, 60, 30):
            tif.write(crop(0, 0, size, 50), contiguous=False)
    tifffile.imwrite(same, np.stack([crop(0, 0, 60, 50)] * 3), photometric="minisblack")
    first, stack = fiji.python(OPEN.format(paths=[str(path), str(same)]))
    sentence = "The file pages.tif holds 3 images of different sizes or types; the first is read."
    assert first == [50, 60, sentence]
    assert stack == [50, 60]


def test_a_movie_is_opened_whole_or_not_at_all(fiji: ImageJ, tmp_path: Path) -> None:
    movie, cut = tmp_path / "movie.avi", tmp_path / "cut.avi"
    fiji.python(
        "from ij import IJ\nfrom ij.plugin.filter import AVI_Writer\n"
        "image = IJ.createImage('', '8-bit ramp', 40, 30, 8)\n"
        f"AVI_Writer().writeImage(image, {str(movie)!r}, AVI_Writer.NO_COMPRESSION, 0)"
    )
    cut.write_bytes(movie.read_bytes()[:8000])
    whole, part = fiji.python(OPEN.format(paths=[str(movie), str(cut)]))
    assert whole == [40, 30]
    assert part.startswith(f"read: The file {cut} cannot be read: ")


def test_a_folder_is_searched_as_by_cellseg_segment(fiji: ImageJ, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    (folder / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    for place in (folder / "a.tif", folder / "a.tiff", folder / "a_tif.tif", elsewhere / "b.tif"):
        tifffile.imwrite(place, crop(0, 0, 20, 20))
    look = FIND.format(folder=str(folder), out=str(tmp_path / "out"))
    jobs = make_plan([str(folder)]).jobs
    assert {name: path for path, name in fiji.python(look)} == {job.name: job.title for job in jobs}
    (folder / "linked").symlink_to(elsewhere)
    (folder / "sub" / "back").symlink_to(folder)
    jobs = make_plan([str(folder)]).jobs
    assert sorted(path for path, _ in fiji.python(look)) == sorted(job.title for job in jobs)
    assert len(jobs) == 4


def test_a_folder_that_cannot_be_read_is_an_error(fiji: ImageJ) -> None:
    answer = fiji.python(
        "from java.io import File\n"
        "from cellseg_jy import listing\n"
        "from cellseg_jy.problems import Problem\n"
        "class Closed(File):\n"
        "    def listFiles(self): return None\n"
        "try:\n"
        "    result = list(listing._walk(Closed('/in/closed'), set()))\n"
        "except Problem as problem:\n"
        "    result = problem.text"
    )
    assert answer.startswith("The folder /in/closed cannot be read.\nAsk for the permission")


def test_escape_while_a_file_is_read_stops_the_run(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as tif:  # pages that ImageJ reads one by one
        for _ in range(3):
            tif.write(crop(0, 0, 60, 50), contiguous=False, compression="zlib")
    pressed = "from java.awt.event import KeyEvent\nIJ.setKeyDown(KeyEvent.VK_ESCAPE)\n"
    opened = OPEN.format(paths=[str(path)])
    try:
        assert fiji.python("from ij import IJ\n" + pressed + opened) == [
            "cancelled: The segmentation was cancelled."
        ]
        during = (
            "from ij import IJ\nfrom cellseg_jy import listing\n"
            "given = listing.whole.describe_pages\n"
            "def press(path):\n    " + pressed.strip().replace("\n", "\n    ") + "\n    return []\n"
            "listing.whole.describe_pages = press\n"
        )
        after = "listing.whole.describe_pages = given\n"
        assert fiji.python("from ij import IJ\nIJ.resetEscape()\n" + during + opened + after) == [
            "cancelled: The segmentation was cancelled."
        ]
    finally:
        fiji.python("from ij import IJ\nIJ.resetEscape()")


def test_a_damaged_file_does_not_end_the_run(fiji: ImageJ, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.tif", "c.tif"):
        tifffile.imwrite(folder / name, crop(150, 60, 60, 70))
    width, none = b"NAXIS1  = " + b"9".rjust(20), b"NAXIS1  = " + b"nine".rjust(20)
    (folder / "b.fits").write_bytes(fits(crop(0, 0, 9, 9)).replace(width, none))
    assert run(fiji, folder, out) == "done", fiji.printed
    rows = summary(out)
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.tif": "ok",
        "b.fits": "failed",
        "c.tif": "ok",
    }
    assert rows["b.fits"]["error"].startswith(f"The file {folder / 'b.fits'} cannot be read: ")
    assert "3 images: 2 segmented, 0 were done before, 1 failed." in fiji.printed


def test_an_ome_tiff_with_channels_needs_bioformats(fiji: ImageJ, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    gray = crop(150, 60, 60, 70)
    two = np.stack([255 - gray, gray])
    ome: dict[str, Any] = {"photometric": "minisblack", "ome": True}
    for axes in ("CYX", "ZYX", "TYX"):
        tifffile.imwrite(folder / f"{axes}.ome.tif", two, metadata={"axes": axes}, **ome)
    with tifffile.TiffWriter(folder / "series.ome.tif", ome=True) as tif:
        tif.write(gray, metadata={"axes": "YX"})
        tif.write(gray[:40], metadata={"axes": "YX"})
    tifffile.imwrite(folder / "one.ome.tif", gray, metadata={"axes": "YX"}, **ome)
    tifffile.imwrite(folder / "rgb.ome.tif", np.stack([gray] * 3, -1), photometric="rgb", ome=True)
    assert run(fiji, folder, out) == "done", fiji.printed
    rows = summary(out)
    good = {name for name, row in rows.items() if row["status"] == "ok"}
    assert good == {"one.ome.tif", "rgb.ome.tif"}
    for name in rows.keys() - good:
        assert (
            "is an OME-TIFF of several images, channels, planes or time points"
            in (rows[name]["error"])
        )
        assert "Use Fiji, which has Bio-Formats, or `cellseg segment`." in rows[name]["error"]
    assert not list(out.glob("CYX*"))


def test_a_depth_that_imagej_assumes_is_none(fiji: ImageJ, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    pixels = np.stack([crop(100, 200, 60, 66)] * 4)
    metadata: dict[str, Any] = {"axes": "ZYX", "unit": "um"}
    tiff: dict[str, Any] = {"imagej": True, "resolution": (4, 4)}
    for name, more in (("assumed", {}), ("one", {"spacing": 1.0}), ("two", {"spacing": 2.0})):
        tifffile.imwrite(folder / f"{name}.tif", pixels, metadata={**metadata, **more}, **tiff)
    assert run(fiji, folder, out, f"{SETTINGS} volume_mode=fuse") == "done", fiji.printed
    sizes = {}
    for name in ("assumed", "one", "two"):
        record = json.loads((out / f"{name}_run.json").read_text(encoding="utf-8"))
        sizes[name] = record["pixel_size_um"].get("Z")
    assert sizes == {"assumed": None, "one": 1.0, "two": 2.0}
    rows = summary(out)
    assert "Nothing says how far the planes are apart" in rows["assumed.tif"]["warnings"]
    assert "Nothing says" not in rows["one.tif"]["warnings"]


def test_microscope_files_are_named_where_nothing_opens_them(fiji: ImageJ, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", crop(150, 60, 60, 70))
    for name in ("b.czi", "c.nd2", "d.dv", "notes.txt"):
        (folder / name).write_bytes(b"not really")
    assert run(fiji, folder, out) == "done", fiji.printed
    sentence = "Left out, since only Bio-Formats (part of Fiji) opens them: b.czi, c.nd2, d.dv."
    assert sentence in fiji.printed


def test_with_bioformats_they_are_opened_and_further_series_named(
    fiji: ImageJ, tmp_path: Path
) -> None:
    for name in ("b.czi", "c.nd2", "d.dv", "e.ims", "notes.txt"):
        (tmp_path / name).write_bytes(b"not really")
    found = fiji.python(BIO_FORMATS.format(folder=str(tmp_path)))
    assert found == [
        [name[0], [f"The file {name} holds 3 images (series); the first is read."]]
        for name in ("b.czi", "c.nd2", "d.dv", "e.ims")
    ]
