"""The benchmarks: what they refuse before they measure, and what they print and keep.

Nothing is measured here.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cellseg_engine.errors import ModelNotFoundError
from cellseg_engine.zoo.store import find_model
from tests.conftest import ROOT

FOLDER = ROOT / "benchmarks"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the source archive has no benchmarks")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give what loads a module of the benchmarks, which find each other by their folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def run(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Any:
    monkeypatch.setattr(sys, "argv", [f"{module.__name__}.py", *map(str, arguments)])
    return module.main()


def refused(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    with pytest.raises(SystemExit) as caught:
        run(module, monkeypatch, *arguments)
    return caught.value.code


def test_a_bound_of_nothing_fails(load: Any) -> None:
    report = load("_report")
    bound = report.Bound("gain", math.nan, ">=", 0.1)
    assert not bound.holds
    assert str(bound) == "FAILS: gain = nan (>= 0.1000)"
    section = report.Section("Scores", "", ("a", "b"), [(math.nan, math.inf)], [bound])
    assert "FAILS: gain = nan" in section.to_text()
    assert "| nan | inf |" in section.to_markdown()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("models", ["nuclei"]),
        ("volumes", ["--only", "real"]),
        ("volumes", ["--noise", "0.5"]),
    ],
)
def test_a_part_does_not_write_the_whole_page(
    load: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    arguments: list[str],
) -> None:
    assert refused(load(name), monkeypatch, *arguments, "--write-docs") == 2
    assert "--write-docs needs all" in capsys.readouterr().err


def test_scores_begin_only_if_all_models_are_there(
    load: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = load("models")
    assert refused(models, monkeypatch, "cyto") == 2
    assert "cyto is not scored here; the models are nuclei, " in capsys.readouterr().err

    def find_model(name: str) -> Any:
        raise ModelNotFoundError(f"The model {name} is not here.", hint="Get it.")

    monkeypatch.setattr(models, "find_model", find_model)
    assert refused(models, monkeypatch) == "The model nuclei is not here. Get it."


def test_a_true_diameter_is_the_same_everywhere(load: Any) -> None:
    data = load("_data")
    np = load("numpy")
    plane = np.zeros((9, 9), np.int32)
    assert data.true_diameter({"median_diameter_px": "12.5"}, plane) == 12.5
    ball = np.indices((21, 21, 21)) - 10
    masks = ((ball**2).sum(0) <= 64).astype(np.int32)
    assert data.true_diameter({"median_diameter_px": "3"}, masks) == pytest.approx(16, abs=0.5)


def one_image(runtime: str, network: float) -> dict[str, Any]:
    """Give figures of one image as they are kept; the bound of fp32 is at 15.1 s."""

    def answer(seconds: float, name: str) -> dict[str, Any]:
        run = {"side": 2048, "whole": seconds + 2, "network": seconds, "objects": 5}
        executed = {"name": name, "version": "1", "kernels": ["k"]}
        return {"runs": [run], "peak": 10**9, "runtime": executed}

    ours = {name: [answer(network, runtime)] for name in ("ours, fp32", "ours, bf16")}
    peers = {name: [answer(40.0, "")] for name in ("peer", "peer, mkldnn off")}
    ceilings = [{"fp32": 200.0, "bf16": 400.0, "tile": 31.0}]
    return {"threads": 2, "answers": ours | peers, "ceilings": ceilings}


def test_the_page_says_only_what_was_measured(load: Any) -> None:
    page = load("_performance_page")
    section = page.describe_one_image(one_image("winograd", 8.0), page.PLAIN)
    assert [row[1:4] for row in section.rows[::2]] == [
        ["8.00", "2.00", "10.00"],
        ["40.00", "2.00", "42.00"],
    ]
    assert not [bound for bound in section.bounds if "bf16" in bound.name]
    assert any(note.startswith("The speed of bf16 has no bounds here") for note in section.notes)
    assert section.notes[-1].endswith("in-fp32.md)), and so passes that bound.")

    slow = page.describe_one_image(one_image("winograd", 20.0), page.PLAIN)
    assert slow.notes[-1].endswith("in-fp32.md)).")
    other = page.describe_one_image(one_image("openvino", 8.0), page.AMX)
    assert "In fp32 this is openvino, not the engine's own kernels" in other.notes[-1]
    assert len([bound for bound in other.bounds if "bf16" in bound.name]) == 3


def test_what_the_peer_would_take_is_marked_as_an_estimate(load: Any) -> None:
    page = load("_performance_page")
    ours = {"10": 1.0, "500": 50.0}
    figures = {
        "seconds": {"ours, fp32": ours, "ours, bf16": ours, "peer": {"10": 20.0, "60": 70.0}}
    }
    section = page.describe_many(figures, page.PLAIN)
    assert section.rows[-1] == [500, "50.0", "50.0", "510.0 (estimated)"]
    assert section.rows[1] == [60, "", "", "70.0"]
    assert [bound.value for bound in section.bounds] == [10.2, 10.2]

    figure = load("matplotlib.figure").Figure()
    panel = figure.subplots()
    page.draw_panel(panel, figures["seconds"], "images", {"peer": 510.0})
    *_, measured, estimate = panel.get_lines()
    assert list(measured.get_xdata()) == [10, 60]
    assert (estimate.get_label(), estimate.get_markerfacecolor()) == ("peer, estimated", "white")


def test_a_part_tells_the_state_of_the_code(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = load("_parts")
    monkeypatch.setattr(parts, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(parts, "describe_commit", lambda: "abc123 with changes")
    content = parts.keep("one", {"seconds": {10: 1.0}}, {"cellpose": "3"})
    assert content == parts.find("one")
    assert content["figures"] == {"seconds": {"10": 1.0}}
    assert ", commit abc123 with changes; python " in parts.describe_origin(content)
    assert parts.describe_origin(content).endswith("; the peer: cellpose 3")
    del content["commit"]
    assert ", commit not recorded; " in parts.describe_origin(content)


def test_without_images_all_else_is_measured(
    load: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    performance = load("performance")
    measured: list[str] = []
    monkeypatch.setattr(performance, "is_installed", lambda: True)

    def measure(parts: list[str], _: object) -> bool:
        measured.extend(parts)
        return True

    monkeypatch.setattr(performance, "measure", measure)
    assert run(performance, monkeypatch, "--data", tmp_path) == 0
    assert measured == ["one-image", "sizes", "many"]
    said = capsys.readouterr().err
    assert (
        said
        == f"Left out: the part precision needs labelled images, which {tmp_path} does not have.\n"
    )
    part = ("--part", "precision", "--data", tmp_path)
    assert refused(performance, monkeypatch, *part) == 2


def test_steps_of_another_run_are_refused(load: Any, tmp_path: Path) -> None:
    loop = load("_loop")
    facts = {"epochs": 5, "validation": 7, "machine": "A", "versions": {"torch": "1"}}
    start = loop.Round("", 0, 0, pooled=0.2, mean=0.2)
    best = loop.Round("all", 3, 500, pooled=0.8, mean=0.8)
    steps = loop.Steps(tmp_path, facts)
    for key, step in (("start", start), ("all", best)):
        steps.keep(key, step)
    assert loop.Steps(tmp_path, dict(facts)).rounds == {"start": start, "all": best}
    with pytest.raises(loop.StaleStepsError, match=r"\(different: epochs, machine\).*--fresh"):
        loop.Steps(tmp_path, {**facts, "epochs": 6, "machine": "B"})
    (tmp_path / "rounds.json").write_text('{"start": {}}')  # of a time before facts were kept
    with pytest.raises(loop.StaleStepsError, match="--fresh"):
        loop.Steps(tmp_path, facts)

    one = loop.Round("a", 1, 150, 10, 150, 2, 0.75, 0.75)
    lines = list(loop.page([start, one, best], facts))
    assert "* Machine: A; torch 1." in lines
    assert any("(5 epochs, " in line and "on 7 other images" in line for line in lines)


def test_what_the_loop_depends_on(load: Any, tmp_path: Path) -> None:
    loop = load("_loop")
    names = "path,role,kind"
    (tmp_path / "manifest.csv").write_text(f"{names}\na,train,phase\nb,val,phase\nc,val,fluo\n")
    for name in "ab":
        for part in ("img", "masks"):
            (tmp_path / f"{name}_{part}.tif").write_text(name)
    facts = loop.gather_facts(tmp_path, 3)
    assert facts == loop.gather_facts(tmp_path, 3)
    assert (facts["epochs"], facts["validation"]) == (3, 1)
    assert facts["first_model"]["sha256"] == list(find_model("nuclei").sha256)
    (tmp_path / "b_masks.tif").write_text("corrected")
    changed = loop.gather_facts(tmp_path, 3)
    assert [name for name in facts if facts[name] != changed[name]] == ["data_sha256"]


READY = "import pathlib, sys, time; pathlib.Path(sys.argv[1], 'engine.json').write_text('{}'); "


def test_an_engine_that_ends_is_no_measurement(load: Any, tmp_path: Path) -> None:
    running_engine = load("_engine").running_engine
    command = [sys.executable, "-c", "raise SystemExit(3)", str(tmp_path)]
    with (
        pytest.raises(RuntimeError, match="ended at once, with status 3"),
        running_engine(command, tmp_path, os.environ),
    ):
        pytest.fail("it was measured all the same")

    command[2] = READY + "time.sleep(60)"
    with running_engine(command, tmp_path, os.environ):
        pass
    (tmp_path / "engine.json").unlink()
    command[2] = READY + "sys.exit(4)"
    with (
        pytest.raises(RuntimeError, match="ended while it was measured, with status 4"),
        running_engine(command, tmp_path, os.environ),
    ):
        time.sleep(5)


def test_a_curve_is_told_from_what_it_was_made_with(
    load: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    curve = load("learning_curve")
    recipe = {"epochs": 25, "images_per_epoch": 8, "batch_size": 8, "optimizer": "sgd"}
    recipe |= {"learning_rate": 0.1, "precision": "fp32"}
    start = {"name": "nuclei", "sha256": "0" * 64}
    facts = {"recipe": recipe, "training": [], "test": [], "start": start, "diameter_px": 20.0}
    facts |= {"summary": [], "points": [{"seconds": 60, "objects": 5}]}
    (tmp_path / "learning_curve.json").write_text(json.dumps(facts))
    section = curve.curve_section(facts, {"machine": "A", "cores": 3})
    assert "(25 steps; " in section.text
    assert [bound.value for bound in section.bounds if "CPU" in bound.name] == [3]
    assert "FAILS: gain" in section.to_text()
    assert "CPU" not in curve.curve_section(facts, None).to_text()

    out = ("--out", tmp_path)
    assert "learning_curve.png is not there" in str(
        refused(curve, monkeypatch, *out, "--report-only", "--write-docs")
    )
    (tmp_path / "machine.json").write_text('{"machine": "B", "cores": 1}')
    assert run(curve, monkeypatch, *out) == 2
    assert "were made on B, and their minutes cannot stand" in capsys.readouterr().err
