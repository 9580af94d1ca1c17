"""The folder of a training: what may be in it before, and what every end leaves there."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cellseg_engine.errors import DeviceError, SettingsError, WriteError
from cellseg_engine.io import process_lock
from cellseg_engine.nets.card import file_sha256
from cellseg_engine.settings import make_settings
from cellseg_engine.train import outcome
from cellseg_engine.train.batches import Batch
from cellseg_engine.train.checkpoint import NEWEST, CheckpointFolder
from cellseg_engine.train.ensemble import train_ensemble
from cellseg_engine.train.faults import TrainingDivergedError
from cellseg_engine.train.lock import LOCK, only_training
from cellseg_engine.train.loop import Trainer
from cellseg_engine.train.options import TrainingOptions
from cellseg_engine.train.run import train
from cellseg_engine.train.state import TrainingProgress
from cellseg_engine.zoo.store import read_model
from tests.conftest import ROOT
from tests.integration.training import quick_options, small_network

pytestmark = pytest.mark.usefixtures("small_networks")


def read_record(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "training.json").read_text())
    return content


def weights_in(out: Path) -> set[str]:
    return {path.name for path in out.iterdir() if path.suffix == ".safetensors"}


class _Stop(Exception):
    """Ends a training from outside."""


def stop_at(step: int) -> Callable[[TrainingProgress], None]:
    def stop(progress: TrainingProgress) -> None:
        if progress.stage == "training" and progress.done == step:
            raise _Stop

    return stop


def stop(options: TrainingOptions, step: int) -> None:
    with pytest.raises(_Stop):
        train(options, stop_at(step))


# -- a loss that explodes ----------------------------------------------------------------------


def endless(pairs: Path, out: Path, **changes: Any) -> TrainingOptions:
    """Four steps an epoch, and no held-out images: the last good weights count."""
    return quick_options(pairs, out, images_per_epoch=8, held_out_share=0.0, **changes)


@pytest.fixture
def explosion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights become infinite in the second step of the second epoch."""
    step = Trainer._step

    def explode(self: Trainer, batch: Batch) -> list[float]:
        values = step(self, batch)
        if (self._state.epoch, self._state.step) == (1, 1):
            with torch.no_grad():
                next(self._net.parameters()).fill_(torch.inf)
        return values

    monkeypatch.setattr(Trainer, "_step", explode)


@pytest.mark.usefixtures("explosion")
@pytest.mark.parametrize("average_decay", [0.0, 0.8])
def test_the_weights_of_the_last_good_epoch_are_kept_whenever_it_was_stopped(
    pairs: Path, tmp_path: Path, average_decay: float
) -> None:
    one_epoch = endless(pairs, tmp_path / "one" / "m", epochs=1, average_decay=average_decay)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cellseg_engine.train.recipes.Recipe.rate", lambda *_: 0.05)
        good = train(one_epoch).trained.arrays
        for name, steps in (("whole", ()), ("stopped", (5, 6))):
            options = endless(pairs, tmp_path / name / "m", average_decay=average_decay)
            for step in steps:
                stop(options, step)
            with pytest.raises(TrainingDivergedError, match=r"of epoch 2, .* epoch 1, are in"):
                train(options)
            kept = read_model(str(options.out / "m.safetensors"))[0].arrays
            assert good is not None and kept.keys() == good.keys()
            assert all((kept[key] == good[key]).all() for key in good)
            assert not (options.out / "checkpoints").exists()


@pytest.mark.usefixtures("explosion")
def test_a_training_that_exploded_does_not_go_on_until_it_is_overwritten(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = endless(pairs, tmp_path / "m")
    with pytest.raises(TrainingDivergedError) as caught:
        train(options)
    sha256 = file_sha256(options.out / "m.safetensors")
    for _ in range(2):
        with pytest.raises(SettingsError, match=r"m cannot go on\. The loss became .*--overwrite"):
            train(options)
        assert file_sha256(options.out / "m.safetensors") == sha256
    assert read_record(options.out)["stopped"] in str(caught.value)
    assert read_record(options.out)["complete"] is False
    monkeypatch.undo()
    with small_network():
        train(endless(pairs, tmp_path / "m", overwrite=True))
    assert read_record(options.out)["complete"] is True
    assert "stopped" not in read_record(options.out)


@pytest.mark.usefixtures("explosion")
def test_infinite_weights_are_no_checkpoint(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bool] = []

    def write(self: CheckpointFolder, content: dict[str, Any]) -> None:
        written.append(all(bool(value.isfinite().all()) for value in content["net"].values()))

    monkeypatch.setattr(CheckpointFolder, "write", write)
    with pytest.raises(TrainingDivergedError):
        train(endless(pairs, tmp_path / "m"))
    assert written == [True] * 6  # four steps, the end of the epoch, and one step


@pytest.mark.usefixtures("explosion")
def test_a_checkpoint_of_before_that_knows_no_good_weights_replaces_none(
    pairs: Path, tmp_path: Path
) -> None:
    options = endless(pairs, tmp_path / "m")
    stop(options, 6)
    newest = options.out / "checkpoints" / NEWEST
    content = torch.load(newest, weights_only=True)
    del content["good"]
    torch.save(content, newest)
    (options.out / "m.safetensors").write_bytes(b"kept before")
    words = r"no weights were good before, and .*m\.safetensors is as it was\."
    with pytest.raises(TrainingDivergedError, match=words):
        train(options)
    assert (options.out / "m.safetensors").read_bytes() == b"kept before"


# -- the end -----------------------------------------------------------------------------------


def test_a_picture_that_cannot_be_drawn_is_a_warning(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert (tmp_path / "m" / "m.safetensors").exists()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(outcome, "draw_curves", fail)
    warned: list[str] = []
    result = train(quick_options(pairs, tmp_path / "m", epochs=1), warn=warned.append)
    assert "curves.png cannot be drawn: [Errno 24] Too many open files." in warned[-1]
    assert list(result.warnings) == warned
    assert read_record(tmp_path / "m")["complete"] is True
    assert not (tmp_path / "m" / "checkpoints").exists()


def unfinished_file(out: Path, name: str) -> Path:
    """Give what a process leaves that is killed while it writes a file."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom cellseg_engine.io.staging import staged\n"
        "with staged(Path(sys.argv[1])) as stage:\n"
        " stage.path(sys.argv[2]).write_bytes(b'half')\n"
        " os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(out), name], cwd=ROOT, check=False)
    (left,) = out.glob(f".cellseg-*{name}")
    return left


def test_what_a_killed_process_left_is_removed_and_is_no_network(
    pairs: Path, tmp_path: Path
) -> None:
    left = unfinished_file(tmp_path / "m", "m.safetensors")
    train(quick_options(pairs, tmp_path / "m", epochs=1))
    assert not left.exists()
    foreign = left.with_name(".cellseg-00000000-1-00000000-m.safetensors")
    foreign.write_bytes(b"half, of another computer")
    assert len(read_model(f"{tmp_path / 'm'}/")) == 1
    unfinished_file(tmp_path / "pair", "pair_1.safetensors")
    train_ensemble(quick_options(pairs, tmp_path / "pair", epochs=1), 2)
    assert {path.name for path in (tmp_path / "pair").iterdir()} == {
        "flows", "network_1", "network_2", "pair_1.safetensors", "pair_2.safetensors",
    }  # fmt: skip


# -- what is replaced --------------------------------------------------------------------------


def test_overwriting_with_options_that_are_refused_changes_nothing(
    pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    stop(quick_options(pairs, out), 4)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    changes = {"precision": "fp16", "settings": make_settings(device="cpu")}
    with pytest.raises(DeviceError):
        train(quick_options(pairs, out, overwrite=True, **changes))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    begun: list[int] = []
    train(quick_options(pairs, out), lambda now: begun.append(now.done))
    assert 4 in begun and 3 not in begun[4:]
    train(quick_options(pairs, out, overwrite=True, epochs=1))
    assert not (out / "checkpoints").exists()


def test_checkpoints_that_cannot_be_removed_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(WriteError, match="the disk is read-only"):
        CheckpointFolder(tmp_path).remove()


@pytest.mark.parametrize("name", ["m", "other"])
def test_weights_of_others_are_never_replaced_or_joined_unasked(
    pairs: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "m"
    out.mkdir()
    precious = out / f"{name}.safetensors"
    precious.write_bytes(b"precious")
    words = rf"{name}\.safetensors would be taken for a network of the model in .*another --out"
    with pytest.raises(SettingsError, match=words):
        train(quick_options(pairs, out, epochs=1))
    assert precious.read_bytes() == b"precious"
    assert {path.name for path in out.iterdir()} == {precious.name, "flows"}
    asked = quick_options(pairs, out, epochs=1, overwrite=True)
    if name == "m":
        train(asked)
        assert precious.read_bytes() != b"precious"
    else:
        with pytest.raises(SettingsError, match=words):
            train(asked)


def test_a_plain_training_does_not_join_an_ensemble(pairs: Path, tmp_path: Path) -> None:
    train_ensemble(quick_options(pairs, tmp_path / "e", epochs=1), 2)
    with pytest.raises(SettingsError, match=r"e_1\.safetensors would be taken for a network"):
        train(quick_options(pairs, tmp_path / "e", epochs=1))
    assert weights_in(tmp_path / "e") == {"e_1.safetensors", "e_2.safetensors"}
    assert len(read_model(f"{tmp_path / 'e'}/")) == 2


def test_a_new_name_replaces_the_model_of_the_old_one_at_the_end(
    pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    train(quick_options(pairs, out, epochs=1, name="a"))
    stop(quick_options(pairs, out, epochs=1, name="b", overwrite=True), 2)
    assert weights_in(out) == {"a.safetensors"}
    train(quick_options(pairs, out, epochs=1, name="b"))  # goes on
    assert weights_in(out) == {"b.safetensors"}
    assert read_record(out)["replaced"] == []
    (out / "training.json").write_text("damaged")
    train(quick_options(pairs, out, epochs=1, name="b", overwrite=True))
    assert weights_in(out) == {"b.safetensors"}


# -- two at a time -----------------------------------------------------------------------------

HOLDS = """
import sys, time
from pathlib import Path
from cellseg_engine.train.lock import only_training
with only_training(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(600)
"""


def test_a_second_training_in_a_folder_is_refused_while_the_first_one_lives(
    pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    command = [sys.executable, "-c", HOLDS, str(out)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "in\n"
        with pytest.raises(SettingsError, match=r"Another training is running in .*m\. Wait"):
            train(quick_options(pairs, tmp_path / "x" / ".." / "m", epochs=1))
        assert {path.name for path in out.iterdir()} == {"flows", LOCK}
        train(quick_options(pairs, tmp_path / "elsewhere", epochs=1))
        os.kill(other.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    stop(quick_options(pairs, out, epochs=1), 2)
    assert not (out / LOCK).exists()
    train(quick_options(pairs, out, epochs=1))
    assert {path.name for path in out.iterdir()} == {
        "flows", "m.safetensors", "curves.csv", "curves.png", "left_out.csv", "training.json",
    }  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
def test_on_a_disk_without_locks_it_trains_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(process_lock, "_lock", fail)
    with only_training(tmp_path / "m"):
        (tmp_path / "m" / "result").touch()
    assert f"{tmp_path / 'm'} cannot be locked (No locks available)" in caplog.text
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"result"}
