"""Correcting by hand in a plain ImageJ with windows: the ROI Manager is what is added and kept."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile

from cellseg_engine.train.edits import Edits
from cellseg_engine.train.folder import RECORD, read_folder
from cellseg_engine.train.part import Part
from tests.integration.fiji_host import (
    ABORTED,
    ImageJ,
    lay_out_imagej,
    plain_imagej,
    virtual_display,
)
from tests.integration.fiji_runs import crop
from tests.integration.fiji_screen import (
    KEEP_VARIABLE,
    click_button,
    take_picture,
    tick,
    wait_for_window,
    window_texts,
    window_titles,
)
from tests.integration.service import place, wait_until

ERROR = "Macro Error"
ARRANGE = """
from ij import IJ, WindowManager
from ij.plugin.frame import RoiManager
IJ.run("Set... ", "zoom=300")
WindowManager.getImage("well 0.tif").getWindow().setLocation(20, 150)
RoiManager.getInstance().setLocation(680, 150)
IJ.getInstance().setLocation(20, 20)
log = WindowManager.getWindow("Log")
log.setLocation(20, 700)
log.setSize(900, 140)
"""
"""For a picture that shows all windows."""
MANAGER = """
from ij.plugin.frame import RoiManager
manager = RoiManager.getInstance()
result = [roi.getName() for roi in manager.getRoisAsArray()] if manager else []
"""

MEANWHILE = """
from cellseg_jy import {module}
from ij.gui import Roi
from ij.plugin.frame import RoiManager
usual = {module}.{function}
def meanwhile(*given):
    {module}.{function} = usual
    answer = usual(*given)
    RoiManager.getInstance().addRoi(Roi({x}, 1, 6, 6))
    return answer
{module}.{function} = meanwhile
"""
"""Lets somebody draw a ROI and add it to the ROI Manager while the engine works, once."""
TITLES = "from ij import WindowManager as W\nresult = list(W.getImageTitles())"


@pytest.fixture(scope="module")
def imagej(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageJ]:
    folder = lay_out_imagej(tmp_path_factory.mktemp("gui") / "ImageJ", sys.executable)
    # Frames around windows, for the pictures of the docs only.
    frames = shutil.which("openbox") if os.environ.get(KEEP_VARIABLE) else None
    with (
        place(tmp_path_factory.mktemp("engine")) as there,
        virtual_display(frames) as display,
        plain_imagej(folder, display, there.environment()) as running,
    ):
        yield running


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    folder = tmp_path / "plate"
    folder.mkdir()
    for number in range(3):
        pixels = crop(100 * number, 60 * number, 160, 200)
        tifffile.imwrite(folder / f"well {number}.tif", pixels, imagej=True)
    return folder


def fails_with(imagej: ImageJ, macro: str, title: str = ERROR) -> str:
    """Run a macro that ends with a dialog of an error; close it and give its text."""
    ticket = imagej.start_macro(macro + ' return "went on";')
    wait_for_window(imagej, title)
    text = "\n".join(window_texts(imagej, title))
    click_button(imagej, title, "OK")
    assert imagej.wait(ticket)["result"] == ABORTED
    wait_until(lambda: title not in window_titles(imagej), "the end of the dialog")
    return text


def test_corrections_of_the_roi_manager_are_added_and_never_lost(
    imagej: ImageJ, plate: Path, tmp_path: Path
) -> None:
    folders = f"image_folder=[{plate}] training_folder=[{tmp_path / 'my cells'}] diameter_px=30"
    following = f'run("Next Image", "{folders}");'
    assert imagej.macro(f"{following} return getTitle();") == "well 0.tif"
    names = imagej.python(MANAGER)
    assert len(names) > 4

    text = fails_with(imagej, following)
    assert "The ROI Manager has ROIs that are not in the training set." in text
    assert imagej.python(MANAGER) == names

    imagej.macro(
        'roiManager("select", 0); roiManager("delete");'
        'run("Select None"); makeOval(3, 3, 12, 12); roiManager("add");'
        'roiManager("select", 0); run("Enlarge...", "enlarge=2"); roiManager("update");'
        'run("Select None");'
    )
    corrected = imagej.python(MANAGER)
    assert len(corrected) == len(names)
    assert imagej.macro('run("Add To Training Set", "source=manager"); return "done";') == "done"
    (image,) = read_folder(tmp_path / "my cells").images
    assert image.edits == Edits(kept=len(names) - 2, changed=1, drawn=1, removed=1)
    assert (image.model, image.title) == ("nuclei", "well 0.tif")
    imagej.python(ARRANGE)
    take_picture(imagej, "fiji-training", tmp_path)

    assert imagej.macro(f"{following} return getTitle();") == "well 1.tif"
    found = imagej.python(MANAGER)
    assert set(found) != set(corrected), "those of the new image and no others"
    assert imagej.python(TITLES) == ["well 1.tif"], "the one that is done was closed"
    assert imagej.macro(f'run("Next Image", "{folders} discard_rois"); return getTitle();') == (
        "well 2.tif"
    )
    imagej.macro('roiManager("reset");')
    text = fails_with(imagej, 'run("Add To Training Set", "source=auto");')
    assert "There are no ROIs in the ROI Manager." in text, "the overlay was not corrected"
    assert len(read_folder(tmp_path / "my cells").images) == 1


def test_a_rectangle_is_drawn_and_ticked(imagej: ImageJ, plate: Path, tmp_path: Path) -> None:
    folder, title = tmp_path / "my cells", "Add To Training Set"
    options = f"image_folder=[{plate}] training_folder=[{folder}] diameter_px=30 discard_rois"
    imagej.macro(f'run("Next Image", "{options}"); makeRectangle(40, 30, 200, 90);')
    imagej.python(f"from ij import IJ\nIJ.doCommand({title!r})")
    wait_for_window(imagej, title)
    tick(imagej, title, "Only in the selected rectangle")
    take_picture(imagej, "fiji-training-part", tmp_path, (title, "well 0.tif"))
    click_button(imagej, title, "OK")
    wait_until((folder / RECORD).exists, "the image in the training folder")
    (image,) = read_folder(folder).images
    assert image.part == Part(40, 30, 160, 90), "what lies in the image of 200 px"
    assert 0 < image.objects == image.edits.kept < len(imagej.python(MANAGER))
    wait_until(
        lambda: any(f"{image.objects} objects in 160 x 90 px" in text
                    for text in window_texts(imagej, "Log")), "the line in the Log",
    )  # fmt: skip


def test_rois_drawn_while_the_engine_works_are_not_lost(
    imagej: ImageJ, plate: Path, tmp_path: Path
) -> None:
    folders = f"image_folder=[{plate}] training_folder=[{tmp_path / 'my cells'}] diameter_px=30"
    following = f'run("Next Image", "{folders}");'
    discarding = f'run("Next Image", "{folders} discard_rois");'
    add = 'run("Add To Training Set", "source=manager"); return "done";'
    imagej.macro('close("*"); if (isOpen("ROI Manager")) roiManager("reset");')
    assert imagej.macro(f"{following} return getTitle();") == "well 0.tif"
    names = imagej.python(MANAGER)

    imagej.python(MEANWHILE.format(module="adding", function="ask", x=1))
    assert imagej.macro(add) == "done"
    assert read_folder(tmp_path / "my cells").images[0].edits.drawn == 0, "it came too late"
    assert imagej.python(MANAGER)[:-1] == names
    text = fails_with(imagej, following)
    assert "The ROI Manager has ROIs that are not in the training set." in text
    assert imagej.macro(add) == "done"
    assert read_folder(tmp_path / "my cells").images[0].edits.drawn == 1

    for number, macro in enumerate((following, discarding), start=2):
        before = imagej.python(MANAGER)
        drawing = MEANWHILE.format(module="next_image", function="segment", x=20 * number)
        imagej.python(drawing)
        text = fails_with(imagej, macro, "CellSeg")
        assert "ROIs were drawn or changed while well 1.tif was being segmented" in text
        assert imagej.python(MANAGER)[:-1] == before
        assert imagej.python(TITLES) == ["well 0.tif"]
    assert imagej.macro(f"{discarding} return getTitle();") == "well 1.tif"
    assert imagej.python(TITLES) == ["well 1.tif"]


def test_a_part_is_cut_out_and_corrected_as_the_docs_say(
    imagej: ImageJ, plate: Path, tmp_path: Path
) -> None:
    folders = f"image_folder=[{plate}] training_folder=[{tmp_path / 'my cells'}] diameter_px=30"
    following = f'run("Next Image", "{folders}");'
    imagej.macro('close("*"); if (isOpen("ROI Manager")) roiManager("reset");')
    assert imagej.macro(f"{following} return getTitle();") == "well 0.tif"
    imagej.macro(
        'roiManager("reset"); makeRectangle(60, 40, 120, 100); run("Duplicate...", "title=part");'
        'run("Segment Cells", "model=nuclei diameter_px=30");'
    )
    names = imagej.python(MANAGER)
    assert (
        imagej.macro('run("Add To Training Set", "source=manager"); return getTitle();') == "part"
    )
    (image,) = read_folder(tmp_path / "my cells").images
    assert (image.title, image.source) == ("part", str(plate / "well 0.tif"))
    assert image.edits == Edits(kept=len(names))
    assert imagej.macro(f"{following} return getTitle();") == "well 1.tif"
    assert sorted(imagej.python(TITLES)) == ["part", "part-labels", "well 1.tif"]
