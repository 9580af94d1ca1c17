"""tools/ship_model.py: what it takes into the repository, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellseg_engine.nets.card import ModelCard, file_sha256, read_weights, write_weights
from cellseg_engine.zoo import store
from tools import ship_model
from tools.catalogue import note_agreement

CATALOGUE = """\
# The models.

[first]
source = "shipped"
files = ["first.safetensors"]
sha256 = ["abc"]
bf16_agreement = 0.995
"""


@dataclass(frozen=True)
class Places:
    """The folders of a repository of its own, and that of a finished training."""

    training: Path
    shipped: Path
    separate: Path
    catalogue: Path

    def ship(self, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
        monkeypatch.setattr(sys, "argv", ["ship_model.py", str(self.training), *more])
        return ship_model.main()

    def files(self) -> dict[str, bytes]:
        parts = (self.shipped, self.separate, self.catalogue.parent)
        return {path.name: path.read_bytes() for part in parts for path in part.glob("*.*")}

    def entries(self) -> dict[str, Any]:
        return tomllib.loads(self.catalogue.read_text())


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    made = Places(
        tmp_path / "out", tmp_path / "weights", tmp_path / "models", tmp_path / "zoo/models.toml"
    )
    for folder in (made.training, made.shipped, made.separate, made.catalogue.parent):
        folder.mkdir()
    made.catalogue.write_text(CATALOGUE)
    monkeypatch.setattr(store, "SHIPPED_FOLDER", made.shipped)
    monkeypatch.setattr(store, "CHECKOUT_FOLDER", made.separate)
    monkeypatch.setattr(store, "CATALOGUE", made.catalogue)
    write_training(made.training, "nuclei")
    return made


def write_training(folder: Path, name: str) -> None:
    """Write what `cellseg train` leaves, with weights of two numbers."""
    card = ModelCard(name, 2, 17.0, 17.0, description="Nuclei.")
    path = folder / f"{name}.safetensors"
    write_weights(path, card, {"output.2.weight": np.array([[0.5, -1.0]], np.float32)})
    record = {
        "complete": True,
        "fingerprint": "here",
        "paths": ["/home/me"],
        "plan": {"name": name, "training": [1]},
        "training": ["an image"],
        "held_out": [],
        "model": path.name,
        "model_sha256": file_sha256(path),
        "card": asdict(card),
    }
    (folder / "training.json").write_text(json.dumps(record))
    for suffix in ("csv", "png"):
        (folder / f"curves.{suffix}").write_text(suffix)


def change_record(folder: Path, **changes: Any) -> None:
    path = folder / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_training_is_shipped_and_says_what_is_next(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert places.ship(monkeypatch) == 0
    weights = places.shipped / "nuclei.safetensors"
    assert read_weights(weights).arrays["output.2.weight"] == pytest.approx(
        np.array([[0.5, -1.0]]), abs=0.01
    )
    assert places.entries()["nuclei"] == {
        "source": "shipped",
        "files": ["nuclei.safetensors"],
        "sha256": [file_sha256(weights)],
    }
    assert places.entries()["first"]["bf16_agreement"] == 0.995
    assert places.catalogue.read_text().startswith("# The models.\n\n[first]\n")
    kept = json.loads((places.separate / "nuclei.json").read_text())
    assert not {"paths", "fingerprint"} & kept.keys()
    assert (kept["plan"], kept["training"]) == ({"name": "nuclei"}, ["an image"])
    assert (places.separate / "nuclei-curves.png").read_text() == "png"
    said = capsys.readouterr().out
    for command in ("--part precision --write-docs", "models.py --write-docs", "make_style_index"):
        assert command in said


def test_a_model_that_moves_leaves_no_file_behind(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.ship(monkeypatch)
    assert places.ship(monkeypatch, "--separate") == 0
    assert not (places.shipped / "nuclei.safetensors").exists()
    assert (places.separate / "nuclei.safetensors").is_file()
    assert places.entries()["nuclei"]["source"] == "separate"
    assert places.entries()["nuclei"]["description"] == "Nuclei."


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: change_record(folder, complete=False), "is not finished"),
        (lambda folder: change_record(folder, model_sha256="0"), "its SHA-256 differs"),
        (lambda folder: change_record(folder, card={"name": "phase"}), "calls it phase"),
        (lambda folder: (folder / "curves.png").unlink(), "lacks curves.png"),
        (lambda folder: (folder / "nuclei.safetensors").unlink(), "lacks nuclei.safetensors"),
        (lambda folder: (folder / "training.json").unlink(), "holds no training"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Any,
    words: str,
) -> None:
    spoil(places.training)
    before = places.files()
    assert places.ship(monkeypatch) == 1
    assert places.files() == before
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_stopped_half_way_it_names_no_model(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = places.files()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(KeyboardInterrupt):
        places.ship(monkeypatch)
    assert places.files() == before


def test_agreement_is_noted_for_the_files_it_was_measured_on(places: Places) -> None:
    def noted(*values: float, sha256: str = "abc") -> float:
        parts = [{"agreement": {"first": one}, "weights": {"first": [sha256]}} for one in values]
        note_agreement([{"agreement": {"first": 0.1}}, *parts])
        return float(places.entries()["first"]["bf16_agreement"])

    assert noted(0.9, sha256="other") == 0.995
    assert noted(0.98999) == 0.9899
    assert noted(0.9943, 0.9991) == 0.9943
    assert noted(1.0) == 1.0
