"""The points of a learning curve on the disk: whole ones count, damaged ones are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cellseg_engine.errors import ReadError, SettingsError
from cellseg_engine.train.learning_files import (
    COLUMNS,
    FACTS,
    POINTS,
    SCORES,
    read_point,
    write_curve,
    write_point,
)


def row(wanted: int, score: float) -> dict[str, Any]:
    values = {"start": "pretrained", "wanted": wanted, "subset": 1, "images": 1, "objects": wanted}
    return dict.fromkeys(COLUMNS, 0) | values | dict.fromkeys(SCORES, score)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Give a folder with two points."""
    for wanted, score in ((5, 0.6), (20, 0.8)):
        write_point(tmp_path, f"pretrained-{wanted}-1", "f", row(wanted, score))
    return tmp_path


def test_half_a_point_of_a_killed_run_is_none(out: Path) -> None:
    temporary = out / POINTS / ".cellseg-00000000-99999-deadbeef-pretrained-5-1.json"
    for text in (json.dumps({"fingerprint": "f", "row": row(5, 0.1)}), '{"fingerprint'):
        temporary.write_text(text)
        assert [one["ap_0.50"] for one in write_curve(out, {})] == [0.6, 0.8]
        summary = json.loads((out / FACTS).read_text())["summary"]
        assert [one["subsets"] for one in summary] == [1, 1]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": "f", "row": {"wanted": 9}}'])
def test_a_damaged_point_is_named_also_where_it_was_not_asked_for(out: Path, text: str) -> None:
    (out / POINTS / "scratch-9-1.json").write_text(text)
    with pytest.raises(ReadError, match=r"scratch-9-1\.json is damaged") as caught:
        write_curve(out, {})
    assert "Delete it" in caught.value.hint
    with pytest.raises(ReadError, match=r"scratch-9-1\.json is damaged"):
        read_point(out, "scratch-9-1", "f")


def test_points_of_others_are_refused(out: Path) -> None:
    assert read_point(out, "pretrained-5-1", "f") == row(5, 0.6)
    assert read_point(out, "pretrained-7-1", "f") is None
    with pytest.raises(SettingsError, match="another version of cellseg"):
        read_point(out, "pretrained-5-1", "g")
