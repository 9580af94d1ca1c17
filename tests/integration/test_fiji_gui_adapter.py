"""The jar for plain ImageJ: it gives scripts what their #@ lines ask for, as Fiji does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.fiji_host import (
    ABORTED,
    ImageJ,
    lay_out_imagej,
    plain_imagej,
    virtual_display,
)
from tests.integration.fiji_screen import (
    click_button,
    recorded_calls,
    set_field,
    wait_for_window,
    window_texts,
    window_titles,
)
from tests.integration.service import wait_until

TITLE = "Preview Cells"
# Takes the place of a script of that name: the jar's commands are fixed.
PROBE = """\
#@ String (label="Name of it", description="Any <text>", value="two words", persist=false) name
#@ String (label="Channel", value="auto", persist=false) channel
#@ String (label="Nuclear channel", value='none', persist=false) nuclear_channel
#@ String (label="Way", choices={"bilinear", "a, b"}, value="a, b", persist=false) way
#@ Double (label="Diameter [px]", value=0.25, min=0.0, max=10.0, stepSize=1) diameter_px
#@ Integer (label="Smallest area", value=15) min_area_px
#@ Boolean (label="Fill holes", value=true) fill_holes
#@ Boolean (label="Add", value=false) add
#@ File (label="Folder", style="directory") folder
#@ String (visibility=MESSAGE, value="Read this") message
#@ String (visibility=INVISIBLE, value="hidden") hidden
#@ ImagePlus image
#@output ImagePlus copy
from ij import IJ
from cellseg_jy import WIRE
seen = [name, channel, nuclear_channel, way, diameter_px, min_area_px, fill_holes, add, folder,
        hidden, image.getTitle()]
IJ.setProperty("seen", "|".join(str(value) for value in seen))
if name == "fail":
    raise ValueError("a fault of the script")
copy = image.duplicate()
copy.setTitle("copy")
"""
DEFAULTS = "two words|auto|none|a, b|0.25|15|True|False|None|hidden|img"


@pytest.fixture(scope="module")
def imagej(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageJ]:
    folder = lay_out_imagej(tmp_path_factory.mktemp("plain") / "ImageJ with spaces é")
    script = folder / "scripts" / "Plugins" / "CellSeg" / "Preview_Cells.py"
    script.write_text(PROBE, encoding="utf-8")
    (script.parent / "Segment_Folder.py").unlink()
    (script.parent / "Labels_To_ROIs.py").write_text("#@ LogService log\n", encoding="utf-8")
    with virtual_display() as display, plain_imagej(folder, display) as running:
        yield running


@pytest.fixture(autouse=True)
def _image(imagej: ImageJ) -> None:
    imagej.macro('close("*"); newImage("img", "8-bit", 8, 8, 1);')
    imagej.python("from ij import IJ\nIJ.setProperty('seen', None)")


def seen(imagej: ImageJ) -> str | None:
    text: str | None = imagej.python("from ij import IJ\nresult = IJ.getProperty('seen')")
    return text


def error_of(imagej: ImageJ, macro: str, title: str = "Macro Error") -> str:
    """Run a macro that ends with an error in a dialog; give the dialog's text."""
    ticket = imagej.start_macro(macro)
    wait_for_window(imagej, title)
    text = " ".join(window_texts(imagej, title))
    click_button(imagej, title, "OK")
    assert imagej.wait(ticket, 30)["result"] == ABORTED
    return text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (" ", DEFAULTS),
        ("name=x", DEFAULTS.replace("two words", "x")),
        ("name=[a [b] c]", DEFAULTS.replace("two words", "a [b] c")),
        ("nuclear_channel=3", DEFAULTS.replace("none", "3")),
        ("nuclear_channel=3 channel=2", DEFAULTS.replace("auto|none", "2|3")),
        ("add", DEFAULTS.replace("False", "True")),
        ("add=true fill_holes=false", DEFAULTS.replace("True|False", "False|True")),
        ("diameter_px=1e1 min_area_px=7.0", DEFAULTS.replace("0.25|15", "10.0|7")),
        ("folder=[/a b/c] name=", DEFAULTS.replace("None", "/a b/c").replace("two words", "")),
        ("hidden=h unknown=1", DEFAULTS.replace("hidden", "h")),
    ],
)
def test_values_of_a_macro(imagej: ImageJ, options: str, expected: str) -> None:
    titles = window_titles(imagej)
    assert imagej.macro(f'run("{TITLE}", "{options}"); return getTitle();') == "copy"
    assert seen(imagej) == expected
    assert sorted(window_titles(imagej)) == sorted([*titles, "copy"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("diameter_px=wide", 'Diameter [px] (diameter_px) is "wide"; it has to be a number.'),
        ("min_area_px=1.5", "it has to be a whole number."),
        ("min_area_px=99999999999", "it has to be a whole number."),
        ("add=perhaps", "it has to be true or false."),
    ],
)
def test_a_wrong_value_is_refused(imagej: ImageJ, options: str, sentence: str) -> None:
    assert sentence in error_of(imagej, f'run("{TITLE}", "{options}");')
    assert seen(imagej) is None


def test_the_dialog_asks_and_is_recorded(imagej: ImageJ) -> None:
    imagej.macro('run("Record...");')
    imagej.python(f"from ij import IJ\nIJ.doCommand({TITLE!r})")
    wait_for_window(imagej, TITLE)
    texts = window_texts(imagej, TITLE)
    for text in ("Name of it", "two words", "Diameter [px]", "0.25", "15", "Read this", "Add"):
        assert text in texts
    assert "hidden" not in texts
    set_field(imagej, TITLE, 0, "from the dialog")
    click_button(imagej, TITLE, "OK")
    wait_until(lambda: seen(imagej), "the script")
    expected = DEFAULTS.replace("two words", "from the dialog")
    assert seen(imagej) == expected
    wait_until(lambda: recorded_calls(imagej), "the recorder")
    (recorded,) = recorded_calls(imagej)
    imagej.python("from ij.plugin.frame import Recorder\nRecorder.getInstance().close()")
    assert "name=[from the dialog] channel=auto" in recorded

    imagej.macro('selectImage("img");')
    imagej.python("from ij import IJ\nIJ.setProperty('seen', None)")
    assert imagej.macro(recorded) is None
    assert seen(imagej) == expected


def test_cancel_runs_nothing(imagej: ImageJ) -> None:
    ticket = imagej.start_macro(f'run("{TITLE}"); return "went on";')
    wait_for_window(imagej, TITLE)
    click_button(imagej, TITLE, "Cancel")
    assert imagej.wait(ticket, 30)["result"] == ABORTED
    assert seen(imagej) is None


def test_a_wrong_entry_is_refused(imagej: ImageJ) -> None:
    imagej.python(f"from ij import IJ\nIJ.doCommand({TITLE!r})")
    wait_for_window(imagej, TITLE)
    set_field(imagej, TITLE, 3, "many")
    click_button(imagej, TITLE, "OK")
    sentence = 'Diameter [px] (diameter_px) is "many"; it has to be a number.'
    wait_until(lambda: sentence in window_texts(imagej, TITLE), "the error")
    click_button(imagej, TITLE, "OK")
    wait_until(lambda: TITLE not in window_titles(imagej), "the end of the dialog")
    assert seen(imagej) is None


def test_without_an_image_it_says_so(imagej: ImageJ) -> None:
    imagej.macro('close("*");')
    assert "no images open" in error_of(imagej, f'run("{TITLE}", "name=x");', "No Image")


def test_a_fault_of_the_script_ends_the_macro(imagej: ImageJ) -> None:
    assert imagej.macro(f'run("{TITLE}", "name=fail"); return "went on";') == ABORTED
    wait_for_window(imagej, "Exception")
    texts = imagej.python(
        "from ij import WindowManager\n"
        "window = WindowManager.getWindow('Exception')\n"
        "result = window.getTextPanel().getText()\n"
        "window.close()"
    )
    assert "ValueError: a fault of the script" in texts
    assert "Preview_Cells.py" in texts


def test_a_script_that_is_gone_is_named(imagej: ImageJ) -> None:
    text = error_of(imagej, 'run("Segment Folder", "x=1");')
    assert "Segment_Folder.py is missing" in text
    assert "cellseg install fiji" in text


def test_what_only_fiji_can_give_is_refused(imagej: ImageJ) -> None:
    text = error_of(imagej, 'run("Labels To ROIs", "x=1");')
    assert "LogService log, which only Fiji can give" in text


def test_without_jython_it_says_how_to_get_it(tmp_path: Path) -> None:
    folder = lay_out_imagej(tmp_path / "bare")
    for jar in (folder / "plugins" / "jars").iterdir():
        jar.unlink()
    with virtual_display() as display, plain_imagej(folder, display) as bare:
        assert "CellSeg needs Jython" in error_of(bare, 'run("About CellSeg", "x=1");')
        bare.python("from ij import IJ\nIJ.doCommand('About CellSeg')")
        wait_for_window(bare, "Download Jython.jar?")  # ImageJ's own offer
        click_button(bare, "Download Jython.jar?", "Cancel")
        wait_for_window(bare, "About CellSeg")
        texts = window_texts(bare, "About CellSeg")
    assert any("CellSeg needs Jython" in text for text in texts)
