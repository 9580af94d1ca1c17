"""Segment Cells in an ImageJ with windows, on a virtual display: ROI Manager, table, undo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.integration.fiji_host import ImageJ, lay_out_imagej, plain_imagej, virtual_display
from tests.integration.fiji_runs import crop
from tests.integration.service import place

LOOK = """
from ij import WindowManager
from ij.plugin.frame import RoiManager
manager = RoiManager.getInstance()
image = WindowManager.getImage("cells.tif")
overlay = image.getOverlay()
result = {
    "manager": [[roi.getName(), roi.getGroup()] for roi in manager.getRoisAsArray()],
    "overlay": [roi.getName() for roi in overlay.toArray()],
    "windows": [window.getTitle() for window in WindowManager.getNonImageWindows()],
    "images": [WindowManager.getImage(n).getTitle() for n in WindowManager.getIDList()],
    "current": WindowManager.getCurrentImage().getTitle(),
}
"""


@pytest.fixture(scope="module")
def imagej(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageJ]:
    folder = tmp_path_factory.mktemp("imagej")
    application = lay_out_imagej(folder / "ImageJ")
    with place(folder / "engine") as there, virtual_display() as display:
        there.start(fake=True)
        with plain_imagej(application, display, there.environment()) as imagej:
            yield imagej


def look(imagej: ImageJ) -> dict[str, Any]:
    found: dict[str, Any] = imagej.python(LOOK)
    return found


def test_results_are_added_and_taken_back_in_one_step(imagej: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, crop(0, 0, 60, 70))
    imagej.macro(f"""
        open("{path}");
        makeRectangle(1, 1, 9, 9); Roi.setName("mine"); roiManager("add");
        Overlay.addSelection; run("Select None");
        run("Segment Cells", "model=fake");
    """)
    first = look(imagej)
    assert first["manager"] == [["mine", 0], ["0001", 1]]  # appended, in a group of its own
    assert first["overlay"] == ["mine", "0001"]
    assert {"ROI Manager", "cells.tif-objects"} <= set(first["windows"])
    assert first["images"] == ["cells.tif", "cells.tif-labels"]
    assert first["current"] == "cells.tif"
    imagej.macro('run("Segment Cells", "model=fake show_table=false");')
    second = look(imagej)
    assert second["manager"] == [["mine", 0], ["0001", 1], ["0001", 2]]
    assert second["overlay"] == ["mine", "0001"]  # the earlier outlines are replaced
    imagej.python("from ij import Undo\nUndo.undo()")
    assert look(imagej)["overlay"] == ["mine", "0001"]
    imagej.macro('close("*-labels*"); run("Remove Overlay"); run("Segment Cells", "model=fake");')
    assert look(imagej)["overlay"] == ["0001"]
    imagej.python("from ij import Undo\nUndo.undo()")
    assert look(imagej)["overlay"] == []
    imagej.macro('close("*");')


def test_above_255_objects_labels_have_outlines(imagej: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.zeros((30, 40), np.uint8))
    imagej.macro(f'open("{path}"); run("Segment Cells", "model=many add_to_roi_manager=false");')
    assert imagej.python(
        "from ij import WindowManager\n"
        "result = WindowManager.getImage('cells.tif-labels').getOverlay().size()"
    ) == (30 * 40 - 1)
    imagej.macro('close("*");')
