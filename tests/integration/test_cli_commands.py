"""The other commands: models, evaluate, doctor, about, demo."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from cellseg_engine._version import __version__
from cellseg_engine.cli import doctor
from cellseg_engine.cli.main import COMMANDS
from cellseg_engine.zoo import store
from tests.integration.cli import Cli, draw, listing, official

ROOT = Path(__file__).parents[2]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLSEG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_every_command_explains_itself(cli: Cli) -> None:
    top = cli("--help").out
    for name, summary in COMMANDS.items():
        assert name in top
        outcome = cli(name, "--help")
        assert outcome.code == 0
        assert outcome.out.startswith(f"Usage: cellseg {name}")
        assert outcome.out.splitlines()[2].startswith("  " + summary.split()[0])
    assert cli("--version").out.startswith("cellseg, version")


def test_unknown_commands_are_refused(cli: Cli) -> None:
    outcome = cli("segmnt")
    assert outcome.code == 2
    assert "No such command 'segmnt'" in outcome.err


def test_models_are_listed_and_explained(cli: Cli, models: Path) -> None:
    assert "nuclei  (shipped)" in cli("models", "list").out
    entries = json.loads(cli("models", "list", "--json").out)
    assert entries[0]["name"] == "nuclei"
    info = json.loads(cli("models", "info", "nuclei", "--json").out)
    assert info["licence"] == "CC0-1.0"
    assert info["size_model"] is True
    assert info["flow_variant"] == "v3"
    low, high = info["diameter_range_px"]
    assert low < 10
    assert high > 60
    assert "licence: CC0-1.0" in cli("models", "info", "nuclei").out


def test_importing_using_exporting_removing(cli: Cli, models: Path, tmp_path: Path) -> None:
    path = official(tmp_path / "mine.pth")
    outcome = cli("models", "import", path, "--licence", "CC-BY-4.0", "--origin", "our lab")
    assert outcome.code == 0, outcome.err
    assert json.loads(cli("models", "info", "mine", "--json").out)["licence"] == "CC-BY-4.0"

    image = draw(tmp_path / "a.tif")
    run = ("segment", image, "--diameter-px", 30, "--json", "--model")
    by_name = cli(*run, "mine", "--out", tmp_path / "1")
    by_path = cli(*run, path, "--out", tmp_path / "2")
    assert by_name.code == by_path.code == 0, by_name.err
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "1/a_labels.tif"), tifffile.imread(tmp_path / "2/a_labels.tif")
    )
    record = json.loads((tmp_path / "1/a_run.json").read_text())
    assert (record["model"]["licence"], record["model"]["origin"]) == ("CC-BY-4.0", "our lab")

    exported = tmp_path / "exported.pth"
    assert cli("models", "export", "mine", exported).code == 0
    state = torch.load(exported, weights_only=True)
    for name, value in torch.load(path, weights_only=True).items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    assert "is there already" in cli("models", "export", "mine", exported).err
    assert cli("models", "export", "mine", exported, "--force").code == 0

    again = cli("models", "import", path)
    assert (again.code, "is there already" in again.err) == (2, True)
    assert cli("models", "remove", "mine").code == 0
    assert cli("models", "info", "mine").code == 2
    assert "is shipped" in cli("models", "remove", "nuclei").err


@pytest.mark.parametrize("target", ["", ".", "x.safetensors"])
def test_export_targets_that_are_no_weights_file(cli: Cli, target: str) -> None:
    outcome = cli("models", "export", "nuclei", target)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err


def test_export_takes_names_without_suffix(cli: Cli, models: Path, tmp_path: Path) -> None:
    assert cli("models", "export", "nuclei", tmp_path / "nuclei").code == 0
    assert json.loads(cli("models", "info", tmp_path / "nuclei", "--json").out)["size_model"]


@pytest.mark.parametrize("name", ["~nobody-here/x.pth", "x" * 300, "~" + "x" * 300 + ".pth"])
def test_names_that_no_file_can_have(cli: Cli, tmp_path: Path, name: str) -> None:
    for arguments in (
        ("models", "info", name),
        ("segment", draw(tmp_path / "a.tif"), "--out", tmp_path / "o", "--model", name),
    ):
        outcome = cli(*arguments)
        assert outcome.code == 2
        assert name in outcome.err


def test_an_ensemble_averages_its_networks(cli: Cli, models: Path, tmp_path: Path) -> None:
    from cellseg_engine.zoo.store import load_model

    paths = [official(tmp_path / f"net_{seed}", seed) for seed in range(3)]
    assert cli("models", "import", *paths, "--name", "trio").code == 0
    assert "ensemble of 3" in cli("models", "list").out
    image = np.random.default_rng(0).normal(size=(2, 100, 90)).astype(np.float32)
    single = [load_model(str(path), "cpu").predict(image) for path in paths]
    together = load_model("trio", "cpu").predict(image)
    np.testing.assert_allclose(
        together.flows, np.mean([fields.flows for fields in single], axis=0), atol=1e-6
    )
    np.testing.assert_allclose(together.style, single[0].style, atol=1e-7)
    assert cli("models", "export", "trio", tmp_path / "out.pth").code == 0
    assert (tmp_path / "out_2.pth").exists()


def test_a_failed_import_leaves_nothing(cli: Cli, models: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_text("no weights")
    for arguments, words in (
        ((tmp_path / "bad.pth",), "damaged or not a weights file"),
        ((tmp_path / "nowhere.pth",), "There is no weights file"),
        ((official(tmp_path / "ok.pth"), "--name", "../evil"), "cannot name a model"),
        ((official(tmp_path / "ok.pth"), "--name", "nuclei"), "is there already"),
    ):
        outcome = cli("models", "import", *arguments)
        assert outcome.code == 2
        assert words in outcome.err
        assert listing(models) == {}


def test_a_misspelt_model_gets_a_guess(cli: Cli, tmp_path: Path) -> None:
    outcome = cli(
        "segment", draw(tmp_path / "a.tif"), "--out", tmp_path / "o", "--model", "nucelei"
    )
    assert outcome.code == 2
    assert "Did you mean nuclei?" in outcome.err
    assert "Loading the model" not in outcome.err


@pytest.mark.parametrize("name", ["cyto", "cyto3", "CPx", "tissuenet_cp3"])
def test_names_of_official_weights_are_explained(cli: Cli, name: str) -> None:
    outcome = cli("models", "info", name)
    assert outcome.code == 2
    assert "Official Cellpose weights are not shipped: `cellseg models import FILE`" in outcome.err


def test_the_registry_describes_a_model_before_its_card(cli: Cli) -> None:
    entry = store.find_model("nuclei-provisional")
    assert entry.description
    assert f"nuclei-provisional  (separate)\n    {entry.description}\n" in cli("models", "list").out


def test_evaluate(cli: Cli, tmp_path: Path) -> None:
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    truth.mkdir()
    image = draw(tmp_path / "in/a.tif")
    assert cli("segment", image, "--out", pred, "--diameter-px", 24).code == 0
    labels = tifffile.imread(pred / "a_labels.tif")
    tifffile.imwrite(truth / "a_masks.tif", np.where(labels == 2, 0, labels))
    table = tmp_path / "scores.csv"
    outcome = cli("evaluate", "--pred", pred, "--truth", truth, "--csv", table)
    assert outcome.code == 0, outcome.err
    assert "pooled" in outcome.out.lower()
    assert "mean per image" in outcome.out.lower()
    assert "0.750" in outcome.out
    assert len(table.read_text().splitlines()) == 2
    scores = json.loads(cli("evaluate", "--pred", pred, "--truth", truth, "--json").out)
    assert json.dumps(scores).count("0.75") >= 2
    for arguments, words in (
        (("--pred", pred, "--truth", tmp_path / "none"), "none"),
        (("--pred", table, "--truth", truth / "a_masks.tif"), "scores.csv"),
    ):
        refused = cli("evaluate", *arguments)
        assert refused.code == 2
        assert words in refused.err


def test_doctor(cli: Cli) -> None:
    outcome = cli("doctor")
    assert outcome.code == 0, outcome.out
    assert "test segmentation: works" in outcome.out
    findings = json.loads(cli("doctor", "--json").out)
    assert {"torch", "device", "models"} <= {finding["what"] for finding in findings}


def test_doctor_names_a_damaged_model(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellseg_engine.zoo import store

    (tmp_path / "nuclei.safetensors").write_bytes(b"spoilt")
    monkeypatch.setattr(store, "SHIPPED_FOLDER", tmp_path)
    outcome = cli("doctor")
    assert outcome.code == 1
    assert "PROBLEM  models: nuclei" in outcome.out
    assert "are missing or damaged" in outcome.out
    assert "-> Install cellseg-engine again." in outcome.out


def test_doctor_names_an_imported_model_that_is_cut_short(
    cli: Cli, models: Path, tmp_path: Path
) -> None:
    assert cli("models", "import", official(tmp_path / "m1.pth")).code == 0
    assert ", m1" in cli("doctor").out
    path = models / "m1/0.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    outcome = cli("doctor")
    assert outcome.code == 1
    assert "PROBLEM  models: m1 is missing or damaged" in outcome.out
    assert "-> Remove it (`cellseg models remove m1`) and import it again." in outcome.out


def test_doctor_says_which_setting_is_wrong(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLSEG_NETWORK_RUNTIME", "bogus")
    outcome = cli("doctor")
    assert outcome.code == 1
    assert "PROBLEM  device: " in outcome.out
    assert "bogus" in outcome.out
    assert "SettingsError" not in outcome.out
    assert "Install cellseg-engine again" not in outcome.out


def test_doctor_offers_only_extras_that_there_are() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    offered = "\n".join(install for _, install in doctor.OPTIONAL.values())
    named = set(re.findall(r"cellseg-engine\[(\w+)\]", offered))
    assert len(named) > 3
    assert named <= set(project["optional-dependencies"])


def test_about_states_what_was_used(cli: Cli, tmp_path: Path) -> None:
    assert "Stringer C" in cli("about").out
    cli("segment", draw(tmp_path / "a.tif"), "--out", tmp_path / "o", "--diameter-px", 24)
    text = cli("about", "--run", tmp_path / "o/a_run.json").out
    (sha256,) = json.loads((tmp_path / "o/a_run.json").read_text())["model"]["weights_sha256"]
    assert f"nuclei (version 1, weights SHA-256 {sha256}, CC0-1.0)" in text
    assert "Objects with an area below 15 px², more than 40% of the image or" in text
    assert f"CellSeg Bridges developers (2026). CellSeg Bridges {__version__}" in text
    assert "the object diameter was set to 24.0 px" in text
    assert "a flow error above 0.4 were removed" in text
    (tmp_path / "part.json").write_text('{"settings": {}, "model": {"weights_sha256": ["x"]}}')
    assert "is not a run.json" in cli("about", "--run", tmp_path / "part.json").err
    assert "cannot be read: No such file" in cli("about", "--run", tmp_path / "none.json").err
    outcome = cli("about", "--run", tmp_path / "a.tif")
    assert (outcome.code, "is not a run.json" in outcome.err) == (2, True)


def test_about_states_what_was_used_in_volumes(cli: Cli, tmp_path: Path) -> None:
    z, y, x = np.mgrid[:20, :48, :48]
    ball = 200 * (((z - 10) ** 2 + (y - 24) ** 2 + (x - 24) ** 2) < 8**2)
    tifffile.imwrite(
        tmp_path / "v.tif", ball.astype(np.uint8), imagej=True, metadata={"axes": "ZYX"}
    )
    options = ("--diameter-px", 16, "--anisotropy", 1, "--flow-smoothing-px", 0.5)
    side = ("--model", "nuclei3d", "--model-side-views", "nuclei")
    for mode in ("fuse", "cellpose3"):
        out = tmp_path / mode
        cli("segment", tmp_path / "v.tif", "--out", out, "--volume-mode", mode, *options, *side)
    text = cli("about", "--run", tmp_path / "fuse/v_run.json").out
    assert "average of" not in text
    assert "in all XZ and YZ slices the model nuclei (version 1, weights SHA-256" in text
    assert (
        "averaged and its flow smoothed by a Gaussian with a standard deviation of 0.5 px" in text
    )
    assert "; planes were 1 times as far apart as pixels" in text
    assert (
        "Objects with a volume below 15 voxels, a volume below 10% of the median, more than 40% of "
        "the image or a flow error above 0.8 were removed." in text
    )
    assert "an area" not in text
    assert text.count("(training data)") == 2
    assert "Wolny" in text
    text = cli("about", "--run", tmp_path / "cellpose3/v_run.json").out
    assert "was summed as in Cellpose 3" in text
    assert "a volume below 15 voxels or more than 40% of the image were removed." in text


def test_about_states_the_percentiles_of_a_second_look(cli: Cli, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).normal(100, 3, (400, 400))
    y, x = np.mgrid[:400, :400]
    pixels[np.hypot(y - 150, x - 220) < 12] += 400
    tifffile.imwrite(tmp_path / "one.tif", pixels.astype(np.uint16))
    cli("segment", tmp_path / "one.tif", "--out", tmp_path / "o", "--diameter-px", 24)
    look = json.loads((tmp_path / "o/one_run.json").read_text())["second_look"]
    text = cli("about", "--run", tmp_path / "o/one_run.json").out
    assert (
        "the 1 and 99 percentiles and, since these showed background only, to the 1 and "
        f"{look['percentile_high']:.6g} percentiles;" in text
    )


def test_demo_can_be_repeated(cli: Cli, tmp_path: Path) -> None:
    first = cli("demo", "--out", tmp_path / "demo")
    assert first.code == 0, first.err
    assert "_overlay.png" in first.out
    assert str((tmp_path / "demo").resolve()) in first.out
    second = cli("demo", "--out", tmp_path / "demo")
    assert second.code == 0
    assert "skipped" in second.out
