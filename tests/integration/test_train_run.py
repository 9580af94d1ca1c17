"""Training runs: they learn, go on after a kill, and stop with a sentence."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

import cellseg_engine
from cellseg_engine.core.metrics import score_image
from cellseg_engine.errors import CellSegError, SettingsError, WriteError
from cellseg_engine.nets.card import file_sha256, read_weights, write_weights
from cellseg_engine.train.checkpoint import NEWEST, PREVIOUS, UNFINISHED
from cellseg_engine.train.dataset import TrainingImage
from cellseg_engine.train.faults import TrainingDivergedError
from cellseg_engine.train.run import train
from cellseg_engine.train.sampling import hold_out
from cellseg_engine.train.state import TrainingProgress
from cellseg_engine.zoo.store import import_model
from tests.conftest import ROOT
from tests.integration.training import WIDTHS, disks, draw_pairs, quick_options, small_network

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def uninterrupted(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing disturbed."""
    out = tmp_path_factory.mktemp("out") / "model"
    with small_network():
        train(quick_options(pairs, out))
    return out


def weights_sha256(out: Path) -> str:
    return file_sha256(out / f"{out.name}.safetensors")


# -- what comes out ----------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_to_find_disks(tmp_path: Path) -> None:
    folder = draw_pairs(tmp_path / "in", n=8, side=96)
    result = train(
        quick_options(
            folder,
            tmp_path / "disks",
            epochs=8,
            images_per_epoch=16,
            batch_size=4,
            crop_px=64,
            size_model=True,
            validate_every=4,
            checkpoint_every_s=60.0,
        )
    )
    assert result.trained.validation["held_out_ap_0.50"] > 0.8
    losses = [row["flow_loss"] + row["probability_loss"] for row in result.trained.history]
    assert losses[-1] < losses[0] / 4
    # The file works at once: given by its path, and imported under its name.
    image, labels = disks(96, seed=1000)
    for diameter in (16.0, 0.0):
        found = cellseg_engine.segment(
            image, settings={"model": str(result.model), "diameter_px": diameter}
        )
        assert score_image(labels, found.labels).average_precision[0] > 0.8
    assert found.diameter_px == pytest.approx(15.5, rel=0.15)
    assert import_model([result.model], "disks").card().training_data.startswith("7 images with")
    assert found.provenance["model"]["name"] == "disks"


def test_what_a_training_leaves(uninterrupted: Path) -> None:
    names = {path.name for path in uninterrupted.iterdir()}
    assert names == {
        "model.safetensors",
        "training.json",
        "curves.csv",
        "curves.png",
        "left_out.csv",
        "flows",
    }
    record = json.loads((uninterrupted / "training.json").read_text())
    assert record["complete"] is True
    assert record["model_sha256"] == weights_sha256(uninterrupted)
    assert len(record["training"]) == 2 and len(record["held_out"]) == 1
    with (uninterrupted / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(float(row["flow_loss"]) > 0 and row["held_out_ap_0.50"] for row in rows)
    assert (uninterrupted / "curves.png").read_bytes().startswith(b"\x89PNG")
    card = read_weights(uninterrupted / "model.safetensors").card
    assert card.n_channels == 1 and card.diam_mean_px == 16
    diameters = [image["diameter_px"] for image in record["training"]]
    assert card.diam_labels_px == pytest.approx(np.mean(diameters), abs=0.01)


def test_the_same_call_gives_the_same_weights_and_another_seed_others(
    pairs: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    train(quick_options(pairs, tmp_path / "model"))
    assert weights_sha256(tmp_path / "model") == weights_sha256(uninterrupted)
    train(quick_options(pairs, tmp_path / "b" / "model", seed=1))
    assert weights_sha256(tmp_path / "b" / "model") != weights_sha256(uninterrupted)


@pytest.mark.parametrize(
    "changes", [{"optimizer": "adamw", "learning_rate": 0.001}, {"precision": "bf16"}]
)
def test_other_optimisers_and_precisions(
    pairs: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    result = train(quick_options(pairs, tmp_path / "m", **changes))
    losses = [row["flow_loss"] + row["probability_loss"] for row in result.trained.history]
    assert losses[-1] < losses[0]


def test_going_on_from_a_model(pairs: Path, uninterrupted: Path, tmp_path: Path) -> None:
    start = uninterrupted / "model.safetensors"
    changes = {"start_from": str(start), "diam_mean_px": 0.0}
    result = train(quick_options(pairs, tmp_path / "tuned", epochs=1, **changes))
    assert result.card.diam_mean_px == 16
    assert f"from model (SHA-256 {file_sha256(start)})" in result.card.origin
    before, after = read_weights(start).arrays, read_weights(result.model).arrays
    assert before.keys() == after.keys()
    # One epoch at the learning rates of the recipe's middle moves the weights a little.
    name = "output.2.weight"
    assert 0 < np.abs(before[name] - after[name]).max() < 0.5


def test_zero_epochs_only_fit_a_size_model(
    pairs: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    start = uninterrupted / "model.safetensors"
    changes = {"start_from": str(start), "diam_mean_px": 0.0, "epochs": 0, "size_model": True}
    first = tmp_path / "first.safetensors"
    content = read_weights(start)
    card = content.card.with_changes(licence="CC-BY-4.0", description="Nuclei of mice.")
    write_weights(first, card, content.arrays)
    changes["start_from"] = str(first)
    result = train(quick_options(pairs, tmp_path / "sized", **changes))
    before, after = read_weights(first), read_weights(result.model)
    assert (after.card.name, after.card.licence) == ("sized", "CC-BY-4.0")
    assert after.card.description == "Nuclei of mice."
    assert after.card.origin.startswith("Size model fitted with cellseg-engine ")
    assert after.card.origin.endswith(f"Weights of model (SHA-256 {before.sha256}): {card.origin}")
    assert after.card.training_data.startswith(f"{card.training_data}; size model: 2 images with")
    assert after.card.training_data_sha256 == card.training_data_sha256
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name], array)
    assert before.size_model is None and after.size_model is not None
    assert after.card.diameter_range_px == after.size_model.range_px
    assert result.size is not None and result.size.median_error < 0.5


# -- going on ----------------------------------------------------------------------------------


class _Stop(Exception):
    """Ends a training from outside."""


def test_stopped_after_every_step_it_ends_with_the_same_weights(
    pairs: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    steps: list[tuple[str, int]] = []

    def stop_after_next(progress: TrainingProgress) -> None:
        key = (progress.stage, progress.done)
        if progress.stage in ("training", "scoring") and key not in steps:
            steps.append(key)
            raise _Stop

    for _ in range(50):
        try:
            train(quick_options(pairs, out), stop_after_next)
        except _Stop:
            continue
        break
    assert [done for stage, done in steps if stage == "training"] == [1, 2, 3, 4, 5, 6]
    assert len(steps) == 9
    assert weights_sha256(out) == weights_sha256(uninterrupted)
    assert (out / "curves.csv").read_bytes() == (uninterrupted / "curves.csv").read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from cellseg_engine.nets import unet
unet.WIDTHS = {widths}
torch.set_num_threads(2)
from cellseg_engine.train.run import train
from tests.integration.training import quick_options
what, after = sys.argv[3], int(sys.argv[4])
count = 0
def deadly(name, function):
    def call(*arguments):
        global count
        is_ours = name == "fsync" or "checkpoints" in str(arguments[0])
        if name == what and is_ours:
            count += 1
            if count > after:
                os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call
os.fsync, os.replace = deadly("fsync", os.fsync), deadly("replace", os.replace)
def report(progress):
    global count
    if what == "step" and progress.stage == "training":
        count += 1
        if count > after:
            os.kill(os.getpid(), signal.SIGKILL)
train(quick_options(Path(sys.argv[1]), Path(sys.argv[2])), report)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_killed_at_the_worst_moments_it_ends_with_the_same_weights(
    pairs: Path, tmp_path: Path
) -> None:
    undisturbed, out = tmp_path / "undisturbed" / "model", tmp_path / "model"
    with small_network(threads=2):
        train(quick_options(pairs, undisturbed))

    def run(what: str, after: int) -> int:
        code = KILLED.format(widths=WIDTHS)
        arguments = [sys.executable, "-c", code, str(pairs), str(out), what, str(after)]
        return subprocess.run(arguments, cwd=ROOT, check=False).returncode

    # In a step; before a checkpoint is on the disk; before and after the last one is renamed.
    moments = [("step", 1), ("fsync", 2), ("replace", 2), ("replace", 3)]
    for what, after in moments:
        assert run(what, after) == -signal.SIGKILL
        names = {path.name for path in (out / "checkpoints").iterdir()}
        assert names & {NEWEST, PREVIOUS}
        assert "model.safetensors" not in {path.name for path in out.iterdir()}
        assert json.loads((out / "training.json").read_text())["complete"] is False
    assert UNFINISHED in names
    assert run("never", 0) == 0
    assert weights_sha256(out) == weights_sha256(undisturbed)
    assert not (out / "checkpoints").exists()


@pytest.mark.parametrize("cut", [0, 1000])
def test_a_damaged_checkpoint_is_passed_over(
    pairs: Path, uninterrupted: Path, tmp_path: Path, cut: int
) -> None:
    out = tmp_path / "model"

    def stop(progress: TrainingProgress) -> None:
        if progress.stage == "training" and progress.done == 4:
            raise _Stop

    with pytest.raises(_Stop):
        train(quick_options(pairs, out), stop)
    newest, previous = out / "checkpoints" / NEWEST, out / "checkpoints" / PREVIOUS
    newest.write_bytes(newest.read_bytes()[:cut])
    train(quick_options(pairs, out))
    assert weights_sha256(out) == weights_sha256(uninterrupted)
    assert not previous.exists()


def test_an_average_is_kept_and_goes_on_after_a_stop(
    pairs: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    out, whole = tmp_path / "model", tmp_path / "whole" / "model"

    def stop(progress: TrainingProgress) -> None:
        if progress.stage == "training" and progress.done == 4:
            raise _Stop

    with pytest.raises(_Stop):
        train(quick_options(pairs, out, average_decay=0.8), stop)
    train(quick_options(pairs, out, average_decay=0.8))
    train(quick_options(pairs, whole, average_decay=0.8))
    assert weights_sha256(out) == weights_sha256(whole) != weights_sha256(uninterrupted)
    # The steps are the same; what is kept and scored is another thing.
    losses = [
        [
            row["flow_loss"]
            for row in csv.DictReader((folder / "curves.csv").read_text().splitlines())
        ]
        for folder in (whole, uninterrupted)
    ]
    assert losses[0] == losses[1]


def test_one_flipped_byte_in_a_checkpoint_is_noticed(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"

    def stop(progress: TrainingProgress) -> None:
        if progress.stage == "training" and progress.done == 3:
            raise _Stop

    with pytest.raises(_Stop):
        train(quick_options(pairs, out), stop)
    for name in (NEWEST, PREVIOUS):
        path = out / "checkpoints" / name
        if path.exists():
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    with pytest.raises(CellSegError, match=r"checkpoints in .* are damaged.*--overwrite"):
        train(quick_options(pairs, out))


def test_a_finished_or_other_training_is_not_touched(
    pairs: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    before = weights_sha256(uninterrupted)
    with pytest.raises(SettingsError, match=r"is finished: model\.safetensors.*--overwrite"):
        train(quick_options(pairs, uninterrupted))
    with pytest.raises(SettingsError, match=r"other images or settings \(different: recipe\)"):
        train(quick_options(pairs, uninterrupted, epochs=4))
    more = draw_pairs(tmp_path / "more", n=4)
    with pytest.raises(SettingsError, match=r"different: training"):
        train(quick_options(more, uninterrupted))
    assert weights_sha256(uninterrupted) == before


# -- stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("held_out_share", [0.0, 0.12])
def test_a_loss_that_explodes_stops_and_keeps_the_last_good_weights(
    pairs: Path, tmp_path: Path, held_out_share: float
) -> None:
    options = quick_options(
        pairs,
        tmp_path / "wild",
        epochs=60,
        images_per_epoch=8,
        learning_rate=10.0,
        weight_decay=1.0,
        held_out_share=held_out_share,
        checkpoint_every_s=60.0,
    )
    with pytest.raises(
        TrainingDivergedError,
        match=r"became infinite or NaN in (step|the last step)( \d)? of epoch \d+, so .* the last "
        r"good weights, of epoch \d+, are in .*smaller --learning-rate",
    ):
        train(options)
    kept = read_weights(options.out / "wild.safetensors")
    assert all(np.isfinite(array).all() for array in kept.arrays.values())
    assert json.loads((options.out / "training.json").read_text())["complete"] is False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a training of the small network, and little more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(folder)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system (root on Linux)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_a_checkpoint_to_go_on_from(
    pairs: Path, uninterrupted: Path, small_disk: Path
) -> None:
    out = small_disk / "model"
    ballast = small_disk / "ballast"

    def fill(progress: TrainingProgress) -> None:
        if progress.stage == "training" and progress.done == 2 and not ballast.exists():
            free = os.statvfs(small_disk)
            ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 1_000_000))

    with pytest.raises(WriteError, match=r"cannot be written to .*checkpoints: the disk is full"):
        train(quick_options(pairs, out), fill)
    left = {path.name for path in (out / "checkpoints").iterdir()}
    assert NEWEST in left and UNFINISHED not in left
    ballast.unlink()
    train(quick_options(pairs, out))
    assert weights_sha256(out) == weights_sha256(uninterrupted)


def test_a_disk_that_fills_at_the_very_end(pairs: Path, small_disk: Path) -> None:
    out = small_disk / "model"

    def fill(progress: TrainingProgress) -> None:
        if progress.stage == "size model" and progress.done == progress.total:
            free = os.statvfs(small_disk)
            (small_disk / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize - 100_000))

    with pytest.raises(WriteError, match="the disk is full"):
        train(quick_options(pairs, out, size_model=True), fill)
    assert not (out / "model.safetensors").exists()
    (small_disk / "ballast").unlink()
    train(quick_options(pairs, out, size_model=True))
    assert (out / "model.safetensors").exists()


def test_images_with_two_channels_are_prepared_like_the_pipeline_does(tmp_path: Path) -> None:
    image, labels = disks(64)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(
        tmp_path / "in" / "a.tif",
        np.stack([image, image[::-1]]),
        imagej=True,
        metadata={"axes": "CYX"},
    )
    tifffile.imwrite(tmp_path / "in" / "a_masks.tif", labels)
    settings = cellseg_engine.make_settings(channel="1", nuclear_channel="2")
    result = train(
        quick_options(
            tmp_path / "in",
            tmp_path / "two",
            n_channels=2,
            settings=settings,
            held_out_share=0.0,
            epochs=1,
        )
    )
    assert result.card.n_channels == 2
    assert any("No images are held out" in text for text in result.warnings)


def test_another_number_of_threads_is_said(
    pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(progress: TrainingProgress) -> None:
        if progress.stage == "training" and progress.done == 3:
            raise _Stop

    with pytest.raises(_Stop):
        train(quick_options(pairs, tmp_path / "m"), stop)
    with small_network(threads=2):
        train(quick_options(pairs, tmp_path / "m"))
    assert "was begun with 1 threads and goes on with 2" in caplog.text


def test_without_matplotlib_there_is_a_table_and_a_warning(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    warned: list[str] = []
    result = train(quick_options(pairs, tmp_path / "m", epochs=1), warn=warned.append)
    assert any('pip install "cellseg-engine[train]"' in text for text in warned)
    assert list(result.warnings) == warned
    assert (tmp_path / "m" / "curves.csv").exists()
    assert not (tmp_path / "m" / "curves.png").exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("diam_mean_px", math.nan, "diam_mean_px = nan is not allowed: it must be a positive"),
        ("diam_mean_px", math.inf, "diam_mean_px = inf is not allowed"),
        ("seed", 10**23, r"seed = 1\d+ is not allowed: it must be 0 to 9,223,"),
        ("seed", -1, "seed = -1 is not allowed"),
        ("validate_every", -2, "validate_every = -2 is not allowed: it must not be negative"),
    ],
)
def test_numbers_that_cannot_be(
    pairs: Path, tmp_path: Path, name: str, value: float, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        train(quick_options(pairs, tmp_path / "m", **{name: value}))
    assert not (tmp_path / "m").exists()


def test_many_held_out_images_are_said(tmp_path: Path) -> None:
    folder = draw_pairs(tmp_path / "in", n=4)
    table = tmp_path / "list.csv"
    for wells, n_held_out in (("aab", 1), ("aabb", 2)):
        rows = [f"{folder / str(n)},{well}" for n, well in enumerate(wells)]
        table.write_text("\n".join(["path,group", *rows]))
        result = train(quick_options(table, tmp_path / wells, epochs=1))
        said = [text for text in result.warnings if "are held out to choose" in text]
        assert len(said) == (n_held_out > 1)
    assert said[0].startswith("2 of 4 images are held out to choose the best weights by, because")


@pytest.mark.parametrize("name", ["nuclei", "generalist", "phase"])
def test_the_held_out_images_of_published_models_stay_the_same(name: str) -> None:
    record = json.loads((ROOT / "models" / f"{name}.json").read_text())
    none = np.empty(0)
    images = [
        TrainingImage(one["name"], one["kind"], one["group"], none, none, none, 0.0, 0, "")
        for one in record["training"] + record["held_out"]
    ]
    held_out = hold_out(images, None, record["plan"]["seed"])[1]
    assert {image.name for image in held_out} == {one["name"] for one in record["held_out"]}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"complete": true}'])
def test_a_record_that_is_none_is_refused(pairs: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "training.json").write_text(content)
    with pytest.raises(CellSegError, match=r"training\.json is damaged or was not written by"):
        train(quick_options(pairs, tmp_path / "m"))
    assert (tmp_path / "m" / "training.json").read_text() == content
