"""A training folder: what goes into it, what is refused, and the models made from it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from roifile import ROI_TYPE, ImagejRoi

from cellseg_engine.errors import CellSegError, ImageError, ReadError, SettingsError, WriteError
from cellseg_engine.io.roi_archive import make_archive
from cellseg_engine.io.rois import encode_rois
from cellseg_engine.nets.card import ModelCard, write_weights
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.train import folder as folder_module
from cellseg_engine.train.arithmetic import fast_precision
from cellseg_engine.train.edits import Edits, count_edits
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.finetune import FineTuning, check_fine_tuning, fine_tune, newest_model
from cellseg_engine.train.folder import (
    RECORD,
    Correction,
    add_image,
    read_folder,
    read_or_begin,
)
from cellseg_engine.train.part import Part
from cellseg_engine.train.sources import find_sources
from cellseg_engine.zoo.store import find_model, list_models, models_folder
from tests.integration.cli import disks, listing
from tests.integration.training import small_network

SIZE = (96, 120)


def squares(n: int = 6, side: int = 14, shape: tuple[int, int] = SIZE) -> np.ndarray:
    """Labels: squares in rows."""
    labels = np.zeros(shape, np.int32)
    for number in range(n):
        top, left = 8 + 24 * (number // 5), 4 + 22 * (number % 5)
        labels[top : top + side, left : left + side] = number + 1
    return labels


def polygon(name: str, points: list[tuple[int, int]], **values: Any) -> ImagejRoi:
    """A ROI through (x, y) points."""
    roi = ImagejRoi.frompoints(points, name=name)
    roi.roitype = values.pop("roitype", ROI_TYPE.POLYGON)
    for key, value in values.items():
        setattr(roi, key, value)
    return roi


def square(name: str, left: int, top: int, side: int = 10, **values: Any) -> ImagejRoi:
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
    return polygon(name, corners, **values)


def archive(*rois: ImagejRoi) -> bytes:
    return make_archive([(f"{n}.roi", roi.tobytes()) for n, roi in enumerate(rois)])


def correction(labels: np.ndarray | None = None, **values: Any) -> Correction:
    labels = squares() if labels is None else labels
    pixels = disks(labels.shape, seed=int(labels.max()))
    given = {"pixels": pixels, "axes": "YX", "rois": encode_rois(labels, "YX"), **values}
    return Correction(**given)


# --- adding --------------------------------------------------------------------------------------


def test_what_is_added_can_be_trained_on_and_says_where_it_is_from(tmp_path: Path) -> None:
    folder = tmp_path / "my cells"
    given = correction(title="plate 1/A01.tif", source="/data/A01.tif", model="nuclei",
                       pixel_size_um={"Y": 0.5, "X": 0.25})  # fmt: skip
    image, remarks, content = add_image(folder, given)
    assert remarks == ()
    assert (image.name, image.objects, image.source) == ("plate 1_A01", 6, "/data/A01.tif")
    assert image.edits == Edits(drawn=6)
    assert content.images == (image,)
    assert read_folder(folder) == content
    assert sorted(path.name for path in folder.iterdir()) == [
        RECORD, "plate 1_A01_img.tif", "plate 1_A01_masks.tif",
    ]  # fmt: skip
    with tifffile.TiffFile(folder / "plate 1_A01_img.tif") as file:
        np.testing.assert_array_equal(file.asarray(), given.pixels)
        assert file.is_imagej
        assert file.pages[0].tags["XResolution"].value == (4, 1)  # type: ignore[union-attr]
    np.testing.assert_array_equal(tifffile.imread(folder / "plate 1_A01_masks.tif"), squares())
    assert content.median_diameter_px == pytest.approx(14 * 2 / np.pi**0.5, abs=1e-3)
    (source,) = find_sources([folder]).sources
    assert (source.name, source.annotation_kind) == ("plate 1_A01", "labels")


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_every_kind_of_pixel_stays_what_it_is(tmp_path: Path, dtype: str) -> None:
    pixels = disks(SIZE).astype(dtype)
    add_image(tmp_path / "t", correction(pixels=pixels))
    read = tifffile.imread(tmp_path / "t/image_img.tif")
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)


def test_channels_are_kept_and_the_shown_one_does_not_matter(tmp_path: Path) -> None:
    pixels = np.stack([disks(SIZE), disks(SIZE, seed=1)], axis=-1)
    rois = archive(square("a", 5, 5, position=2), square("b", 40, 40, c_position=2, z_position=1))
    add_image(tmp_path / "t", correction(pixels=pixels, axes="YXC", rois=rois))
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "t/image_img.tif"), np.moveaxis(pixels, -1, 0)
    )
    assert tifffile.imread(tmp_path / "t/image_masks.tif").max() == 2


def test_other_images_get_other_names_and_the_same_one_is_replaced(tmp_path: Path) -> None:
    add_image(tmp_path, correction(squares(5), title="a.tif"))
    _, _, content = add_image(tmp_path, correction(squares(6), title="A.tif"))
    assert [image.name for image in content.images] == ["a", "A_2"]
    again = correction(squares(5, side=8), pixels=disks(SIZE, seed=5), title="a.tif")
    image, remarks, content = add_image(tmp_path, again)
    assert remarks == ("a.tif was in the training set already and was replaced.",)
    assert [image.name for image in content.images] == ["A_2", "a"]
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / f"{image.name}_masks.tif"), squares(5, side=8)
    )


def test_titles_that_end_like_our_files_are_found_again(tmp_path: Path) -> None:
    for n, title in enumerate(("000_img.tif", "000.tif")):
        add_image(tmp_path, correction(pixels=disks(SIZE, seed=n), title=title))
    assert [image.name for image in read_folder(tmp_path).images] == ["000", "000_2"]
    sources = find_sources([tmp_path], annotations="labels").sources
    assert [(one.image.name, one.annotation.name) for one in sources] == [
        ("000_img.tif", "000_masks.tif"),
        ("000_2_img.tif", "000_2_masks.tif"),
    ]


def test_a_part_is_annotated_and_the_rest_is_not(tmp_path: Path) -> None:
    labels = squares(10)
    given = correction(labels, predicted=encode_rois(labels, "YX"), part=Part(10, -5, 50, 40))
    image, remarks, content = add_image(tmp_path, given)
    assert image.part == Part(10, 0, 50, 35)
    assert remarks == ("4 ROIs outside the selected rectangle were left out.",)
    assert (image.objects, image.edits) == (6, Edits(kept=6))
    assert read_folder(tmp_path) == content
    masks = tifffile.imread(tmp_path / f"{image.name}_masks.tif")
    assert masks.dtype == np.int32
    assert set(np.unique(masks)) == {-1, 0, 1, 2, 3, 6, 7, 8}
    np.testing.assert_array_equal(masks[:35, 10:60], labels[:35, 10:60])
    np.testing.assert_array_equal(masks == 6, labels == 6, "whole, not cut at the rectangle")
    assert content.median_diameter_px == pytest.approx(14 * 2 / np.pi**0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("../../evil.tif", "_.._evil"), ("a:b*c?.ome.tif", "a_b_c_"), ("  .tif", "tif"),
        ("cells_masks.tif", "cells_masks"), ("000_img.tif", "000"), ("x_img_IMG.png", "x"),
        ("x" * 200, "x" * 80), ("", "image"),
    ],
)  # fmt: skip
def test_titles_become_safe_names(tmp_path: Path, title: str, name: str) -> None:
    image, _, _ = add_image(tmp_path / "t", correction(title=title))
    assert image.name == name
    assert {path.parent for path in (tmp_path / "t").rglob("*")} == {tmp_path / "t"}
    assert len(find_sources([tmp_path / "t"]).sources) == 1


def test_overlaps_go_to_the_nearest_centre_and_covered_rois_go(tmp_path: Path) -> None:
    rois = archive(square("left", 10, 10, 20), square("right", 26, 10, 20), square("in", 12, 12, 4))
    image, remarks, _ = add_image(tmp_path, correction(rois=rois))
    assert image.objects == 2
    assert remarks == (
        "1 ROIs were left out because others cover more than 75 % of them: in.",
        "ROIs overlap in 80 px, each of which went to the ROI with the nearest centre.",
    )
    masks = tifffile.imread(tmp_path / "image_masks.tif")
    assert masks[20, 26:30].tolist() == [1, 1, 2, 2]


# --- refusals: one sentence, and nothing is written ----------------------------------------------

LINE = polygon("a line", [(1, 1), (9, 9)], roitype=ROI_TYPE.LINE)
POINT = polygon("a point", [(5, 5)], roitype=ROI_TYPE.POINT)


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ({"rois": archive()}, ReadError, "The archive of cells holds no ROIs of ImageJ."),
        ({"rois": b"junk"}, ReadError, "is damaged or holds no ROIs"),
        ({"rois": archive(square("s", 3, 3), LINE)}, TrainingDataError,
         "The ROI a line has no area (lines, points or texts)."),
        ({"rois": archive(LINE, POINT)}, TrainingDataError, "2 ROIs a line, a point have no area"),
        ({"rois": archive(square("s", 3, 3, z_position=2))}, TrainingDataError,
         "The ROI s has a place on other slices or frames than the one of cells."),
        ({"rois": archive(square("s", 3, 3, position=7))}, TrainingDataError, "on other slices"),
        ({"rois": archive(square("s", 3, 3, t_position=2))}, TrainingDataError, "on other slices"),
        ({"rois": archive(square("far", 500, 500))}, TrainingDataError,
         "The ROI far has no pixel in cells."),
        ({"pixels": np.zeros((3, *SIZE), np.uint8), "axes": "ZYX"}, ImageError,
         "cells is a stack of 3 planes; the training set takes single planes."),
        ({"pixels": np.zeros((2, 3, *SIZE), np.uint8), "axes": "TCYX"}, ImageError, "of 2 planes"),
        ({"pixels": np.zeros((*SIZE, 3), np.uint8), "axes": "YXS"}, ImageError,
         "cells is an RGB image; the training set takes grey images."),
    ],
)  # fmt: skip
def test_what_cannot_be_added(
    tmp_path: Path, values: dict[str, Any], kind: type[CellSegError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        add_image(tmp_path / "t", correction(**{"title": "cells", **values}))
    assert words in caught.value.message
    assert caught.value.hint or kind is ReadError
    assert list(tmp_path.iterdir()) == []


def test_only_training_folders_and_empty_ones_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(TrainingDataError, match="is no training folder: it has other files, such"):
        add_image(tmp_path, correction())
    assert list(listing(tmp_path)) == ["thesis.docx"]
    with pytest.raises(TrainingDataError, match=f"is no training folder: there is no {RECORD}"):
        read_folder(tmp_path)
    with pytest.raises(TrainingDataError, match="does not exist"):
        read_folder(tmp_path / "no")
    (tmp_path / "new").mkdir()
    (tmp_path / "new/.DS_Store").touch()
    assert read_or_begin(tmp_path / "new").images == ()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"format": 2, "images": [], "models": []}',
        '{"format": 1, "images": [{"name": "a"}], "models": []}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(TrainingDataError, match="cannot be read"):
        add_image(tmp_path, correction())
    assert listing(tmp_path) == {RECORD: text.encode()}


def test_a_full_disk_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_image(tmp_path, correction(squares(5), title="a"))
    before = listing(tmp_path)

    def full(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(folder_module, "write_labels", full)
    with pytest.raises(WriteError, match="the disk is full"):
        add_image(tmp_path, correction(title="b"))
    assert listing(tmp_path) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(WriteError, match="no permission to write there"):
            add_image(tmp_path / "t", correction())
    finally:
        tmp_path.chmod(0o700)


# --- edits ----------------------------------------------------------------------------------------


def test_edits_are_counted_by_pixels_and_names() -> None:
    before = archive(*(square(name, x, 5) for name, x in (("1", 5), ("2", 25), ("3", 45))))
    after = archive(square("renamed", 5, 5), square("2", 26, 5), square("new", 80, 5))
    assert count_edits(before, after, SIZE) == Edits(kept=1, changed=1, drawn=1, removed=1)
    assert count_edits(b"", after, SIZE) == Edits(drawn=3)
    assert count_edits(before, before, SIZE) == Edits(kept=3)
    twins = archive(square("1", 5, 5), square("1", 5, 5))
    assert count_edits(before, twins, SIZE) == Edits(kept=1, drawn=1, removed=2)


# --- models --------------------------------------------------------------------------------------


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Give a training folder with two small images."""
    folder = tmp_path / "Zellen é 1"
    for n in (6, 7):
        add_image(folder, correction(squares(n), title=f"{n}.tif"))
    return folder


def wanted(folder: Path, **values: Any) -> FineTuning:
    return FineTuning(folder, **{"epochs": 1, "size_model": False, **values})


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ({"name": "nuclei"}, SettingsError, "A model named nuclei is there already."),
        ({"name": "../evil"}, SettingsError, "cannot name a model"),
        ({"name": "con.1"}, SettingsError, "cannot name a model"),
        ({"name": "ends."}, SettingsError, "cannot name a model"),
        ({"name": "auto"}, SettingsError, "No model may be called auto"),
        ({"recipe": "magic"}, SettingsError, "There is no recipe 'magic'"),
        ({"epochs": -1}, SettingsError, "epochs = -1 is not allowed"),
    ],
)
def test_what_cannot_be_trained(
    filled: Path, values: dict[str, Any], kind: type[CellSegError], words: str
) -> None:
    before = listing(filled)
    with pytest.raises(kind) as caught:
        check_fine_tuning(wanted(filled, **values))
    assert words in caught.value.message
    assert listing(filled) == before


def test_a_training_starts_from_one_network_that_is_no_fine_tune(
    filled: Path, tmp_path: Path
) -> None:
    """Said by the cards of files, before any weights are read: these have none."""
    folder = tmp_path / "pair"
    folder.mkdir()
    card = ModelCard("tuned", 2, 17.0, 17.0, start_name="nuclei", start_sha256="ab" * 32)
    for number in range(2):
        write_weights(folder / f"{number}.safetensors", card, {"none": np.zeros(1, np.float32)})
    with pytest.raises(SettingsError, match="was itself fine-tuned, from nuclei") as caught:
        check_fine_tuning(wanted(filled, start_from=str(folder / "0.safetensors")))
    assert caught.value.hint == (
        "Start from nuclei again, with all images annotated so far (on the command line: "
        "--start-from nuclei, or --allow-chain if the chain is meant)."
    )
    with pytest.raises(SettingsError, match="is an ensemble of 2 networks"):
        check_fine_tuning(wanted(filled, start_from=str(folder)))


def test_a_training_needs_images_with_enough_objects(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"format": 1, "images": [], "models": []}')
    with pytest.raises(TrainingDataError, match="There are no images in the training folder"):
        check_fine_tuning(wanted(tmp_path))
    add_image(tmp_path, correction(squares(4)))
    with pytest.raises(TrainingDataError, match=r"has 5 objects, which .* the most are 4\."):
        check_fine_tuning(wanted(tmp_path))


def test_a_round_makes_a_model_of_all_images_and_leaves_nothing_else(
    filled: Path, cheap_model: Path
) -> None:
    add_image(filled, correction(squares(3), title="few.tif"))
    add_image(filled, correction(squares(9), title="bad.tif"))
    (filled / "bad_img.tif").unlink()  # by hand, so it stays in the record
    (filled / "bad_masks.tif").unlink()
    before = listing(filled)
    told: list[str] = []
    done = fine_tune(wanted(filled, start_from=str(cheap_model)), lambda _: None, told.append)
    assert "1 images in the record of" in told[0] and "are gone: bad." in told[0]
    assert told[0] in done.warnings
    assert done.model.name == "Zellen-1-1"
    assert (done.model.images, done.model.objects, done.model.epochs) == (2, 13, 1)
    assert any("few: image left out: 3 annotated objects" in text for text in done.warnings)
    assert "Zellen-1-1" in [entry.name for entry in list_models()]
    after = listing(filled)
    record = json.loads(after.pop(RECORD))
    assert record["models"][0]["name"] == "Zellen-1-1"
    before.pop(RECORD)
    assert after == before
    content = read_folder(filled)
    assert newest_model(content) == "Zellen-1-1"
    faster = fast_precision(torch.device("cpu"))
    assert f", {faster}, seed" in find_model("Zellen-1-1").card().origin
    assert check_fine_tuning(wanted(filled)).name == "Zellen-1-2"


@pytest.fixture
def cheap_model(tmp_path: Path) -> Iterator[Path]:
    """Give a small random model, for trainings that only need to end."""
    with small_network():
        torch.manual_seed(0)
        arrays = {key: value.numpy() for key, value in ResidualUNet(1).state_dict().items()}
        path = tmp_path / "random.safetensors"
        write_weights(path, ModelCard("random", 1, 16.0, 16.0), arrays)
        yield path


@pytest.mark.parametrize("at", ["report", "before_install"])
def test_a_training_that_ends_early_changes_nothing(
    filled: Path, cheap_model: Path, at: str
) -> None:
    before, models = listing(filled), listing(models_folder())

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    hooks: dict[str, Callable[..., None]] = {"report": lambda _: None, "warn": lambda _: None}
    hooks[at] = stop
    with pytest.raises(KeyboardInterrupt):
        fine_tune(wanted(filled, name="never", start_from=str(cheap_model)), **hooks)
    assert listing(filled) == before
    assert listing(models_folder()) == models
