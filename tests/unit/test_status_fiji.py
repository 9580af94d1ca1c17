"""What Fiji's Engine Status says of an engine; its Java is made up here."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any
from unittest.mock import MagicMock

import pytest

from tests.conftest import ROOT

JAVA = ("ij", "ij.gui", "ij.plugin", "java", "java.awt")
PACKAGE = ("launch", "processes", "parameters", "problems")
RUNNING = {"running": True, "url": "http://127.0.0.1:1", "pid": 4711, "python": "/env/python"}


class Problem(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the module, with an engine that runs."""
    for name in (*JAVA, "cellseg_jy", *(f"cellseg_jy.{part}" for part in PACKAGE)):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    spec = importlib.util.spec_from_file_location(
        "status_of_fiji", ROOT / "fiji_scripts" / "cellseg_jy" / "status.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Problem = Problem
    module.processes.ask_client.return_value = RUNNING
    return module


def test_an_engine_that_does_not_say_how_it_is_can_be_ended(status: Any) -> None:
    status.launch.ensure.return_value.ask.side_effect = Problem("It answered 500.")
    rows = status.describe()
    assert rows[:2] == [
        ("State", "running, but it does not say how it is"),
        ("", "It answered 500."),
    ]
    assert ("Process", "4711") in rows
    dialog = status.GenericDialog.return_value
    dialog.wasCanceled.side_effect = [False, True]
    dialog.wasOKed.return_value = False
    status._dialog()
    dialog.enableYesNoCancel.assert_called_with("Open status page", "End engine")
    status.processes.end_engine.assert_called_once_with(status.launch.engine_python(), 4711)


def test_a_training_that_prepares(status: Any) -> None:
    training = {"model": "mine", "epoch": 0, "epochs": 0}
    assert status._training(training) == "mine, preparing"
    assert status._training({**training, "epoch": 3, "epochs": 9}) == "mine, epoch 3 of 9"
    assert status._training(None) == "none"
