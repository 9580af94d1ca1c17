"""What weights files say about themselves: wrong values are refused, and diameters must agree."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from cellseg_engine.errors import WeightsError
from cellseg_engine.nets.card import ModelCard, read_card, read_weights, write_weights
from cellseg_engine.nets.size_model import SizeModel, write_official_size_model
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.nets.weights import load_weights
from cellseg_engine.zoo.store import MODELS_VARIABLE
from tests.integration.cli import Cli, official

CARD = {"format": 2, **asdict(ModelCard("x", 2, 17.0, 17.0))}
SIZE = SizeModel(np.zeros(256), np.ones(256), 17.0, 0.25)


def own_file(path: Path, card: object, arrays: dict[str, np.ndarray] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays or {"a": np.zeros(1)}, path, metadata={"cellseg": json.dumps(card)})
    return path


@pytest.mark.parametrize(
    "values",
    [
        *([1], 1, "x", None),
        *({"diameter_range_px": value} for value in (None, [1, 2, 3], ["a", "b"], [1, -1])),
        *({"diam_mean_px": value} for value in ("abc", 0, -17.0, float("nan"), 1e9, 10**400)),
        *({"n_channels": value} for value in ("2", -1, 0, 2.0, 10**9)),
        {"diam_labels_px": 0.0},
        {"flow_variant": []},
        {"flow_variant": "v9"},
        {"name": 5},
        {"licence": None},
    ],
)
def test_cards_with_wrong_values_are_refused(tmp_path: Path, values: object) -> None:
    card = {**CARD, **values} if isinstance(values, dict) else values
    with pytest.raises(WeightsError, match=r"x\.safetensors (is|has|names) "):
        read_card(own_file(tmp_path / "x.safetensors", card))


@pytest.mark.parametrize("step", [None, 1, 3])
def test_steps_of_eight_bits_that_do_not_fit(tmp_path: Path, step: int | None) -> None:
    arrays: dict[str, np.ndarray] = {"a": np.ones((2, 3), np.int8)}
    if step:
        arrays["a::step"] = np.ones(step, np.float32)
    with pytest.raises(WeightsError, match=f"needs one step .* and has {step or 'none'}"):
        read_weights(own_file(tmp_path / "x.safetensors", CARD, arrays))


def test_one_bad_file_does_not_hide_the_other_models(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    own_file(tmp_path / "bad/0.safetensors", [1])
    own_file(tmp_path / "worse/0.safetensors", {**CARD, "diameter_range_px": None})
    own_file(tmp_path / "good/0.safetensors", {**CARD, "description": "Mine."})
    own_file(tmp_path / "good/.1.safetensors", [1])  # half-written
    listed = cli("models", "list")
    assert listed.code == 0
    assert "good  (imported)\n    Mine.\n" in listed.out
    for name in ("bad", "worse"):
        assert f"{name}  (imported)\n    cannot be used: {tmp_path / name}" in listed.out


def network(path: Path, *, with_diameters: bool = False) -> Path:
    state = ResidualUNet(2).state_dict()
    if not with_diameters:
        state = {k: v for k, v in state.items() if not k.startswith("diam_")}
    torch.save(state, path)
    return path


def test_the_size_model_says_the_diameter_where_the_network_does_not(tmp_path: Path) -> None:
    path = network(tmp_path / "mine.pth")
    guess = load_weights(path).card
    assert (guess.diam_mean_px, guess.diam_mean_is_guessed) == (30, True)
    assert load_weights(path, diam_mean_px=12).card.diam_mean_px == 12
    write_official_size_model(tmp_path / "size_mine.npy", SIZE)
    card = load_weights(path).card
    assert (card.diam_mean_px, card.diam_labels_px, card.diam_mean_is_guessed) == (17, 17, False)


def test_diameters_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = network(tmp_path / "mine.pth", with_diameters=True)
    weights = load_weights(path)
    own = tmp_path / "own.safetensors"
    write_weights(own, weights.card, weights.arrays, SIZE)
    write_official_size_model(tmp_path / "size_mine.npy", SIZE)
    for file in (path, own):
        with pytest.raises(WeightsError, match=r"the network .* 30 px, and its size model says 17"):
            load_weights(file)
    network(path)
    with pytest.raises(WeightsError, match=r"size model .* 17 px, and diam_mean_px says 30 px"):
        load_weights(path, diam_mean_px=30)


def test_an_import_says_what_it_guesses(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))
    path = network(tmp_path / "mine.pth")
    guessed = cli("models", "import", path)
    assert "objects are seen at 30 px (guessed)" in guessed.out
    assert "--diam-mean-px" in guessed.err
    given = cli("models", "import", path, "--name", "given", "--diam-mean-px", 12)
    assert "objects are seen at 12 px." in given.out
    assert given.code == 0
    for wrong in ("nan", "-3"):
        refused = cli("models", "import", path, "--name", "x", "--diam-mean-px", wrong)
        assert (refused.code, "it must be a positive number of pixels" in refused.err) == (2, True)


def test_an_exported_ensemble_keeps_its_size_model_and_says_its_flows(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))
    size_file = tmp_path / "any.npy"
    write_official_size_model(size_file, SizeModel(np.zeros(256), np.ones(256), 30.0, 0.25))
    files = [official(tmp_path / f"net_{seed}.pth", seed) for seed in range(2)]
    flows = ("--flow-variant", "v2")
    made = cli("models", "import", *files, "--name", "a", "--size-model", size_file, *flows)
    assert made.code == 0, made.err
    exported = cli("models", "export", "a", tmp_path / "out.pth")
    assert exported.code == 0, exported.err
    assert "import it with --flow-variant v2, or it is taken for v3" in exported.err
    again = [tmp_path / f"out_{number}.pth" for number in range(2)]
    assert cli("models", "import", *again, "--name", "b", *flows).code == 0
    for name in "ab":
        about = json.loads(cli("models", "info", name, "--json").out)
        assert (about["size_model"], about["flow_variant"]) == (True, "v2")


def test_the_folder_of_models_may_be_in_the_users_home(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv(MODELS_VARIABLE, "~/mine")
    assert (
        cli("models", "list").out.rstrip().endswith(f"Imported models are in {tmp_path / 'mine'}.")
    )
