"""The tutorial: its cells run from top to bottom, in a folder of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.integration.fiji_host import require_host

NOTEBOOK = ROOT / "docs/examples/imagej/segment_in_python.ipynb"


def cells(kind: str) -> list[str]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def test_the_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLSEG_IMAGEJ", str(require_host() / "jars"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, text in enumerate(cells("code"), start=1):
        exec(compile(text, f"cell {number}", "exec"), names)
    outcome = names["outcome"]
    assert outcome.n_objects > 5
    assert names["drawn"].labels.max() == outcome.n_objects
    assert [path.name for path in tmp_path.iterdir()] == ["nuclei-labels.tif"]


def test_it_is_kept_without_results() -> None:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    for cell in content["cells"]:
        assert cell["id"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
