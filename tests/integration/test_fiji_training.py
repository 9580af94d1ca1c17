"""The human in the loop inside Fiji: next image, corrected ROIs, a new model; what goes wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile

from cellseg_engine.io.rois import encode_rois
from cellseg_engine.nets.card import ModelCard, write_weights
from cellseg_engine.train.folder import RECORD, read_folder
from cellseg_engine.train.part import Part
from cellseg_engine.zoo.store import list_models, models_folder
from tests.integration.cli import listing
from tests.integration.fiji_host import ABORTED, ImageJ
from tests.integration.fiji_runs import close_all, fiji_with_engine, titles
from tests.integration.service import Place, wait_until
from tests.integration.training import disks

ESCAPE = "from ij import IJ\nfrom java.awt.event import KeyEvent\nIJ.setKeyDown(KeyEvent.VK_ESCAPE)"
LONG = "epochs=5000"
SQUARE, DRAWN = "makeRectangle(5, 5, 9, 9);", 'run("Add Selection...");'
SIDE = 80


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ImageJ, Place]]:
    with fiji_with_engine(tmp_path_factory.mktemp("fiji")) as pair:
        yield pair


@pytest.fixture
def fiji(both: tuple[ImageJ, Place]) -> Iterator[ImageJ]:
    yield both[0]
    close_all(both[0])


@pytest.fixture
def engine(both: tuple[ImageJ, Place]) -> Place:
    return both[1]


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """Give a folder of three images; what a person would draw lies outside of it."""
    folder = tmp_path / "plate 1"
    folder.mkdir()
    (tmp_path / "truth").mkdir()
    for number in range(3):
        image, labels = disks(SIDE, number, radius=7.0)
        tifffile.imwrite(folder / f"{number}.tif", image, imagej=True)
        (tmp_path / "truth" / f"{number}.zip").write_bytes(
            encode_rois(labels.astype(np.int32), "YX")
        )
    return folder


@pytest.fixture
def tuned() -> Iterator[None]:
    """Let there be a model called tuned, whose card says that it is a fine-tune."""
    folder = models_folder() / "tuned"
    folder.mkdir(parents=True)
    card = ModelCard("tuned", 2, 17.0, 17.0, start_name="nuclei", start_sha256="ab" * 32)
    write_weights(folder / "0.safetensors", card, {"none": np.zeros(1, np.float32)})
    yield
    shutil.rmtree(folder)


def training(plate: Path) -> Path:
    return plate.with_name("my cells")


def truth(plate: Path, number: int) -> Path:
    return plate.with_name("truth") / f"{number}.zip"


def add(plate: Path, number: int) -> str:
    """Give the macro line of a person who corrected everything."""
    archive = f"source=archive archive=[{truth(plate, number)}]"
    return f'run("Add To Training Set", "training_folder=[{training(plate)}] {archive}");'


def next_image(plate: Path, more: str = "") -> str:
    folders = f"image_folder=[{plate}] training_folder=[{training(plate)}]"
    return f'run("Next Image", "{folders} {more}");'


def said(fiji: ImageJ, macro: str) -> str:
    """Run a macro to its end and give what was printed."""
    before = len(fiji.printed)
    assert fiji.macro(macro + ' return "done";') == "done", fiji.printed[before:]
    return fiji.printed[before:]


def fails(fiji: ImageJ, macro: str) -> str:
    """Run a macro that must not get beyond its failing command; gives what was printed."""
    before = len(fiji.printed)
    assert fiji.macro(macro + ' return "went on";') == ABORTED
    return fiji.printed[before:]


def models() -> list[str]:
    return [entry.name for entry in list_models()]


# --- the loop ------------------------------------------------------------------------------------


def test_the_loop_is_walked_without_leaving_fiji(fiji: ImageJ, plate: Path) -> None:
    text = said(fiji, next_image(plate))
    assert titles(fiji) == ["0.tif"]
    assert "objects by nuclei, diameter" in text
    assert "0 of 3 images are in the training set." in text
    text = said(fiji, add(plate, 0))
    first = read_folder(training(plate))
    (image,) = first.images
    assert (image.title, image.source, image.model) == ("0.tif", str(plate / "0.tif"), "nuclei")
    found = fiji.python(
        "from ij import WindowManager\n"
        "result = len(WindowManager.getImage('0.tif').getOverlay().toArray())"
    )
    edits = image.edits
    assert edits.kept + edits.changed + edits.drawn == image.objects
    assert edits.kept + edits.changed + edits.removed == found > 0
    assert f"0.tif: {image.objects} objects (" in text
    assert f"The training set has 1 images with {image.objects} objects now." in text

    text = said(fiji, 'run("Fine Tune Model", "name=round-1 epochs=1");')
    assert f"was trained from nuclei on 1 images with {image.objects} objects" in text
    assert "round-1" in models()
    assert fiji.python("from ij import IJ\nresult = IJ.getProperty('cellseg_trained_model')") == (
        "round-1"
    )

    text = said(fiji, next_image(plate))
    assert titles(fiji) == ["1.tif"], "the one that is done was closed"
    told = re.search(r"objects by round-1, diameter (\d+\.\d) px\.", text)
    assert told, "estimated by the model of the folder"
    assert 0.7 < float(told[1]) / image.median_diameter_px < 1.4
    said(fiji, add(plate, 1) + next_image(plate))
    text = fails(fiji, next_image(plate))
    assert "2.tif is the only image that is not in the training set, and it is open." in text
    said(fiji, f'open("{plate / "2.tif"}");' + add(plate, 2))
    assert [image.title for image in read_folder(training(plate)).images] == [
        "0.tif", "1.tif", "2.tif",
    ]  # fmt: skip
    text = fails(fiji, next_image(plate))
    assert "All 3 images of the folder are in the training set." in text
    masks = tifffile.imread(training(plate) / "1_masks.tif")
    np.testing.assert_array_equal(masks, disks(SIDE, 1, radius=7.0)[1])
    np.testing.assert_array_equal(
        tifffile.imread(training(plate) / "1_img.tif"), tifffile.imread(plate / "1.tif")
    )


def test_what_the_model_found_can_be_taken_as_it_is(fiji: ImageJ, plate: Path) -> None:
    """Headless, the overlay has the ROIs; a macro may have changed them."""
    folder = training(plate)
    said(fiji, next_image(plate) + f'run("Add To Training Set", "training_folder=[{folder}]");')
    (image,) = read_folder(folder).images
    assert image.edits.kept == image.objects > 0
    assert (image.edits.changed, image.edits.drawn, image.edits.removed) == (0, 0, 0)


def test_another_image_comes_when_one_is_passed_over(fiji: ImageJ, plate: Path) -> None:
    said(fiji, next_image(plate))
    assert titles(fiji) == ["0.tif"]
    fiji.macro('selectImage("0.tif");')
    said(fiji, next_image(plate, "model=nuclei diameter_px=14"))
    assert titles(fiji) == ["0.tif", "1.tif"], "what is not done stays open"


def test_an_image_is_done_with_a_part_that_was_cut_out(fiji: ImageJ, plate: Path) -> None:
    said(fiji, next_image(plate))
    cut = 'makeRectangle(20, 16, 60, 64); run("Duplicate...", "title=part");'
    said(fiji, f'{cut} run("Add To Training Set", "training_folder=[{training(plate)}]");')
    (image,) = read_folder(training(plate)).images
    assert (image.title, image.source) == ("part", str(plate / "0.tif"))
    assert image.edits.kept == image.objects > 0, "the overlay was cut out with it"
    text = said(fiji, next_image(plate))
    assert "1 of 3 images are in the training set." in text
    assert titles(fiji) == ["1.tif", "part"], "only what was opened here is closed"


def test_only_a_rectangle_is_annotated(fiji: ImageJ, plate: Path) -> None:
    said(fiji, next_image(plate))
    select = 'selectImage("0.tif"); makeRectangle(20, 16, 60, 64);'
    options = f"training_folder=[{training(plate)}] only_selection"
    text = said(fiji, f'{select} run("Add To Training Set", "{options}");')
    (image,) = read_folder(training(plate)).images
    assert image.part == Part(20, 16, 60, 64)
    assert image.edits.kept == image.objects > 0
    assert f"0.tif: {image.objects} objects in 60 x 64 px (" in text
    np.testing.assert_array_equal(
        tifffile.imread(training(plate) / "0_img.tif"), tifffile.imread(plate / "0.tif")
    )
    assert tifffile.imread(training(plate) / "0_masks.tif").min() == -1
    text = said(fiji, next_image(plate))
    assert "1 of 3 images are in the training set." in text
    assert titles(fiji) == ["1.tif"]


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ('run("Select None");', "only_selection needs a rectangle, and nothing is selected in 0."),
        ("makeOval(9, 9, 30, 30);", "needs a rectangle, and no rectangle is selected in 0.tif."),
        (SQUARE, "needs a rectangle, and the ROI of an object is selected in 0.tif."),
        (
            "makeRectangle(60, 60, 20, 20);",
            "None of the ROIs reaches into the rectangle that was selected in 0.tif.",
        ),
    ],
    ids=["nothing", "oval", "object", "elsewhere"],
)
def test_what_is_no_rectangle_to_annotate(
    fiji: ImageJ, plate: Path, select: str, words: str
) -> None:
    macro = f'open("{plate / "0.tif"}"); {SQUARE} {DRAWN} {select}'
    options = f"training_folder=[{training(plate)}] only_selection"
    assert words in fails(fiji, f'{macro} run("Add To Training Set", "{options}");')
    assert not training(plate).exists()


def test_overlapping_rois_are_settled_and_it_is_said(fiji: ImageJ, plate: Path) -> None:
    macro = f"""open("{plate / "0.tif"}");
    makeRectangle(10, 10, 20, 20); run("Add Selection...");
    makeRectangle(25, 10, 20, 20); run("Add Selection...");
    makeRectangle(12, 12, 4, 4); run("Add Selection..."); run("Select None");"""
    text = said(fiji, macro + f'run("Add To Training Set", "training_folder=[{training(plate)}]");')
    assert "ROIs overlap in 100 px, each of which went to the ROI with the nearest centre." in text
    assert "1 ROIs were left out because others cover more than 75 % of them" in text
    assert read_folder(training(plate)).images[0].objects == 2


# --- what is refused, each with one sentence and nothing written ---------------------------------


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        ("", "There are no ROIs in the overlay of the image."),
        (
            f'makeLine(1, 1, 20, 20); Roi.setName("a line"); {DRAWN}',
            "1 of the ROIs are no areas (lines, points, texts): a line.",
        ),
        (
            f'makePoint(9, 9); Roi.setName("spot"); {DRAWN} {SQUARE} {DRAWN}',
            "are no areas (lines, points, texts): spot.",
        ),
        (
            f'{SQUARE} Roi.setPosition(3); Roi.setName("other"); {DRAWN}',
            "The ROI other has a place on other slices or frames than the one of 0.tif.",
        ),
        (
            f'{SQUARE} {DRAWN} run("RGB Color");',
            "0.tif is an RGB image; the training set takes grey images.",
        ),
        (
            f'run("Add Slice"); {SQUARE} {DRAWN}',
            "0.tif is a stack of 2 planes; the training set takes single planes.",
        ),
    ],
    ids=["none", "line", "point", "other slice", "RGB", "stack"],
)
def test_what_cannot_be_added(fiji: ImageJ, plate: Path, draw: str, words: str) -> None:
    macro = f'open("{plate / "0.tif"}"); {draw}'
    text = fails(
        fiji, f'{macro} run("Add To Training Set", "training_folder=[{training(plate)}]");'
    )
    assert words in text
    assert not training(plate).exists()


def test_folders_that_are_no_training_folders(fiji: ImageJ, plate: Path, engine: Place) -> None:
    before = listing(plate)
    macro = f'open("{plate / "0.tif"}"); makeRectangle(5, 5, 9, 9); run("Add Selection...");'
    text = fails(fiji, f'{macro} run("Add To Training Set", "training_folder=[{plate}]");')
    assert "is no training folder: it has other files, such as 0.tif" in text
    text = fails(fiji, f'run("Fine Tune Model", "training_folder=[{plate}]");')
    assert f"is no training folder: there is no {RECORD} in it." in text
    assert listing(plate) == before
    assert engine.exchanged() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            "name=nuclei",
            "A model named nuclei is there already. Give another name (on the command line: --name",
        ),
        ("name=../evil", "'../evil' cannot name a model"),
        ("start_from=nothing", "There is no model 'nothing'"),
        (
            "start_from=tuned",
            "Start from nuclei again, with all images annotated so far (on the command line: --",
        ),
        ("epochs=0", "epochs is 0; it must be 1 or more."),
        ("colour=red", "There is no parameter called colour."),
        ("", "No image in {folder} has 5 objects, which the recipe cellpose2-online needs"),
    ],
)
@pytest.mark.usefixtures("tuned")
def test_what_cannot_be_trained(fiji: ImageJ, plate: Path, options: str, words: str) -> None:
    folder = training(plate)
    known = models()
    said(fiji, f'open("{plate / "0.tif"}");' + add(plate, 0))
    if not options:
        labels = disks(SIDE, 0, radius=7.0)[1]
        few = np.where(labels <= 3, labels, 0).astype(np.int32)
        truth(plate, 0).write_bytes(encode_rois(few, "YX"))
        said(fiji, add(plate, 0))
    before = listing(folder)
    text = fails(fiji, f'run("Fine Tune Model", "training_folder=[{folder}] {options}");')
    assert words.format(folder=folder) in text
    assert listing(folder) == before
    assert models() == known


def test_a_training_folder_without_images_yet(fiji: ImageJ, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"format": 1, "images": [], "models": []}')
    text = fails(fiji, f'run("Fine Tune Model", "training_folder=[{tmp_path}]");')
    assert f"There are no images in the training folder {tmp_path} yet." in text


@pytest.mark.parametrize("how", ["escape", "engine killed"])
def test_a_training_in_the_middle_leaves_no_trace(
    fiji: ImageJ, engine: Place, plate: Path, how: str
) -> None:
    said(fiji, f'open("{plate / "0.tif"}");' + add(plate, 0))
    folder, known = training(plate), listing(models_folder())
    before = listing(folder)
    start = len(fiji.printed)
    ticket = fiji.start_macro(
        f'run("Fine Tune Model", "training_folder=[{folder}] name=never {LONG}"); return "went on";'
    )
    wait_until(lambda: len(list(folder.rglob("*"))) > len(before), "the training", 120)
    if how == "escape":
        fiji.python(ESCAPE)
    else:
        os.kill(int(engine.record()["pid"]), signal.SIGKILL)
    assert fiji.wait(ticket)["result"] == ABORTED
    expected = {
        "escape": "The training was cancelled.",
        "engine killed": "ended, or the connection to it broke, before there was a result.",
    }
    assert expected[how] in fiji.printed[start:]
    wait_until(lambda: listing(folder) == before, "cleaning up", 60)
    assert listing(models_folder()) == known
    wait_until(lambda: not _trainers(), "the end of the training", 60)
    assert "0 of 3" not in said(fiji, next_image(plate)), "the next call works"


def _trainers() -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if "training_child" in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(int(process.info["pid"]))
    return found


def test_commands_need_a_folder_once(fiji: ImageJ, plate: Path) -> None:
    fiji.python(
        "from ij import IJ\n"
        "for name in ('training_folder', 'image_folder'):\n"
        "    IJ.setProperty('cellseg_last_' + name, None)"
    )
    text = fails(fiji, 'run("Fine Tune Model", "name=x");')
    assert "No training folder was given. Set training_folder." in text
    said(fiji, next_image(plate))
    record: dict[str, Any] = {}
    said(fiji, f'run("Add To Training Set", "archive=[{truth(plate, 0)}]");')
    record = json.loads((training(plate) / RECORD).read_text(encoding="utf-8"))
    assert [image["title"] for image in record["images"]] == ["0.tif"]
    said(fiji, 'run("Next Image", "model=auto");')
    assert titles(fiji) == ["1.tif"]
