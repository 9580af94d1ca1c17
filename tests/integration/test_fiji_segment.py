"""Segment Cells in a real headless ImageJ, with the real engine and real images."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.integration.fiji_host import ImageJ
from tests.integration.fiji_runs import (
    DIAMETER_PX,
    SETTINGS,
    close_all,
    crop,
    engine_labels,
    fiji_with_engine,
    saved_labels,
    ten_crops,
    titles,
)
from tests.integration.service import Place

# Looks at the overlay of an image: a list of [name, position, channel, slice, frame, composite].
LOOK_AT_OVERLAY = """
from ij import WindowManager
from ij.gui import ShapeRoi
overlay = WindowManager.getImage({title!r}).getOverlay()
result = [[roi.getName(), roi.getPosition(), roi.getCPosition(), roi.getZPosition(),
           roi.getTPosition(), isinstance(roi, ShapeRoi)] for roi in overlay.toArray()]
"""
# Paints the mask of each ROI of an overlay with the number in its name; as a list of rows.
PAINT_MASKS = """
from ij import WindowManager
from ij.process import ShortProcessor
image = WindowManager.getImage({title!r})
painted = ShortProcessor(image.getWidth(), image.getHeight())
pixels = 0
for roi in image.getOverlay().toArray():
    painted.setValue(int(roi.getName().split("-")[0]))
    painted.fill(roi)
    mask = roi.getMask()
    box = roi.getBounds()
    pixels += mask.getHistogram()[255] if mask is not None else box.width * box.height
result = [pixels, list(painted.getPixels())]
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ImageJ, Place]]:
    with fiji_with_engine(tmp_path_factory.mktemp("fiji")) as pair:
        yield pair


@pytest.fixture
def fiji(both: tuple[ImageJ, Place]) -> Iterator[ImageJ]:
    yield both[0]
    close_all(both[0])


def run(fiji: ImageJ, path: Path, options: str = SETTINGS) -> str:
    """Open a file and segment it; gives its title."""
    title = fiji.macro(
        f'open("{path}"); t = getTitle(); run("Segment Cells", "{options}"); return t;'
    )
    assert title is not None, fiji.printed
    return title


def test_ten_images_in_shuffled_order_equal_cellseg_segment(fiji: ImageJ, tmp_path: Path) -> None:
    paths = ten_crops(tmp_path / "in put")
    out = tmp_path / "cli"
    command = [sys.executable, "-m", "cellseg_engine", "segment", str(paths[0].parent)]
    more = ["--out", str(out), "--diameter-px", str(DIAMETER_PX)]
    subprocess.run([*command, *more], check=True, capture_output=True)
    random.Random(6).shuffle(paths)
    saved = tmp_path / "fiji"
    saved.mkdir()
    lines = [
        f"""open("{path}"); title = getTitle();
        run("Segment Cells", "model=nuclei {SETTINGS}");
        selectImage(title + "-labels"); saveAs("Tiff", "{saved / path.name}");"""
        for path in paths
    ]
    assert fiji.macro("\n".join(lines) + ' return "all";') == "all", fiji.printed
    shapes = set()
    for path in paths:
        ours = tifffile.imread(saved / path.name)
        theirs = tifffile.imread(out / f"{path.stem}_labels.tif")
        assert ours.dtype == theirs.dtype == np.uint16
        np.testing.assert_array_equal(ours, theirs)
        assert ours.max() > 0
        shapes.add(ours.shape)
    assert len(shapes) == 10


def test_a_hyperstack_keeps_positions_calibration_and_frame_interval(
    fiji: ImageJ, tmp_path: Path
) -> None:
    frames, slices, size = 2, 3, 80
    pixels = np.zeros((frames, slices, 2, size, size), np.uint16)
    for t in range(frames):
        for z in range(slices):
            pixels[t, z, 1] = crop(60 * t, 90 * z, size, size).astype(np.uint16) * 100
    path = tmp_path / "hyper stack.tif"
    tifffile.imwrite(
        path,
        pixels,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "TZCYX", "unit": "um", "spacing": 1.5, "finterval": 30.0},
    )
    title = run(fiji, path, f"{SETTINGS} channel=2")
    expected = engine_labels(path, channel="2")
    assert expected.max() > 10
    facts = fiji.python(f"""
from ij import WindowManager
labels = WindowManager.getImage("{title}-labels")
c = labels.getCalibration()
result = [list(labels.getDimensions()), c.pixelWidth, c.pixelHeight, c.pixelDepth, c.getUnit(),
          c.frameInterval, labels.getBitDepth(), labels.isHyperStack()]
""")
    assert facts[0] == [size, size, 1, slices, frames]
    assert facts[1:4] == pytest.approx([0.25, 0.5, 1.5])
    assert facts[4] in ("um", "micron", "µm")
    assert facts[5:] == [30.0, 16, True]
    np.testing.assert_array_equal(saved_labels(fiji, f"{title}-labels", tmp_path), expected)
    found = fiji.python(LOOK_AT_OVERLAY.format(title=title))
    planes = {
        (label, t + 1, z + 1)
        for t in range(frames)
        for z in range(slices)
        for label in np.unique(expected[t, z])[1:].tolist()
    }
    assert {(int(name.split("-")[0]), t, z) for name, _, _, z, t, _ in found} == planes
    for name, position, channel, z, t, _ in found:
        assert (position, channel) == (0, 0)  # seen on every channel
        assert name.split("-")[1:] == [str(z), str(t)]


def test_a_plain_stack_takes_the_position_in_the_stack(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    pixels = np.stack([crop(50 * z, 60 * z, 64, 72) for z in range(3)])
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "ZYX"})
    title = run(fiji, path, f"{SETTINGS} stitch_threshold=0.1")
    expected = engine_labels(path, stitch_threshold=0.1)
    np.testing.assert_array_equal(saved_labels(fiji, f"{title}-labels", tmp_path), expected)
    found = fiji.python(LOOK_AT_OVERLAY.format(title=title))
    assert {entry[1] for entry in found} == {1, 2, 3}
    assert all(entry[0].split("-")[1:] == [str(entry[1]), "1"] for entry in found)


def test_a_followed_object_keeps_its_number_and_colour(fiji: ImageJ, tmp_path: Path) -> None:
    still = crop(100, 200, 90, 110)
    path = tmp_path / "movie.tif"
    frames = np.stack([np.roll(still, 2 * t, axis=1) for t in range(3)])
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})
    tracking = "track_threshold=0.3 track_max_gap=1"
    title = run(fiji, path, f"{SETTINGS} {tracking} save_to=[{tmp_path}]")
    expected = engine_labels(path, track_threshold=0.3, track_max_gap=1)
    assert 3 < expected.max() < 30
    np.testing.assert_array_equal(saved_labels(fiji, f"{title}-labels", tmp_path), expected)
    looks = fiji.python(f"""
from ij import WindowManager
result = [[roi.getName(), roi.getTPosition() or roi.getPosition(), str(roi.getStrokeColor())]
          for roi in WindowManager.getImage({title!r}).getOverlay().toArray()]
""")
    places = {(int(name.split("-")[0]), t) for name, t, _ in looks}
    assert places == {(n, t + 1) for t in range(3) for n in np.unique(expected[t])[1:].tolist()}
    colours = {(name.split("-")[0], colour) for name, _, colour in looks}
    assert len(colours) == len({label for label, _ in colours}) == expected.max()
    tracks = (tmp_path / "movie_tracks.csv").read_text().splitlines()
    assert tracks[0].startswith("track,parent,t_first,t_last,n_frames,n_missing,")
    assert len(tracks) == 1 + expected.max()
    assert f"{expected.max()} tracks" in fiji.printed


def test_only_tracks_that_begin_in_the_selection_are_kept(fiji: ImageJ, tmp_path: Path) -> None:
    still = crop(100, 200, 90, 110)
    path = tmp_path / "movie.tif"
    frames = np.stack([np.roll(still, 6 * t, axis=1) for t in range(2)])
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})
    title = fiji.macro(f"""open("{path}"); t = getTitle(); makeOval(5, 5, 60, 80);
        run("Segment Cells", "{SETTINGS} track_threshold=0.1 save_to=[{tmp_path}]"); return t;""")
    labels = saved_labels(fiji, f"{title}-labels", tmp_path)
    present = [set(np.unique(frame).tolist()) - {0} for frame in labels]
    rows = (tmp_path / "movie_objects.csv").read_text().splitlines()
    names = rows[0].split(",")
    cells = [dict(zip(names, row.split(","), strict=True)) for row in rows[1:]]
    assert {(int(row["label"]), int(row["t"])) for row in cells} == {
        (label, t) for t, ids in enumerate(present) for label in ids
    }
    tracks = (tmp_path / "movie_tracks.csv").read_text().splitlines()[1:]
    assert sorted(int(row.split(",")[0]) for row in tracks) == sorted(set.union(*present))


def test_a_stack_is_one_volume_with_the_depth_of_its_calibration(
    fiji: ImageJ, tmp_path: Path
) -> None:
    path = tmp_path / "volume.tif"
    pixels = np.stack([crop(100, 200, 60, 66)] * 4)
    tifffile.imwrite(
        path, pixels, imagej=True, resolution=(2, 2),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 1.5},
    )  # fmt: skip
    title = run(fiji, path, f"{SETTINGS} volume_mode=fuse")
    expected = engine_labels(path, volume_mode="fuse")
    assert expected.max() > 1
    assert not np.array_equal(expected, engine_labels(path, volume_mode="planes"))
    np.testing.assert_array_equal(saved_labels(fiji, f"{title}-labels", tmp_path), expected)
    found = fiji.python(LOOK_AT_OVERLAY.format(title=title))
    planes = {(label, z + 1) for z, plane in enumerate(expected) for label in np.unique(plane)[1:]}
    assert {(int(entry[0].split("-")[0]), entry[1]) for entry in found} == planes


def test_every_mask_is_exactly_its_label(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, crop(100, 200, 160, 180))
    title = run(fiji, path)
    labels = saved_labels(fiji, f"{title}-labels", tmp_path)
    pixels, painted = fiji.python(PAINT_MASKS.format(title=title))
    np.testing.assert_array_equal(np.reshape(painted, labels.shape), labels)
    assert pixels == np.count_nonzero(labels)  # none reaches beyond its label


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float32", "rgb", "three channels"])
def test_every_kind_of_pixel_gives_what_the_engine_gives(
    fiji: ImageJ, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "kind.tif"
    gray = crop(140, 60, 90, 100)
    options = ""
    if kind == "rgb":
        rgb = np.stack([gray, gray // 2, 255 - gray], axis=-1)
        tifffile.imwrite(path, rgb, photometric="rgb")
        options = " channel=blue"
    elif kind == "three channels":
        channels = np.stack([255 - gray, gray, gray // 3]).astype(np.uint16)
        tifffile.imwrite(
            path, channels, imagej=True, metadata={"axes": "CYX", "Labels": ["a", "DAPI", "c"]}
        )
        options = " channel=DAPI"
    else:
        scaled = gray * 100.0 - (9000 if kind == "int16" else 0)
        tifffile.imwrite(path, scaled.astype(kind) if kind != "uint8" else gray)
    title = run(fiji, path, SETTINGS + options)
    settings = {"channel": options.rpartition("=")[2]} if options else {}
    expected = engine_labels(path, **settings)
    assert expected.max() > 3
    np.testing.assert_array_equal(saved_labels(fiji, f"{title}-labels", tmp_path), expected)


def test_a_virtual_stack_is_read_plane_by_plane(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "virtual.tif"
    pixels = np.stack([crop(30 * t, 40 * t, 60, 66) for t in range(2)])
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "TYX"})
    title = fiji.macro(
        f'run("TIFF Virtual Stack...", "open=[{path}]"); t = getTitle();'
        f'run("Segment Cells", "{SETTINGS}"); return t;'
    )
    assert title, fiji.printed
    assert fiji.python(
        "from ij import WindowManager\n"
        f"result = WindowManager.getImage({title!r}).getStack().isVirtual()"
    )
    np.testing.assert_array_equal(
        saved_labels(fiji, f"{title}-labels", tmp_path), engine_labels(path)
    )


def test_a_rectangle_is_segmented_alone_and_its_objects_lie_where_they_are(
    fiji: ImageJ, tmp_path: Path
) -> None:
    whole, part = tmp_path / "whole.tif", tmp_path / "part.tif"
    pixels = crop(0, 0, 150, 170)
    top, left, height, width = 30, 40, 90, 100
    tifffile.imwrite(whole, pixels)
    tifffile.imwrite(part, pixels[top : top + height, left : left + width])
    out = tmp_path / "out"
    title = fiji.macro(
        f'open("{whole}"); t = getTitle(); makeRectangle({left}, {top}, {width}, {height});'
        f'run("Segment Cells", "{SETTINGS} save_to=[{out}]"); return t;'
    )
    assert title == "whole.tif", fiji.printed
    assert "Only the selection was segmented (Rectangle of whole.tif)" in fiji.printed
    labels = saved_labels(fiji, f"{title}-labels", tmp_path)
    expected = np.zeros(pixels.shape, np.uint16)
    expected[top : top + height, left : left + width] = engine_labels(part)
    np.testing.assert_array_equal(labels, expected)
    _, painted = fiji.python(PAINT_MASKS.format(title=title))
    np.testing.assert_array_equal(np.reshape(painted, labels.shape), labels)
    np.testing.assert_array_equal(tifffile.imread(out / "whole_labels.tif"), labels)
    table = np.genfromtxt(out / "whole_objects.csv", delimiter=",", names=True)
    for row in table:
        y, x = np.nonzero(labels == row["label"])
        assert (row["centroid_y_px"], row["centroid_x_px"]) == pytest.approx((y.mean(), x.mean()))


def test_an_oval_keeps_the_objects_whose_centre_is_inside(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "whole.tif"
    tifffile.imwrite(path, crop(0, 0, 150, 170))
    title = fiji.macro(
        f'open("{path}"); t = getTitle(); makeOval(20, 20, 120, 110);'
        f'run("Segment Cells", "{SETTINGS}"); return t;'
    )
    assert title, fiji.printed
    labels = saved_labels(fiji, f"{title}-labels", tmp_path)
    names = {int(entry[0]) for entry in fiji.python(LOOK_AT_OVERLAY.format(title=title))}
    assert names == set(np.unique(labels)[1:].tolist())
    part = tmp_path / "part.tif"
    tifffile.imwrite(part, crop(20, 20, 110, 120))
    everything = engine_labels(part)
    inside = set()
    for label in range(1, everything.max() + 1):
        y, x = np.nonzero(everything == label)
        if ((y.mean() - 54.5) / 55) ** 2 + ((x.mean() - 59.5) / 60) ** 2 < 0.95:
            inside.add(label)
            np.testing.assert_array_equal(labels[20:130, 20:140] == label, everything == label)
    assert 0 < len(inside) <= len(names) < everything.max()
    assert inside <= names


def test_no_objects_is_an_empty_result_that_says_so(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "empty.tif"
    tifffile.imwrite(path, np.full((60, 70), 7, np.uint16))
    title = run(fiji, path)
    labels = saved_labels(fiji, f"{title}-labels", tmp_path)
    assert labels.shape == (60, 70)
    assert labels.max() == 0
    assert "empty.tif: No objects were found." in fiji.printed


def test_the_second_run_neither_starts_nor_looks_for_the_engine(
    both: tuple[ImageJ, Place], fiji: ImageJ, tmp_path: Path
) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, crop(0, 0, 64, 64))
    run(fiji, path)
    pid = both[1].record()["pid"]
    config = fiji.folder / "jars/Lib/cellseg_jy/engine.json"
    text = config.read_text(encoding="utf-8")
    config.unlink()  # the client cannot be asked any more
    try:
        run(fiji, path)
    finally:
        config.write_text(text, encoding="utf-8")
    assert both[1].record()["pid"] == pid
    assert titles(fiji).count("cells.tif-labels") == 1
    assert "cells.tif-labels-1" in titles(fiji)  # the first result is still there


def test_the_scripts_run_from_the_script_service_too(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, crop(0, 100, 64, 80))
    fiji.macro(f'open("{path}");')
    fiji.script("Segment_Cells.py", diameter_px=DIAMETER_PX)
    labels = saved_labels(fiji, "cells.tif-labels", tmp_path)
    np.testing.assert_array_equal(labels, engine_labels(path))


def test_the_table_colours_up_to_255_objects_apart(fiji: ImageJ) -> None:
    colours = fiji.python("""
from cellseg_jy.labels import make_lut
lut = make_lut()
result = [[lut.getRed(n), lut.getGreen(n), lut.getBlue(n)] for n in range(256)]
""")
    assert colours[0] == [0, 0, 0]
    table = np.array(colours, float)[1:]
    assert len({tuple(row) for row in table.tolist()}) == 255
    for step in range(1, 13):  # numbers of neighbours are near to one another
        assert np.abs(table[step:] - table[:-step]).sum(axis=1).min() > 100
    assert table.max(axis=1).min() > 200
