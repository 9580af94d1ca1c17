"""Fine-tunes that cannot be put into the list, and images that no training could read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError

from cellseg_engine.errors import ImageError, SettingsError, WriteError
from cellseg_engine.nets import card
from cellseg_engine.nets.card import ModelCard, read_weights, write_weights
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.train import finetune
from cellseg_engine.train.finetune import FineTuned, check_fine_tuning, fine_tune
from cellseg_engine.train.folder import RECORD, add_image
from cellseg_engine.zoo.store import import_model, list_models
from tests.integration.test_training_folder import SIZE, correction, squares, wanted
from tests.integration.training import small_network

NAN = np.where(np.arange(SIZE[1]) == 7, np.nan, np.ones(SIZE, np.float32)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a training folder with a small image, and an empty list of models."""
    monkeypatch.setenv("CELLSEG_MODELS", str(tmp_path / "models"))
    add_image(tmp_path / "mine", correction(squares(6), title="a.tif"))
    return tmp_path / "mine"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Path]:
    """Give a small random model."""
    with small_network():
        arrays = {key: value.numpy() for key, value in ResidualUNet(1).state_dict().items()}
        write_weights(tmp_path / "start.safetensors", ModelCard("start", 1, 16.0, 16.0), arrays)
        yield tmp_path / "start.safetensors"


def tune(folder: Path, start: Path, at_the_end: Any, **values: Any) -> FineTuned:
    given = check_fine_tuning(wanted(folder, start_from=str(start), **values))
    return fine_tune(given, lambda _: None, lambda _: None, at_the_end)


def test_an_automatic_name_that_is_taken_meanwhile_becomes_the_next(
    folder: Path, start: Path
) -> None:
    made = tune(folder, start, lambda: import_model([start], "mine-1"))
    assert made.model.name == "mine-2"
    assert {"mine-1", "mine-2"} <= {entry.name for entry in list_models()}
    assert tune(folder, start, lambda: None, name="mine-7").model.name == "mine-7"
    assert {path.name for path in folder.iterdir()} == {RECORD, "a_img.tif", "a_masks.tif"}


def test_a_chosen_name_that_is_taken_meanwhile_loses_no_training(folder: Path, start: Path) -> None:
    (folder / "cells.safetensors").write_bytes(b"mine")
    with pytest.raises(SettingsError, match="A model named cells is there already") as caught:
        tune(folder, start, lambda: import_model([start], "cells"), name="cells")
    kept = folder / "cells-2.safetensors"
    assert f"its weights are in {kept}." in caught.value.message
    assert f"cellseg models import {kept} --name" in caught.value.hint
    assert import_model([kept], "other").card().start_name == "start"
    assert (folder / "cells.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("module", "name", "error", "words"),
    [
        (card, "save_file", SafetensorError("I/O error: no (os error 28)"), "No space left on dev"),
        (finetune, "import_model", PermissionError(13, "Permission denied"), "Permission denied"),
    ],
)
def test_weights_that_cannot_be_stored_are_kept(
    folder: Path,
    start: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    error: Exception,
    words: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with pytest.raises(WriteError, match=f"mine-1 cannot be .*{words}.* in .*mine-1.safetensors"):
        tune(folder, start, lambda: monkeypatch.setattr(module, name, fail))
    assert read_weights(folder / "mine-1.safetensors").card.start_name == "start"
    assert "mine-1" not in {entry.name for entry in list_models()}


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (NAN, r"has \d+ pixels that are NaN or infinite"),
        (
            np.ones(SIZE, np.float64),
            "cells has numbers of the kind float64; the training set takes",
        ),
        (np.ones(SIZE, np.int32), "cells has numbers of the kind int32"),
        (np.ones(SIZE, bool), "cells has numbers of the kind bool"),
    ],
)
def test_pixels_that_no_training_reads_are_not_added(
    tmp_path: Path, pixels: np.ndarray, words: str
) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        add_image(tmp_path / "t", correction(pixels=pixels, title="cells"))
    assert caught.value.hint
    assert not (tmp_path / "t").exists()


def test_an_image_that_shows_nothing_is_said(tmp_path: Path) -> None:
    _, remarks, _ = add_image(tmp_path, correction(pixels=np.full(SIZE, 7, np.uint8), title="a"))
    assert remarks == ("All pixels of a are the same, so a training will leave it out.",)
