"""Segment Cells when something is wrong: one clear sentence, the macro ends, the next call works.

Most run with the made-up models of tests/integration/service_fake.py in a real service.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.integration.fiji_host import ABORTED, ImageJ, lay_out, mini_fiji
from tests.integration.fiji_runs import (
    SETTINGS,
    close_all,
    crop,
    fiji_with_engine,
    saved_labels,
    titles,
)
from tests.integration.service import Place, ask, wait_until
from tests.integration.service_fake import N_MANY

SLOW = "model=slow iterations=1500"  # half a minute, if nobody stops it
ESCAPE = "from ij import IJ\nfrom java.awt.event import KeyEvent\nIJ.setKeyDown(KeyEvent.VK_ESCAPE)"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ImageJ, Place]]:
    with fiji_with_engine(tmp_path_factory.mktemp("fiji"), fake=True) as pair:
        yield pair


@pytest.fixture
def fiji(both: tuple[ImageJ, Place]) -> Iterator[ImageJ]:
    yield both[0]
    close_all(both[0])


@pytest.fixture
def engine(both: tuple[ImageJ, Place]) -> Place:
    return both[1]


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, crop(0, 0, 50, 60))
    return path


def fails(fiji: ImageJ, macro: str) -> str:
    """Run a macro that must not get beyond its failing command; gives what was printed."""
    before = len(fiji.printed)
    assert fiji.macro(macro + ' return "went on";') == ABORTED
    return fiji.printed[before:]


def is_running(engine: Place) -> bool:
    return bool(ask(engine.find(), "GET", "/v1/status")[1]["running"])


# --- what a macro says ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "diameter", "excludes"),
    [
        ("model=fake", 0.0, False),
        ("model=fake diameter_px=12.5 exclude_edge_objects", 12.5, True),
        ("model=fake exclude_edge_objects=true diameter_px=[7]", 7.0, True),
        ("model=fake exclude_edge_objects=false", 0.0, False),
    ],
)
def test_omitted_and_bare_words_take_effect_without_a_dialog(
    fiji: ImageJ, cells: Path, options: str, diameter: float, excludes: bool
) -> None:
    info = fiji.macro(
        f'open("{cells}"); run("Segment Cells", "{options}");'
        'selectImage("cells.tif-labels"); return getMetadata("Info");'
    )
    assert info, fiji.printed
    settings = json.loads(info[info.index("{\n") :])["settings"]
    assert settings["diameter_px"] == diameter
    assert settings["exclude_edge_objects"] is excludes


def test_a_word_inside_another_is_not_taken_for_it(fiji: ImageJ, cells: Path) -> None:
    info = fiji.macro(
        f'open("{cells}"); run("Segment Cells", "model=fake nuclear_channel=2");'
        'selectImage("cells.tif-labels"); return getMetadata("Info");'
    )
    assert info, fiji.printed
    settings = json.loads(info[info.index("{\n") :])["settings"]
    assert (settings["channel"], settings["nuclear_channel"]) == ("auto", "2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("diametre_px=30", "There is no parameter called diametre_px. Known are: add_to_roi"),
        ("invert=maybe", "invert is maybe; allowed is one of auto, yes, no."),
        ("exclude_edge_objects=perhaps", "exclude_edge_objects is perhaps; allowed is true or"),
        ("model", "model is empty; allowed is a text, as in model=value."),
        ("image=[other é.tif]", "No open image is called other é.tif. Open are: cells.tif"),
        ("model=fake diameter_px=-3", "diameter_px"),
    ],
)
def test_wrong_words_are_named(fiji: ImageJ, cells: Path, options: str, words: str) -> None:
    said = fails(fiji, f'open("{cells}"); run("Segment Cells", "{options}");')
    assert words in said
    assert "Traceback" not in said
    assert titles(fiji) == []  # ImageJ drops its images when a headless macro fails


def test_an_image_can_be_named(fiji: ImageJ, cells: Path, tmp_path: Path) -> None:
    other = tmp_path / "two words.tif"
    tifffile.imwrite(other, crop(0, 0, 30, 40))
    fiji.macro(
        f'open("{other}"); open("{cells}");run("Segment Cells", "model=fake image=[{other.name}]");'
    )
    assert "two words.tif-labels" in titles(fiji)
    assert "cells.tif-labels" not in titles(fiji)


def test_the_image_of_an_earlier_script_is_not_taken_for_the_current_one(
    fiji: ImageJ, cells: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, crop(0, 0, 30, 40))
    leaves_behind = tmp_path / "Leaves_Behind.py"
    leaves_behind.write_text(
        f"from ij import IJ\nIJ.openImage({str(other)!r}).show()\n", encoding="utf-8"
    )
    for _ in range(4):  # whichever thread of the pool comes next
        fiji.script_file(leaves_behind)
        result = fiji.macro(
            f'open("{cells}"); run("Segment Cells", "model=fake");'
            'selectImage("cells.tif-labels"); w = getWidth(); close("*"); return "" + w;'
        )
        assert result == "60", fiji.printed
        close_all(fiji)


def test_no_image_open(fiji: ImageJ) -> None:
    said = fails(fiji, 'run("Segment Cells", "model=fake");')
    assert "No image is open. Open the image to segment first." in said


# --- what the engine says -------------------------------------------------------------------------


def test_a_selection_outside_the_image_is_refused(fiji: ImageJ, cells: Path) -> None:
    fiji.macro(f'open("{cells}");')
    fiji.python(
        "from ij import WindowManager\nWindowManager.getImage('cells.tif').setRoi(-50, -50, 20, 20)"
    )
    printed = fails(fiji, 'selectImage("cells.tif"); run("Segment Cells", "model=fake");')
    assert "The selection lies outside the image cells.tif. Move it into the image" in printed
    assert "cells.tif-labels" not in titles(fiji)


def test_a_refusal_comes_in_the_engines_words(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "nan.tif"
    tifffile.imwrite(path, np.zeros((20, 20), np.float32))
    said = fails(fiji, f'open("{path}"); run("Segment Cells", "model=fake tile_overlap=0.9");')
    assert "tile_overlap" in said


def test_a_fault_of_the_engine_is_told(fiji: ImageJ, cells: Path) -> None:
    said = fails(fiji, f'open("{cells}"); run("Segment Cells", "model=broken");')
    assert "KeyError: 'made up'" in said
    assert titles(fiji) == []


def test_more_than_65535_objects_come_in_32_bits(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "many.tif"
    tifffile.imwrite(path, np.zeros((280, 260), np.uint8))
    fiji.macro(f'open("{path}"); run("Segment Cells", "model=many");')
    labels = saved_labels(fiji, "many.tif-labels", tmp_path)
    assert labels.dtype == np.float32
    expected = np.arange(280 * 260).reshape(280, 260) % (N_MANY + 1)
    np.testing.assert_array_equal(labels, expected)


# --- while it runs --------------------------------------------------------------------------------


def test_escape_cancels_at_the_engine_too(fiji: ImageJ, engine: Place, cells: Path) -> None:
    ticket = fiji.start_macro(f'open("{cells}"); run("Segment Cells", "{SLOW}"); return "went on";')
    wait_until(lambda: is_running(engine), "the job")
    fiji.python(ESCAPE)
    assert fiji.wait(ticket)["result"] == ABORTED
    wait_until(lambda: not is_running(engine), "the end of the job")
    assert "CellSeg: The segmentation was cancelled." in fiji.printed
    assert "cells.tif-labels" not in titles(fiji)
    assert engine.exchanged() == []
    again = f'open("{cells}"); run("Segment Cells", "model=fake"); return "again";'
    assert fiji.macro(again) == "again", fiji.printed


def test_an_image_closed_meanwhile_still_gives_its_labels(
    fiji: ImageJ, engine: Place, cells: Path
) -> None:
    text = 'run("Segment Cells", "model=slow iterations=60"); return "went on";'
    ticket = fiji.start_macro(f'open("{cells}"); {text}')
    wait_until(lambda: is_running(engine), "the job")
    fiji.python(
        "from ij import WindowManager\n"
        "image = WindowManager.getImage('cells.tif')\nimage.changes = False\nimage.close()"
    )
    assert fiji.wait(ticket)["result"] == "went on", fiji.printed
    assert "cells.tif was closed meanwhile, so no outlines were drawn." in fiji.printed
    assert titles(fiji) == ["cells.tif-labels"]


def test_nothing_is_left_in_the_exchange_folders(fiji: ImageJ, engine: Place, cells: Path) -> None:
    assert fiji.macro(f'open("{cells}"); run("Segment Cells", "model=fake"); return "ok";') == "ok"
    assert engine.exchanged() == []


# --- the engine itself ----------------------------------------------------------------------------


def test_an_engine_killed_in_the_middle_is_told_and_the_next_call_starts_one(
    tmp_path: Path, cells: Path
) -> None:
    with fiji_with_engine(tmp_path / "fiji", fake=True) as (fiji, engine):
        run = f'open("{cells}"); run("Segment Cells", "{SLOW}"); return "went on";'
        ticket = fiji.start_macro(run)
        wait_until(lambda: is_running(engine), "the job")
        pid = engine.record()["pid"]
        os.kill(pid, signal.SIGKILL)
        assert fiji.wait(ticket)["result"] == ABORTED
        assert f"(process {pid}) ended, or the connection to it broke, before there" in fiji.printed
        assert "Try again: the next call starts a new engine" in fiji.printed
        assert titles(fiji) == []
        again = f'open("{cells}"); run("Segment Cells", "{SETTINGS}"); return "ok";'
        assert fiji.macro(again) == "ok", fiji.printed
        assert engine.record()["pid"] != pid
        assert "cells.tif-labels" in titles(fiji)


def test_without_an_engine_the_sentence_names_the_command(tmp_path: Path, cells: Path) -> None:
    environment = {**os.environ, "CELLSEG_RUNTIME": str(tmp_path / "runtime")}
    environment.pop("CELLSEG_ENGINE_PYTHON", None)
    application = lay_out(tmp_path / "Fiji", engine_python=None)
    config = application / "jars/Lib/cellseg_jy/engine.json"
    segment = f'open("{cells}"); run("Segment Cells", "");'
    with mini_fiji(application, environment) as fiji:
        said = fails(fiji, segment)
        assert "The CellSeg engine is not installed." in said
        assert "Plugins > CellSeg > Install Engine" in said
        assert "cellseg install fiji DIR" in said
        for content, words in [
            ("{", "does not say where the CellSeg engine is"),
            ('{"engine_python": "/no/such/python"}', "is not there any more: /no/such/python"),
            (f'{{"engine_python": "{__file__}"}}', "cannot be started"),
        ]:
            config.write_text(content, encoding="utf-8")
            said = fails(fiji, segment)
            assert words in said
            assert "cellseg install fiji DIR" in said
        assert titles(fiji) == []
