"""``cellseg train`` on the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.integration.cli import Cli
from tests.integration.training import disks, draw_pairs, small_network

QUICK = (
    "--recipe", "quick", "--precision", "fp32", "--epochs", 2, "--images-per-epoch", 4,
    "--batch-size", 2, "--crop-px", 32, "--diam-mean-px", 16, "--n-channels", 1,
)  # fmt: skip


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    with small_network():
        yield Cli(capfd)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return draw_pairs(tmp_path / "in")


def test_help_names_the_recipes(cli: Cli) -> None:
    outcome = cli("train", "--help")
    assert outcome.code == 0
    for word in ("cellpose1", "cellpose2-finetune", "quick", "--size-model", "training.json"):
        assert word in outcome.out
    assert "train" in cli("--help").out


def test_a_model_that_can_be_used_and_imported_at_once(
    cli: Cli, pairs: Path, tmp_path: Path
) -> None:
    image, labels = disks(64, 9)
    tifffile.imwrite(pairs / "few_img.tif", image)
    tifffile.imwrite(pairs / "few_masks.tif", np.where(labels <= 2, labels, 0))
    out = tmp_path / "mine"
    outcome = cli("train", pairs, "--out", out, *QUICK, "--licence", "CC0-1.0")
    assert outcome.code == 0, outcome.err
    assert "few: image left out: 2 annotated objects, fewer than 5" in outcome.err
    assert "only" in outcome.err and "objects to train on" in outcome.err
    assert "Trained on 2 images with" in outcome.out
    assert "Best weights: epoch" in outcome.out
    assert "Size model: median error" in outcome.out
    with (out / "left_out.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["few"]
    model = out / "mine.safetensors"
    info = json.loads(cli("models", "info", model, "--json").out)
    assert (info["name"], info["licence"], info["size_model"]) == ("mine", "CC0-1.0", True)
    assert cli("models", "import", model).code == 0
    for name in (model, "mine"):
        results = tmp_path / f"results of {Path(name).stem} {Path(name).suffix}"
        segmented = cli("segment", pairs / "0_img.tif", "--out", results, "--model", name)
        assert segmented.code == 0, segmented.err
        assert (results / "0_img_labels.tif").exists()
    assert cli("models", "remove", "mine").code == 0


def test_a_model_from_all_slices_of_volumes(cli: Cli, tmp_path: Path) -> None:
    image, labels = (np.stack([one] * 40) for one in disks(64))
    for name, pixels in (("a_img", image), ("a_masks", labels)):
        draw_stack(tmp_path / f"in/{name}.tif", pixels)
    out = tmp_path / "deep"
    outcome = cli(
        "train", tmp_path / "in", "--out", out, *QUICK, "--slices", "all", "--min-objects", 1
    )
    assert outcome.code == 0, outcome.err
    plan = json.loads((out / "training.json").read_text())["plan"]
    names = [name for name, *_ in plan["training"] + plan["held_out"]]
    assert {name.split()[1] for name in names} == {"XY", "XZ", "YZ"}
    outcome = cli("train", tmp_path / "in", "--out", out, *QUICK, "--slices", "sides")
    assert outcome.code == 2
    assert "'planes', 'all'" in outcome.err


def draw_stack(path: Path, stack: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})


def test_events_for_programs(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    outcome = cli("train", pairs, "--out", tmp_path / "m", *QUICK, "--no-size-model", "--json")
    events = outcome.events
    assert outcome.code == 0
    training = [e for e in events if e["event"] == "progress" and e["stage"] == "training"]
    assert [(e["epoch"], e["done"], e["total"]) for e in training] == [
        (1, 1, 4),
        (1, 2, 4),
        (2, 3, 4),
        (2, 4, 4),
    ]
    assert all(e["loss"] > 0 for e in training)
    assert events[-1]["event"] == "done" and events[-1]["model"].endswith("m.safetensors")
    assert {e["stage"] for e in events if e["event"] == "progress"} == {
        "reading",
        "training",
        "scoring",
    }


def test_weights_of_folders_in_their_order(cli: Cli, tmp_path: Path) -> None:
    folders = [draw_pairs(tmp_path / name, first=n) for n, name in ((0, "near"), (3, "far"))]
    arguments = (*folders, "--out", tmp_path / "m", *QUICK, "--no-size-model")
    assert cli("train", *arguments, "--weights", "60/40").code == 0
    record = json.loads((tmp_path / "m" / "training.json").read_text())
    assert record["plan"]["weights"] == {"near": 0.6, "far": 0.4}
    refused = cli("train", *arguments, "--weights", "60", "--overwrite")
    assert refused.code == 2
    assert "gives 1 numbers for the 2 kinds of images near, far" in refused.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--crop-px", 33), "crop_px = 33 is not allowed: it must be a multiple of 8"),
        (("--held-out-share", 0.9), "held_out_share = 0.9 is not allowed"),
        (("--optimizer", "adamw"), "is for sgd, not for adamw. Give --learning-rate as well"),
        (("--epochs", 0), "With 0 epochs nothing is trained"),
        (("--name", "a/b"), "'a/b' cannot name a model"),
        (("--start-from", "phantom"), "There is no model 'phantom'"),
        (("--min-objects", 500), "No image is left to train on"),
        (("--precision", "fp16", "--device", "cpu"), "Training in fp16 needs an NVIDIA GPU"),
        (("--axes", "CYX"), "The axes CYX name 3 dimensions but the image in "),
        (("--channel", "7"), "0_img.tif: There is no channel '7' in an image with 1 channel."),
        (("--recipe", "mine"), "'mine' is not one of"),
    ],
)
def test_wrong_use_is_one_sentence(
    cli: Cli, pairs: Path, tmp_path: Path, arguments: tuple[object, ...], words: str
) -> None:
    outcome = cli("train", pairs, "--out", tmp_path / "m", *QUICK, *arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert not (tmp_path / "m" / "m.safetensors").exists()


def test_the_learning_curve_is_found_as_a_word_of_train_too(cli: Cli, pairs: Path) -> None:
    own = cli("learning-curve", pairs, "--out", pairs / "curve")
    other = cli("train", pairs, "--learning-curve", "--out", pairs / "curve")
    assert (other.code, other.out, other.err) == (own.code, own.out, own.err)
    assert "Missing option '--test'" in other.err and other.code == 2


def test_a_single_image_is_enough_and_that_nothing_is_held_out_is_said(
    cli: Cli, tmp_path: Path
) -> None:
    folder = draw_pairs(tmp_path / "in", n=1)
    refused = cli("train", folder, "--out", tmp_path / "m", *QUICK, "--held-out-share", 0.12)
    assert refused.code == 2
    assert "1 annotated image (of 1 group) cannot be split" in refused.err
    assert "--held-out-share 0" in refused.err
    taken = cli("train", folder, "--out", tmp_path / "m", *QUICK)
    assert taken.code == 0
    assert "No images are held out, so the last weights are kept" in taken.err


def test_a_fine_tune_is_no_start_unless_it_is_meant(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    quick = (*QUICK[: QUICK.index("--diam-mean-px")], "--no-size-model")
    first = ("train", pairs, "--out", tmp_path / "base", *QUICK, "--no-size-model")
    assert cli(*first).code == 0
    base = tmp_path / "base" / "base.safetensors"
    tuned = tmp_path / "tuned" / "tuned.safetensors"
    more = draw_pairs(tmp_path / "more", first=3)
    assert cli("train", more, "--out", tuned.parent, *quick, "--start-from", base).code == 0
    assert json.loads(cli("models", "info", tuned, "--json").out)["start_name"] == "base"

    again = ("train", more, "--out", tmp_path / "again", *quick, "--start-from", tuned)
    refused = cli(*again)
    assert refused.code == 2
    assert "tuned.safetensors was itself fine-tuned, from base (SHA-256 " in refused.err
    assert "Start from base again, with all images annotated so far" in refused.err
    assert not (tmp_path / "again").exists()
    meant = cli(*again, "--allow-chain")
    assert meant.code == 0
    assert "The training goes on from tuned, which was itself fine-tuned, from base" in meant.err

    # A size model leaves the weights alone, so there is no chain.
    sizes = (*quick[:-1], "--epochs", 0, "--size-model", "--start-from", tuned)
    assert cli("train", more, "--out", tmp_path / "sized", *sizes).code == 0
    sized = tmp_path / "sized" / "sized.safetensors"
    assert json.loads(cli("models", "info", sized, "--json").out)["start_name"] == "base"


def test_a_finished_training_is_replaced_only_when_asked(
    cli: Cli, pairs: Path, tmp_path: Path
) -> None:
    arguments = ("train", pairs, "--out", tmp_path / "m", *QUICK, "--no-size-model")
    assert cli(*arguments).code == 0
    refused = cli(*arguments)
    assert refused.code == 2
    assert "is finished: m.safetensors" in refused.err
    assert cli(*arguments, "--overwrite").code == 0


def test_a_loss_that_explodes_is_one_sentence(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    arguments = (
        "--epochs",
        60,
        "--learning-rate",
        10,
        "--weight-decay",
        1,
        "--images-per-epoch",
        8,
    )
    outcome = cli("train", pairs, "--out", tmp_path / "m", *QUICK, *arguments)
    assert outcome.code == 2
    assert "The loss became infinite or NaN in" in outcome.err
    assert "smaller --learning-rate" in outcome.err


def test_only_images_are_counted_as_left_out(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    image, labels = disks(64, 9)
    tifffile.imwrite(pairs / "lonely.tif", image)
    tifffile.imwrite(pairs / "parts_img.tif", image)
    tifffile.imwrite(pairs / "parts_masks.tif", np.where(labels == 2, 1, labels))
    given = ("train", pairs, "--out", tmp_path / "m", *QUICK, "--no-size-model", "--json")
    assert cli(*given).events[-1]["left_out"] == 1
    assert len((tmp_path / "m" / "left_out.csv").read_text().splitlines()) == 3


def test_a_size_model_of_one_image_has_no_quality_to_tell(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("train", draw_pairs(tmp_path / "one", n=1), "--out", tmp_path / "m", *QUICK)
    assert outcome.code == 0, outcome.err
    assert "Model: " in outcome.out
    assert "Size model" not in outcome.out
