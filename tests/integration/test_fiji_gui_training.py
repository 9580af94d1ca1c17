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
from cellseg_engine.train.folder import read_folder
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


def fails_with(imagej: ImageJ, macro: str) -> str:
    """Run a macro that ends with a dialog of an error; close it and give its text."""
    ticket = imagej.start_macro(macro + ' return "went on";')
    wait_for_window(imagej, ERROR)
    text = "\n".join(window_texts(imagej, ERROR))
    click_button(imagej, ERROR, "OK")
    assert imagej.wait(ticket)["result"] == ABORTED
    wait_until(lambda: ERROR not in window_titles(imagej), "the end of the dialog")
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
    titles = imagej.python("from ij import WindowManager as W\nresult = list(W.getImageTitles())")
    assert titles == ["well 1.tif"], "the one that is done was closed"
    assert imagej.macro(f'run("Next Image", "{folders} discard_rois"); return getTitle();') == (
        "well 2.tif"
    )
    imagej.macro('roiManager("reset");')
    text = fails_with(imagej, 'run("Add To Training Set", "source=auto");')
    assert "There are no ROIs in the ROI Manager." in text, "the overlay was not corrected"
    assert len(read_folder(tmp_path / "my cells").images) == 1
