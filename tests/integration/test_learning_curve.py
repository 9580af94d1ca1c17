"""The learning curve: subsets, points that are made once, and what it writes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg_engine.errors import SettingsError
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.learning_curve import CurveOptions, make_learning_curve
from cellseg_engine.train.learning_files import summarise
from cellseg_engine.train.learning_points import CurveProgress
from cellseg_engine.train.run import train
from tests.integration.cli import Cli
from tests.integration.training import draw_pairs, quick_options, small_network

HOLDER = """
import sys
from pathlib import Path
from cellseg_engine.train.lock import only_training
with only_training(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images to train on, one to test on, and a model to start from."""
    folder = tmp_path_factory.mktemp("curve")
    draw_pairs(folder / "train", n=3)
    draw_pairs(folder / "test", n=1, first=7)
    with small_network():
        train(quick_options(folder / "train", folder / "base", epochs=1, held_out_share=0.0))
    return folder


def options(images: Path, out: Path, **changes: Any) -> CurveOptions:
    training = quick_options(
        images / "train",
        out,
        start_from=str(images / "base" / "base.safetensors"),
        diam_mean_px=0.0,
    )
    values: dict[str, Any] = {"sizes": (5,), "subsets": (1,), "steps": 1, **changes}
    return CurveOptions(training, [images / "test"], **values)


def test_parts_add_up_and_points_are_made_once(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "curve"
    made: list[dict[str, Any]] = []
    seen: list[CurveProgress] = []
    part = options(images, out, starts=("pretrained",))
    rows = make_learning_curve(part, seen.append, made.append)
    assert [(row["start"], row["wanted"]) for row in rows] == [
        ("pretrained", 0),
        ("pretrained", 5),
    ]
    assert made == rows
    assert seen[-1].done == seen[-1].total == 1

    again = make_learning_curve(part, on_point=made.append)
    assert again == rows and len(made) == 2
    more = make_learning_curve(options(images, out, sizes=(5, 12)), on_point=made.append)
    assert [(row["start"], row["wanted"], row["images"]) for row in more] == [
        ("pretrained", 0, 0),
        ("pretrained", 5, 1),
        ("pretrained", 12, 2),
        ("scratch", 5, 1),
        ("scratch", 12, 2),
    ]
    assert len(made) == 5
    # The same images and steps, but other weights to start from.
    hashes = {row["weights_sha256"] for row in more}
    assert len(hashes) == 5

    with (out / "learning_curve.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["ap_0.50"]) for row in table] == pytest.approx(
        [row["ap_0.50"] for row in more]
    )
    facts = json.loads((out / "learning_curve.json").read_text())
    assert facts["points"] == more
    assert facts["recipe"]["epochs"] >= 1 and "seed" in facts
    assert [one["name"] for one in facts["test"]] == ["7"]
    diameters = [one["diameter_px"] for one in facts["training"]]
    assert facts["diameter_px"] == pytest.approx(np.mean(diameters), abs=0.01)
    assert (out / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    # Weights are thrown away; points, table and flow targets stay.
    assert sorted(path.name for path in (out / "points").iterdir()) == [
        "base.json",
        "pretrained-12-1.json",
        "pretrained-5-1.json",
        "scratch-12-1.json",
        "scratch-5-1.json",
    ]

    with pytest.raises(SettingsError, match=r"base\.json was made with other images"):
        make_learning_curve(options(images, out, diameter_px=30.0))
    with pytest.raises(SettingsError, match=r"base\.json was made with other images"):
        make_learning_curve(options(images, out, steps=2))
    with pytest.raises(SettingsError, match="cannot stand in one curve with new ones"):
        make_learning_curve(options(images, out, steps=2, sizes=(7,), starts=("scratch",)))
    (out / "points" / "base.json").write_text("{}")
    with pytest.raises(OSError, match=r"base\.json is damaged or was not written by"):
        make_learning_curve(part)


def test_two_at_once_do_not_meet_in_a_folder(images: Path, tmp_path: Path) -> None:
    (tmp_path / "curve").mkdir()
    run = [sys.executable, "-c", HOLDER, str(tmp_path / "curve")]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(SettingsError, match="Another training is running in"):
            make_learning_curve(options(images, tmp_path / "curve"))
        assert other.stdin is not None
        other.stdin.close()
    assert not (tmp_path / "curve" / "points").exists()


class _Stop(Exception):
    """Ends a curve from outside."""


def test_stopped_in_a_point_it_goes_on_there(images: Path, tmp_path: Path) -> None:
    whole = make_learning_curve(options(images, tmp_path / "whole", steps=4, keep_models=True))
    assert (tmp_path / "whole/points/scratch-5-1/scratch-5-1.safetensors").exists()

    def stop(now: CurveProgress) -> None:
        if now.what == "scratch-5-1" and now.done == 4 + 2:
            raise _Stop

    stopped = options(images, tmp_path / "stopped", steps=4)
    with pytest.raises(_Stop):
        make_learning_curve(stopped, stop)
    seen: list[CurveProgress] = []
    rows = make_learning_curve(stopped, seen.append)
    assert {now.what for now in seen} == {"reading", "scratch-5-1"}
    assert [row["weights_sha256"] for row in rows] == [row["weights_sha256"] for row in whole]
    assert [row["ap_mean"] for row in rows] == [row["ap_mean"] for row in whole]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": (5, 9999)}, r"A subset of 9999 objects was asked for; the 3 images have \d+\."),
        ({"sizes": (0,)}, "sizes must be numbers of objects, at least 1"),
        ({"subsets": (0,)}, "subsets are counted from 1"),
        ({"starts": ("cyto",)}, "starts = 'cyto' is not allowed"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"diameter_px": -1.0}, "diameter_px = -1 is not allowed"),
        ({"diameter_px": float("nan")}, "diameter_px = nan is not allowed"),
        ({"diameter_px": float("inf")}, "diameter_px = inf is not allowed"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_any_training(
    images: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((SettingsError, TrainingDataError), match=words):
        make_learning_curve(options(images, tmp_path / "no", **changes))
    assert not (tmp_path / "no" / "points").exists()


def test_test_images_are_no_training_images(images: Path, tmp_path: Path) -> None:
    given = options(images, tmp_path / "no")
    with pytest.raises(TrainingDataError, match=r"The test image 0 is also among the images"):
        make_learning_curve(replace(given, test=[images / "train"]))
    again = draw_pairs(tmp_path / "again", n=1)  # the first one, annotated by somebody else
    labels = tifffile.imread(again / "0_masks.tif")
    tifffile.imwrite(again / "0_masks.tif", np.where(labels == 1, 0, labels))
    with pytest.raises(TrainingDataError, match=r"\(0, annotated otherwise\)"):
        make_learning_curve(replace(given, test=[again]))
    draw_pairs(tmp_path, n=2, first=20)
    table = tmp_path / "manifest.csv"
    table.write_text("path,role,group\n20,train,slide\n21,val,slide\n")
    training = replace(given.training, paths=[table])
    with pytest.raises(TrainingDataError, match=r"21 and the image 20 .* one group, slide"):
        make_learning_curve(replace(given, training=training, test=[table]))
    scratch = replace(given.training, start_from="scratch")
    with pytest.raises(SettingsError, match="scratch is no model"):
        make_learning_curve(replace(given, training=scratch))


def test_on_the_command_line(cli: Cli, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "curve"
    given = (
        *("learning-curve", images / "train", "--test", images / "test", "--out", out),
        *("--start-from", images / "base" / "base.safetensors", "--crop-px", 32),
        *("--sizes", 5, "--subsets", 1, "--steps", 2, "--batch-size", 2, "--precision", "fp32"),
    )
    first = cli(*given, "--starts", "pretrained")
    assert first.code == 0, first.err
    assert "the model as it is: AP 0." in first.out
    assert "pretrained, 5 objects in 1 images, subset 1: AP" in first.out
    assert "2 points are in" in first.out
    assert "pretrained-5-1 (2 of 2)" in first.err
    events = cli(*given, "--json").events
    assert [event["start"] for event in events if event["event"] == "point"] == ["scratch"]
    assert events[-1]["event"] == "done" and events[-1]["points"] == 3
    refused = cli(*given, "--sizes", "five")
    assert refused.code == 2
    assert "'five' is no list of whole numbers" in refused.err


def test_the_spread_of_subsets() -> None:
    scores = ("ap_0.50", "ap_0.75", "ap_0.90", "ap_mean", "ap_0.50_pooled")
    rows = [
        {"start": "scratch", "wanted": 5, "objects": n, **dict.fromkeys(scores, value)}
        for n, value in ((5, 0.1), (6, 0.2), (7, 0.6))
    ]
    (one,) = summarise(rows)
    assert (one["subsets"], one["objects"]) == (3, 6)
    assert one["ap_0.50_mean"] == pytest.approx(0.3)
    assert one["ap_0.50_sd"] == pytest.approx(np.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert (one["ap_0.50_min"], one["ap_0.50_max"]) == (0.1, 0.6)
    assert summarise(rows[:1])[0]["ap_0.50_sd"] is None
