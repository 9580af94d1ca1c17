"""The commands in a plain ImageJ with its windows: menu, dialog, recorder, ROI Manager, Escape."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.conftest import ROOT
from tests.integration.fiji_host import (
    ABORTED,
    ImageJ,
    lay_out_imagej,
    plain_imagej,
    virtual_display,
)
from tests.integration.fiji_screen import (
    KEEP_VARIABLE,
    click_button,
    hidden_parts,
    press,
    recorded_calls,
    set_field,
    take_picture,
    wait_for_window,
    window_size,
    window_texts,
    window_titles,
)
from tests.integration.service import START_S, Place, place, wait_until

DEMO = ROOT / "cellseg_engine" / "demo"
SEGMENTED_S = 240.0
SMALL_SCREEN = (1366, 768)
STATUS, ABOUT, INSTALL = "CellSeg Engine", "About CellSeg", "Install CellSeg Engine"
MENU = """
from ij import Menus
from java.awt import Menu
bar = Menus.getMenuBar()
menus = [bar.getMenu(i) for i in range(bar.getMenuCount())]
plugins = [menu for menu in menus if menu.label == "Plugins"][0]
items = [plugins.getItem(i) for i in range(plugins.getItemCount())]
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("engine")) as engine_place:
        yield engine_place


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a real image, in a folder with a space and a letter that is not ASCII."""
    target = tmp_path_factory.mktemp("images é") / "nuclei of day 1.tif"
    shutil.copy(DEMO / "dense_nuclei_4d2cff9a0c8d.tif", target)
    return target


@pytest.fixture(scope="module")
def imagej(there: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageJ]:
    folder = lay_out_imagej(tmp_path_factory.mktemp("gui") / "ImageJ", sys.executable)
    # Frames around windows, for the pictures of the docs only.
    frames = shutil.which("openbox") if os.environ.get(KEEP_VARIABLE) else None
    with (
        virtual_display(frames) as display,
        plain_imagej(folder, display, there.environment()) as running,
    ):
        yield running


@pytest.fixture(autouse=True)
def _clean(imagej: ImageJ) -> Iterator[None]:
    yield
    imagej.python(
        "from ij.plugin.frame import Recorder\n"
        "if Recorder.getInstance(): Recorder.getInstance().close()"
    )
    imagej.macro('close("*"); close("ROI Manager"); close("*-objects"); close("Log");')


def state(imagej: ImageJ) -> dict[str, Any]:
    """Give the open images, the overlay of the first, and what the ROI Manager holds."""
    answer: dict[str, Any] = imagej.python(
        "from ij import WindowManager as W\n"
        "from ij.plugin.frame import RoiManager\n"
        "ids = W.getIDList() or []\n"
        "images = [W.getImage(i) for i in ids]\n"
        "manager = RoiManager.getInstance()\n"
        "result = {'titles': [i.getTitle() for i in images],\n"
        "    'overlays': [i.getOverlay().size() if i.getOverlay() else 0 for i in images],\n"
        "    'maxima': [i.getProcessor().getMax() for i in images],\n"
        "    'rois': manager.getCount() if manager else None,\n"
        "    'shown': bool(manager and manager.isShowing()),\n"
        "    'names': [r.getName() for r in manager.getRoisAsArray()] if manager else []}\n"
    )
    return answer


def pixels(imagej: ImageJ, title: str, folder: Path) -> np.ndarray:
    path = folder / "pixels.tif"
    imagej.macro(f'selectImage("{title}"); save({quoted(path)});')
    imagej.macro(f'rename("{title}");')
    return np.asarray(tifffile.imread(path))


def quoted(path: Path) -> str:
    """Give a path as a text of the macro language, which knows no escapes of letters."""
    return f'"{path}"'


def start_command(imagej: ImageJ, name: str) -> None:
    """Choose a command as a click in the menu does."""
    imagej.python(f"from ij import IJ\nIJ.doCommand({name!r})")


def test_the_menu_has_every_command(imagej: ImageJ, tmp_path: Path) -> None:
    found = imagej.python(
        MENU + "cellseg = [item for item in items if item.label == 'CellSeg'][0]\n"
        "result = [cellseg.getItem(i).label for i in range(cellseg.getItemCount())]"
    )
    scripts = {path.stem.replace("_", " ") for path in (ROOT / "fiji_scripts").glob("*.py")}
    assert set(found) - {"-"} == scripts
    assert found[0] == "Segment Cells"
    if os.environ.get(KEEP_VARIABLE):
        open_the_menu(imagej)
        take_picture(imagej, "fiji-menu", tmp_path, size=(740, 440))
        for _ in range(3):
            press(imagej, "VK_ESCAPE")
        imagej.python("from ij import IJ\nIJ.resetEscape()")


def open_the_menu(imagej: ImageJ) -> None:
    """Open Plugins > CellSeg, for a picture: menus of this kind do not say where they are."""
    above = imagej.python(
        MENU + "labels = [item.label for item in items if item.label != '-']\n"
        "result = labels.index('CellSeg')"
    )
    imagej.python(
        "from ij import IJ\n"
        "from java.awt import Robot\n"
        "from java.awt.event import InputEvent\n"
        "IJ.getInstance().setLocation(0, 0)\n"
        "robot = Robot()\n"
        "robot.delay(500)\n"
        "robot.mouseMove(320, 33)\n"
        "robot.mousePress(InputEvent.BUTTON1_DOWN_MASK)\n"
        "robot.mouseRelease(InputEvent.BUTTON1_DOWN_MASK)\n"
        "robot.delay(500)\n"
    )
    for key in [*["VK_DOWN"] * above, "VK_RIGHT"]:
        press(imagej, key)


def test_dialog_recorder_and_manager(imagej: ImageJ, image: Path, tmp_path: Path) -> None:
    imagej.macro(f"open({quoted(image)});")
    imagej.macro('run("Record...");')
    start_command(imagej, "Segment Cells")
    wait_for_window(imagej, "Segment Cells")
    width, height = window_size(imagej, "Segment Cells")
    assert width < SMALL_SCREEN[0]
    assert height < SMALL_SCREEN[1] - 60  # where the system has its bars
    assert hidden_parts(imagej, "Segment Cells") == []
    take_picture(imagej, "fiji-dialog", tmp_path, ("Segment Cells",))
    click_button(imagej, "Segment Cells", "OK")
    wait_for_window(imagej, f"{image.name}-labels", SEGMENTED_S)
    wait_until(lambda: state(imagej)["rois"], "the ROI Manager")
    wait_until(lambda: recorded_calls(imagej), "the recorder")
    (recorded,) = recorded_calls(imagej)
    imagej.python("from ij.plugin.frame import Recorder\nRecorder.getInstance().close()")
    assert recorded.startswith('run("Segment Cells", "model=nuclei channel=auto')

    first = state(imagej)
    count = first["rois"]
    assert count > 50
    assert first["shown"]
    assert first["titles"] == [image.name, f"{image.name}-labels"]
    assert first["overlays"][0] == count
    labels = pixels(imagej, f"{image.name}-labels", tmp_path)
    assert labels.max() == count

    # What was recorded runs as it was recorded, and the manager's ROIs of before stay.
    imagej.macro(f'close("*-labels"); selectImage("{image.name}");')
    assert imagej.macro(recorded) is None
    second = state(imagej)
    assert second["rois"] == 2 * count
    assert second["names"][:count] == first["names"]
    np.testing.assert_array_equal(pixels(imagej, f"{image.name}-labels", tmp_path), labels)


def test_the_result_as_a_person_sees_it(imagej: ImageJ, image: Path, tmp_path: Path) -> None:
    imagej.macro(f'open({quoted(image)}); run("Segment Cells", "diameter_px=28 show_table=false");')
    titles = (image.name, f"{image.name}-labels", "ROI Manager")
    assert set(titles) <= set(window_titles(imagej))
    imagej.python(
        "from ij import IJ, WindowManager as W\n"
        "from ij.plugin.frame import RoiManager\n"
        f"windows = [W.getImage(t).getWindow() for t in {list(titles[:2])!r}]\n"
        "for window in windows:\n"
        "    window.getCanvas().setMagnification(0.75)\n"
        "    window.getCanvas().setSize(522, 390)\n"
        "    window.pack()\n"
        "windows[0].setLocation(20, 150)\n"
        "windows[1].setLocation(570, 150)\n"
        "RoiManager.getInstance().setLocation(1120, 150)\n"
        "IJ.getInstance().setLocation(20, 20)\n"
    )
    take_picture(imagej, "fiji-result", tmp_path)


def test_escape_cancels(imagej: ImageJ, there: Place, image: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.tif"
    tifffile.imwrite(large, np.tile(tifffile.imread(image), (4, 4)))
    imagej.macro(f"open({quoted(large)});")
    ticket = imagej.start_macro(
        'run("Segment Cells", "diameter_px=10 test_time_augmentation=paper"); return "went on";'
    )
    wait_until(lambda: there.engine().status()["running"], "the segmentation", START_S)
    imagej.python("from ij import IJ\nIJ.getInstance().toFront()\nIJ.getInstance().requestFocus()")
    press(imagej, "VK_ESCAPE")
    assert imagej.wait(ticket, START_S)["result"] == ABORTED
    wait_until(lambda: not there.engine().status()["running"], "the end of the job", START_S)
    assert state(imagej)["titles"] == ["large.tif"]
    assert there.engine().status()["counters"]["jobs_cancelled"] == 1


def test_an_error_is_a_dialog_and_ends_the_macro(imagej: ImageJ) -> None:
    ticket = imagej.start_macro('run("Segment Cells", "model=nuclei"); return "on";')
    wait_for_window(imagej, "Macro Error")
    texts = window_texts(imagej, "Macro Error")
    click_button(imagej, "Macro Error", "OK")
    assert imagej.wait(ticket)["result"] == ABORTED
    assert any("No image is open." in text for text in texts)


def test_status_shows_the_engine_and_ends_it(imagej: ImageJ, there: Place, tmp_path: Path) -> None:
    assert there.engine().health()["state"]
    start_command(imagej, "Engine Status")
    wait_for_window(imagej, STATUS)
    pid = there.record()["pid"]
    texts = window_texts(imagej, STATUS)
    assert f"Process   {pid}" in texts
    assert any(text.startswith("Version") for text in texts)
    assert "Open status page" in texts
    take_picture(imagej, "fiji-status", tmp_path, (STATUS,))

    click_button(imagej, STATUS, "End engine")
    wait_until(lambda: "Start engine" in window_texts(imagej, STATUS), "its end", START_S)
    assert there.find() is None
    click_button(imagej, STATUS, "Start engine")
    wait_until(lambda: "End engine" in window_texts(imagej, STATUS), "its start", START_S)
    assert there.record()["pid"] != pid
    click_button(imagej, STATUS, "Close")
    wait_until(lambda: STATUS not in window_titles(imagej), "the end of the dialog")
    assert there.find() is not None


def test_about(imagej: ImageJ, tmp_path: Path) -> None:
    start_command(imagej, "About CellSeg")
    wait_for_window(imagej, ABOUT)
    text = imagej.python(
        "from ij import WindowManager\n"
        f"result = WindowManager.getWindow('{ABOUT}').getTextPanel().getText()"
    )
    for part in ("Nature Methods 18:100-106", "BSD-3-Clause", "ImageJ 1.54p", sys.executable):
        assert part in text
    imagej.python(f"from ij import WindowManager as W\nW.getWindow('{ABOUT}').close()")


def test_installing_asks_first(imagej: ImageJ, tmp_path: Path) -> None:
    start_command(imagej, "Install Engine")
    wait_for_window(imagej, INSTALL)
    texts = window_texts(imagej, INSTALL)
    assert "Now: another engine is used, which stays where it is." in texts
    take_picture(imagej, "fiji-install", tmp_path, (INSTALL,))
    set_field(imagej, INSTALL, 0, str(tmp_path / "none.whl"))
    click_button(imagej, INSTALL, "OK")
    wait_until(lambda: any("There is no file" in t for t in window_texts(imagej, "CellSeg")), "it")
    click_button(imagej, "CellSeg", "OK")
    config = imagej.folder / "jars" / "Lib" / "cellseg_jy" / "engine.json"
    assert json.loads(config.read_text())["engine_python"] == sys.executable
