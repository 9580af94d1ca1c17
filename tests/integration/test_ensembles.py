"""Ensembles: made, installed, run, passed on, and refused where networks do not go together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg_engine.errors import ModelNotFoundError, SettingsError, WeightsError
from cellseg_engine.nets.card import WeightsFile, file_sha256, read_weights, write_weights
from cellseg_engine.train.ensemble import train_ensemble
from cellseg_engine.train.state import TrainingProgress
from cellseg_engine.zoo.store import import_model, load_model, read_model
from tests.integration.cli import Cli
from tests.integration.training import disks, draw_pairs, quick_options, small_network

QUICK = (
    "--recipe", "quick", "--precision", "fp32", "--epochs", 2, "--images-per-epoch", 2,
    "--batch-size", 2, "--crop-px", 32, "--diam-mean-px", 16, "--n-channels", 1, "--no-size-model",
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def trained(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ensemble of two networks."""
    out = tmp_path_factory.mktemp("out") / "pair"
    with small_network():
        train_ensemble(quick_options(pairs, out, epochs=2, images_per_epoch=2), 2)
    return out


def test_made_run_installed_and_exported(
    cli: Cli, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLSEG_MODELS", str(tmp_path / "models"))
    out = tmp_path / "pair"
    made = cli("train", pairs, "--out", out, *QUICK, "--networks", 2)
    assert made.code == 0, made.err
    assert "2 networks whose outputs are averaged" in made.out
    files = [out / "pair_1.safetensors", out / "pair_2.safetensors"]
    hashes = [file_sha256(path) for path in files]
    assert len(set(hashes)) == 2
    held_out = [
        json.loads((out / f"network_{number}/training.json").read_text())["plan"]["held_out"]
        for number in (1, 2)
    ]
    assert held_out[0] == held_out[1] != []

    run = ("segment", pairs / "0_img.tif", "--diameter-px", 16, "--device", "cpu")
    assert cli(*run, "--out", tmp_path / "a", "--model", f"{out}/").code == 0
    imported = cli("models", "import", out, "--name", "both", "--licence", "CC0-1.0")
    assert "Imported both (2 networks): licence CC0-1.0" in imported.out
    assert cli(*run, "--out", tmp_path / "b", "--model", "both").code == 0
    by_path, by_name = (
        json.loads((tmp_path / folder / "0_img_run.json").read_text())["model"]
        for folder in ("a", "b")
    )
    assert by_path["weights_sha256"] == hashes
    assert by_name["weights_sha256"] == [file.sha256 for file in read_model("both")]
    assert (by_name["name"], by_name["licence"]) == ("both", "CC0-1.0")
    methods = cli("about", "--run", tmp_path / "b" / "0_img_run.json").out.replace("\n", " ")
    assert "the average of 2 networks, weights SHA-256" in methods
    assert all(sha256 in methods for sha256 in by_name["weights_sha256"])
    labels = [(tmp_path / folder / "0_img_labels.tif").read_bytes() for folder in ("a", "b")]
    assert labels[0] == labels[1]

    assert "both  (imported, ensemble of 2)" in cli("models", "list").out
    assert json.loads(cli("models", "info", "both", "--json").out)["networks"] == 2
    assert cli("models", "export", "both", tmp_path / "both.pth").code == 0
    assert {path.name for path in tmp_path.glob("*.pth")} == {"both_0.pth", "both_1.pth"}
    refused = cli("train", pairs, "--out", tmp_path / "no", *QUICK, "--start-from", "both")
    assert refused.code == 2
    assert "both is an ensemble of 2 networks; a training starts from one" in refused.err
    assert cli("models", "remove", "both").code == 0


def test_fields_are_the_mean_and_the_style_is_the_first(trained: Path) -> None:
    image = np.random.default_rng(0).normal(size=(1, 48, 40)).astype(np.float32)
    first, second = (
        load_model(str(trained / f"pair_{number}.safetensors"), "cpu").predict(image)
        for number in (1, 2)
    )
    both = load_model(f"{trained}/", "cpu").predict(image)
    np.testing.assert_allclose(both.flows, (first.flows + second.flows) / 2, atol=1e-5)
    np.testing.assert_allclose(both.logit, (first.logit + second.logit) / 2, atol=1e-5)
    np.testing.assert_allclose(both.style, first.style, atol=1e-6)
    assert np.abs(first.logit - second.logit).max() > 1e-3


class _Stop(Exception):
    """Ends a training from outside."""


def test_it_goes_on_with_the_network_it_was_at(pairs: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "pair"
    options = quick_options(pairs, out, epochs=2, images_per_epoch=2)
    seen: list[tuple[int, int, int]] = []

    def stop(progress: TrainingProgress) -> None:
        if progress.stage == "training":
            seen.append((progress.done, progress.total, progress.epoch))
            if progress.done == 3:
                raise _Stop

    with pytest.raises(_Stop):
        train_ensemble(options, 2, stop)
    assert seen == [(1, 4, 1), (2, 4, 2), (3, 4, 3)]
    assert not list(out.glob("*.safetensors"))
    train_ensemble(options, 2, lambda now: seen.append((now.done, now.total, now.epoch)))
    assert (1, 4, 1) not in seen[3:]
    for name in ("pair_1.safetensors", "pair_2.safetensors"):
        assert file_sha256(out / name) == file_sha256(trained / name)


def changed(file: WeightsFile, path: Path, **changes: object) -> Path:
    write_weights(path, file.card.with_changes(**changes), file.arrays)
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flow_variant": "v2"}, "differ in the flow targets that they were trained on: v2 and v3"),
        ({"diam_mean_px": 30.0}, "differ in the diameter at which they see objects: 16.0 and 30.0"),
        ({}, "Two networks of the ensemble pair are the same file"),
    ],
)
def test_networks_that_do_not_go_together(
    trained: Path, tmp_path: Path, changes: dict[str, object], words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("CELLSEG_MODELS", str(tmp_path / "models"))
    first = read_weights(trained / "pair_1.safetensors")
    folder = tmp_path / "ensemble"
    folder.mkdir()
    paths = [changed(first, folder / f"{n}.safetensors", **(changes if n else {})) for n in (0, 1)]
    with pytest.raises(WeightsError, match=words):
        import_model(paths, "pair")
    assert not (tmp_path / "models" / "pair").exists()
    with pytest.raises(WeightsError, match=words.replace("pair", ".*")):
        load_model(f"{folder}/", "cpu")


def test_use_that_makes_no_ensemble(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"no weights files \(\.safetensors\) in"):
        read_model(f"{tmp_path}/empty/")
    (tmp_path / "m").mkdir()
    (tmp_path / "m/old.safetensors").write_bytes(b"")
    other = cli("train", pairs, "--out", tmp_path / "m", *QUICK, "--networks", 2)
    assert other.code == 2
    assert "old.safetensors would be taken for a network of the ensemble" in other.err
    sizes = cli("train", pairs, "--out", tmp_path / "m", *QUICK, "--networks", 2, "--epochs", 0)
    assert sizes.code == 2
    assert "With 0 epochs all networks of an ensemble are the same" in sizes.err


def test_weights_of_others_are_no_network_of_an_ensemble_that_is_begun(
    pairs: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pair"
    out.mkdir()
    precious = out / "pair_1.safetensors"
    precious.write_bytes(b"precious")
    options = quick_options(pairs, out, epochs=2, images_per_epoch=2)
    with pytest.raises(SettingsError, match=r"pair_1\.safetensors would be taken for a network"):
        train_ensemble(options, 2)
    assert precious.read_bytes() == b"precious"
    assert {path.name for path in out.iterdir()} == {precious.name}
    result = train_ensemble(replace(options, overwrite=True), 2)
    assert file_sha256(precious) == file_sha256(trained / precious.name)
    assert train_ensemble(options, 2) == result
    (out / "network_1" / "training.json").write_text("damaged")
    train_ensemble(replace(options, overwrite=True), 2)
    assert file_sha256(precious) == file_sha256(trained / precious.name)


def test_what_is_left_out_is_told(cli: Cli, tmp_path: Path) -> None:
    folder = draw_pairs(tmp_path / "in")
    image, labels = disks(64, 9)
    tifffile.imwrite(folder / "lonely.tif", image)
    tifffile.imwrite(folder / "scattered_img.tif", image)
    labels[labels == 2] = 1
    tifffile.imwrite(folder / "scattered_masks.tif", labels)
    given = ("train", folder, "--out", tmp_path / "pair", *QUICK, "--networks", 2)
    made = cli(*given)
    assert made.code == 0, made.err
    assert "lonely.tif: image left out: no annotation" in made.err
    assert "scattered: labels: 1 disjoint labels split" in made.err
    assert cli(*given, "--json").events[-1]["left_out"] == 1
