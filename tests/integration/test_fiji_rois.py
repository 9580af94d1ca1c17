"""Labels To ROIs and ROIs To Labels in a real headless ImageJ; no engine is needed."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg_engine.io.rois import encode_rois
from tests.integration.fiji_host import ABORTED, ImageJ, lay_out, mini_fiji
from tests.integration.fiji_runs import close_all, saved_labels, titles

# For each ROI of the overlay: name, position, slice, frame, is it a composite, its pixels.
LOOK = """
from ij import WindowManager
from ij.gui import ShapeRoi
result = []
for roi in WindowManager.getImage({title!r}).getOverlay().toArray():
    points = [[p.y, p.x] for p in roi.getContainedPoints()]
    result.append([roi.getName(), roi.getPosition(), roi.getZPosition(), roi.getTPosition(),
                   isinstance(roi, ShapeRoi), points])
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageJ]:
    folder = tmp_path_factory.mktemp("fiji")
    environment = {**os.environ, "CELLSEG_RUNTIME": str(folder / "runtime")}
    with mini_fiji(lay_out(folder / "Fiji", engine_python=None), environment) as fiji:
        yield fiji


@pytest.fixture
def fiji(host: ImageJ) -> Iterator[ImageJ]:
    yield host
    close_all(host)


def awkward_plane() -> np.ndarray:
    """Give labels with holes, parts, neighbours, islands, thin lines and single pixels."""
    labels = np.zeros((60, 80), np.int32)
    labels[5:15, 5:20] = 1
    labels[5:15, 20:30] = 2  # touches 1
    labels[20:40, 5:25] = 3
    labels[25:30, 10:15] = 0  # a hole
    labels[27, 12] = 3  # an island in it
    labels[33:36, 16:20] = 4  # another object in a hole of 3
    labels[5:8, 40:44] = 5
    labels[12:15, 50:54] = 5  # a second part
    labels[50, 0:80] = 6  # a whole row
    labels[51, 0:80] = 7  # the next one: its run goes on from the row before
    labels[59, 79] = 8
    labels[0, 0] = 9
    for step in range(8):
        labels[20 + step, 60 + step] = 10  # a diagonal
    labels[30:40, 50:60] = 11
    labels[32:34, 52:54] = 12
    labels[36:38, 55:57] = 0
    labels[38, 70:72] = 11  # a hole of 4 and elsewhere 2 pixels, with 2 of a neighbour
    labels[44, 70:72] = 11
    labels[10:20, 60:62] = 300
    return labels


def write(path: Path, labels: np.ndarray, axes: str) -> Path:
    tifffile.imwrite(path, labels, imagej=True, metadata={"axes": axes})
    return path


def labels_to_rois(fiji: ImageJ, path: Path, options: str = "") -> str:
    title = fiji.macro(
        f'open("{path}"); t = getTitle(); run("Labels To ROIs", "{options}"); return t;'
    )
    assert title not in (None, ABORTED), fiji.printed
    return str(title)


def test_every_roi_is_its_label_and_the_way_back_is_the_identity(
    fiji: ImageJ, tmp_path: Path
) -> None:
    labels = awkward_plane()
    archive = tmp_path / "rois é.zip"
    path = write(tmp_path / "labels.tif", labels.astype(np.uint16), "YX")
    title = labels_to_rois(fiji, path, f"save_as=[{archive}]")
    found = fiji.python(LOOK.format(title=title))
    assert [entry[0] for entry in found] == [
        f"{label:04d}" for label in np.unique(labels)[1:].tolist()
    ]
    for name, *_, is_composite, points in found:
        expected = {tuple(place) for place in np.argwhere(labels == int(name)).tolist()}
        assert {tuple(place) for place in points} == expected, name
        assert is_composite is (int(name) in (3, 5, 11))
    fiji.macro(f'selectImage("{title}"); run("ROIs To Labels", "source=overlay");')
    back = saved_labels(fiji, f"{title}-labels", tmp_path)
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, labels)
    fiji.macro(
        f'selectImage("{title}"); run("Remove Overlay");'
        f'run("ROIs To Labels", "source=archive archive=[{archive}]");'
    )
    np.testing.assert_array_equal(saved_labels(fiji, f"{title}-labels", tmp_path), labels)


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "TZYX"])
def test_stacks_keep_their_planes(fiji: ImageJ, tmp_path: Path, axes: str) -> None:
    plane = awkward_plane().astype(np.uint16)
    other = np.where(plane[::-1] > 3, plane[::-1] + 400, 0).astype(np.uint16)
    labels = np.stack([plane, other] * 6)  # 12: two digits in the names
    if axes == "TZYX":
        labels = labels.reshape(4, 3, *plane.shape)
    title = labels_to_rois(fiji, write(tmp_path / "stack.tif", labels, axes))
    found = fiji.python(LOOK.format(title=title))
    for name, position, z, t, _, _ in found[::9]:
        own = [int(part) for part in name.split("-")[1:]]
        assert own == ([z, t] if axes == "TZYX" else [position, 1][:: 1 if axes == "ZYX" else -1])
    # The names are those that the engine gives.
    with zipfile.ZipFile(_zip(tmp_path, labels, axes)) as archive:
        assert sorted(archive.namelist()) == sorted(f"{entry[0]}.roi" for entry in found)
    fiji.macro(f'selectImage("{title}"); run("ROIs To Labels", "");')
    np.testing.assert_array_equal(saved_labels(fiji, f"{title}-labels", tmp_path), labels)
    assert (
        fiji.python(
            "from ij import WindowManager\n"
            f"result = list(WindowManager.getImage('{title}-labels').getDimensions()[2:])"
        )
        == {"ZYX": [1, 12, 1], "TYX": [1, 1, 12], "TZYX": [1, 3, 4]}[axes]
    )


def test_the_engines_archive_gives_the_labels_back(fiji: ImageJ, tmp_path: Path) -> None:
    labels = np.stack([awkward_plane(), awkward_plane()[::-1]])
    image = write(tmp_path / "image.tif", np.zeros(labels.shape, np.uint8), "ZYX")
    archive = _zip(tmp_path, labels, "ZYX")
    fiji.macro(f'open("{image}"); run("ROIs To Labels", "archive=[{archive}]");')
    np.testing.assert_array_equal(saved_labels(fiji, "image.tif-labels", tmp_path), labels)


def test_rois_on_a_channel_of_one_plane_are_on_that_plane(fiji: ImageJ, tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", np.zeros((3, 40, 40), np.uint8), "CYX")
    fiji.macro(f'open("{path}");')
    position = fiji.python(
        "from ij import WindowManager\n"
        "from ij.gui import Overlay, Roi\n"
        "image = WindowManager.getImage('image.tif')\n"
        "image.setC(3)\n"
        "roi = Roi(2, 3, 5, 4)\n"
        "roi.setPosition(image)\n"
        "image.setOverlay(Overlay(roi))\n"
        "result = [roi.getPosition(), roi.hasHyperStackPosition()]"
    )
    assert position == [3, False]
    macro = 'selectImage("image.tif"); run("ROIs To Labels", "source=overlay"); return "done";'
    assert fiji.macro(macro) == "done", fiji.printed
    back = saved_labels(fiji, "image.tif-labels", tmp_path)
    assert (back == 1).sum() == 20


def test_more_than_65535_labels_there_and_back(fiji: ImageJ, tmp_path: Path) -> None:
    labels = np.arange(300 * 240, dtype=np.int32).reshape(300, 240)
    path = tmp_path / "many.tif"
    tifffile.imwrite(path, labels.astype(np.float32), imagej=True)
    title = labels_to_rois(fiji, path)
    names = fiji.python(
        "from ij import WindowManager\n"
        f"overlay = WindowManager.getImage({title!r}).getOverlay()\n"
        "result = [overlay.size(), overlay.get(0).getName(), overlay.get(71998).getName()]"
    )
    assert names == [71999, "00001", "71999"]
    fiji.macro(f'selectImage("{title}"); run("ROIs To Labels", "source=overlay");')
    back = saved_labels(fiji, f"{title}-labels", tmp_path)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, labels)


def test_labels_with_a_sign_are_those_of_the_file(fiji: ImageJ, tmp_path: Path) -> None:
    labels, path = awkward_plane().astype(np.int16), tmp_path / "signed.tif"
    tifffile.imwrite(path, labels)  # ImageJ keeps its 0 as 32,768
    title = labels_to_rois(fiji, path)
    names = [entry[0] for entry in fiji.python(LOOK.format(title=title))]
    assert names == [f"{label:04d}" for label in np.unique(labels)[1:].tolist()]
    fiji.macro(f'selectImage("{title}"); run("ROIs To Labels", "source=overlay");')
    np.testing.assert_array_equal(saved_labels(fiji, f"{title}-labels", tmp_path), labels)
    again = labels_to_rois(fiji, path)  # the pixels were not changed
    assert [entry[0] for entry in fiji.python(LOOK.format(title=again))] == names


def test_texts_scale_bars_and_the_disk_of_a_preview_are_no_objects(
    fiji: ImageJ, tmp_path: Path
) -> None:
    image = write(tmp_path / "image.tif", np.zeros((40, 50), np.uint8), "YX")
    fiji.macro(
        f'open("{image}"); makeText("a note", 2, 2); Overlay.addSelection; run("Select None");'
        'run("Scale Bar...", "width=10 height=4 overlay");'
        "makeOval(20, 20, 12, 12); Overlay.addSelection; Overlay.show;"
        'run("Select None");'
    )
    fiji.python(
        "from ij import WindowManager\n"
        "from cellseg_jy.preview import draw_disk\n"
        "overlay = WindowManager.getImage('image.tif').getOverlay()\n"
        "for roi in draw_disk(9.0, 50, 40): overlay.add(roi)"
    )
    fiji.macro('selectImage("image.tif"); run("ROIs To Labels", "");')
    labels = saved_labels(fiji, "image.tif-labels", tmp_path)
    places = np.argwhere(labels)
    assert [places.min(axis=0).tolist(), places.max(axis=0).tolist()] == [[20, 20], [31, 31]]
    assert sorted(np.unique(labels)) == [0, 1]
    told = " ROIs without an area (points, lines, texts, scale bars) were left out."
    assert f"CellSeg: 4{told}" in fiji.printed


def test_rois_outside_the_image_are_named(fiji: ImageJ, tmp_path: Path) -> None:
    image = write(tmp_path / "image.tif", np.zeros((40, 50), np.uint8), "YX")
    archive = tmp_path / "rois.zip"
    large = np.zeros((80, 90), np.int32)
    large[5:9, 5:9], large[60:70, 60:70] = 1, 2
    archive.write_bytes(encode_rois(large, "YX"))
    fiji.macro(f'open("{image}"); run("ROIs To Labels", "archive=[{archive}]");')
    labels = saved_labels(fiji, "image.tif-labels", tmp_path)
    np.testing.assert_array_equal(labels, large[:40, :50])
    assert "1 ROIs left out (outside the image): 0002." in fiji.printed
    archive.write_bytes(encode_rois(np.where(large == 2, 2, 0), "YX"))
    macro = f'selectImage("image.tif"); run("ROIs To Labels", "archive=[{archive}]"); return "on";'
    assert fiji.macro(macro) == ABORTED
    assert "None of the 1 ROIs lies in image.tif." in fiji.printed


def test_rois_of_others_are_numbered_and_points_left_out(fiji: ImageJ, tmp_path: Path) -> None:
    image = write(tmp_path / "image.tif", np.zeros((40, 50), np.uint8), "YX")
    fiji.macro(
        f'open("{image}"); makeRectangle(2, 3, 10, 5); Overlay.addSelection;'
        "makeOval(20, 20, 12, 12); Overlay.addSelection;"
        "makePoint(5, 30); Overlay.addSelection; Overlay.show; run('Select None');"
        'run("ROIs To Labels", "");'.replace("'", '"')
    )
    labels = saved_labels(fiji, "image.tif-labels", tmp_path)
    assert sorted(np.unique(labels)) == [0, 1, 2]
    assert np.array_equal(np.argwhere(labels == 1).min(axis=0), [3, 2])
    assert np.count_nonzero(labels == 1) == 50
    told = " ROIs without an area (points, lines, texts, scale bars) were left out."
    assert f"1{told}" in fiji.printed
    assert "The names of the ROIs are no labels" in fiji.printed


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((20, 20), 0.5, np.float32), "it has numbers that are not whole"),
        (np.full((20, 20), -1, np.float32), "it has negative numbers"),
        (np.full((20, 20), -1, np.int16), "it has negative numbers"),
        (np.full((20, 20), 3e7, np.float32), "it has numbers above 16777216"),
        (np.zeros((20, 20, 3), np.uint8), "it has colours or channels"),
    ],
)
def test_what_is_no_label_image_is_refused(
    fiji: ImageJ, tmp_path: Path, pixels: np.ndarray, words: str
) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels)
    macro = f'open("{path}"); run("Labels To ROIs", ""); return "went on";'
    assert fiji.macro(macro) == ABORTED
    assert f"image.tif is no label image: {words}" in fiji.printed


def test_nothing_to_convert_is_told(fiji: ImageJ, tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", np.zeros((20, 20), np.uint16), "YX")
    labels_to_rois(fiji, path)
    assert "image.tif has no labels: all its pixels are 0." in fiji.printed
    macro = f'open("{path}"); run("ROIs To Labels", ""); return "went on";'
    assert fiji.macro(macro) == ABORTED
    assert "There are no ROIs in the ROI Manager or in the overlay of the image." in fiji.printed
    assert "image.tif-labels" not in titles(fiji)


def test_a_users_own_overlay_stays(fiji: ImageJ, tmp_path: Path) -> None:
    path = write(tmp_path / "labels.tif", awkward_plane().astype(np.uint16), "YX")
    count = len(np.unique(awkward_plane())) - 1
    sizes = fiji.macro(
        f'open("{path}"); makeRectangle(1, 1, 5, 5); Overlay.addSelection; run("Select None");'
        'run("Labels To ROIs", ""); first = Overlay.size;'
        'run("Labels To ROIs", ""); return "" + first + " " + Overlay.size;'
    )
    assert sizes == f"{count + 1} {count + 1}"


def _zip(folder: Path, labels: np.ndarray, axes: str) -> Path:
    path = folder / "engine.zip"
    path.write_bytes(encode_rois(labels.astype(np.int32), axes))
    return path
