"""An imported model is removed as a whole or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from cellseg_engine.errors import WriteError
from cellseg_engine.zoo import store


@pytest.fixture
def ensemble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of an ensemble of three."""
    monkeypatch.setenv(store.MODELS_VARIABLE, str(tmp_path / "models"))
    folder = tmp_path / "models" / "both"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.safetensors").touch()
    return folder


def names() -> list[str]:
    return [entry.name for entry in store.list_models() if entry.source == "imported"]


def test_a_removal_that_is_stopped_leaves_no_smaller_ensemble(
    ensemble: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    assert names() == ["both"]
    with monkeypatch.context() as patch:
        patch.setattr(tempfile.TemporaryDirectory, "_rmtree", stop)  # of every Python
        with pytest.raises(KeyboardInterrupt):
            store.remove_model("both")
    assert names() == []


def test_what_cannot_be_removed_stays_whole(
    ensemble: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise PermissionError(13, "Access is denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", busy)
        with pytest.raises(WriteError, match=r"both cannot be removed from .*: Access is denied"):
            store.remove_model("both")
    assert names() == ["both"]
    assert len(list(ensemble.iterdir())) == 3
    store.remove_model("both")
    assert names() == [] and list(ensemble.parent.iterdir()) == []
