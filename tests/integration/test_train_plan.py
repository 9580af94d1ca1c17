"""The plan of a training: what tells trainings apart, and what the record keeps of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cellseg_engine.errors import SettingsError
from cellseg_engine.train.prepare import prepare
from cellseg_engine.train.run import train
from tests.integration.training import draw_pairs, quick_options

pytestmark = pytest.mark.usefixtures("small_networks")


def test_kinds_and_their_diameters_are_part_of_the_plan(tmp_path: Path) -> None:
    folder = draw_pairs(tmp_path / "in", n=4)
    prints = []
    for kinds in ("aabb", "abba", "aabb"):
        rows = [f"{n},{kind}" for n, kind in enumerate(kinds)]
        (folder / "manifest.csv").write_text("\n".join(["path,kind", *rows]))
        options = quick_options(folder, tmp_path / "m", weights="a=90,b=10", held_out_share=0.0)
        prepared = prepare(options)
        assert [row[2] for row in prepared.plan["training"]] == list(kinds)
        diameters = [row[3] for row in prepared.plan["training"]]
        assert diameters == [round(one.diameter_px, 3) for one in prepared.data.training]
        prints.append(prepared.fingerprint)
    assert prints[0] == prints[2] != prints[1]


def test_a_training_of_an_earlier_version_is_said_to_be_that(tmp_path: Path) -> None:
    options = quick_options(draw_pairs(tmp_path / "in"), tmp_path / "m", epochs=1)
    train(options)
    path = tmp_path / "m" / "training.json"
    record = json.loads(path.read_text())
    for part in ("training", "held_out"):
        record["plan"][part] = [row[:2] for row in record["plan"][part]]
    path.write_text(json.dumps(record | {"fingerprint": "of then"}))
    with pytest.raises(SettingsError, match=r"other images or settings \(different: the version\)"):
        train(options)
    record["plan"]["training"][0][1] = "other pixels"
    path.write_text(json.dumps(record | {"fingerprint": "of then"}))
    with pytest.raises(SettingsError, match=r"\(different: training\)"):
        train(options)


def test_the_record_says_how_images_were_found_and_read(tmp_path: Path) -> None:
    options = quick_options(
        draw_pairs(tmp_path / "in"),
        tmp_path / "m",
        epochs=1,
        kinds=("in",),
        disjoint="keep",
        held_out_share=0.3,
    )
    train(options)
    record = json.loads((tmp_path / "m" / "training.json").read_text())
    assert record["options"] == {
        "annotations": "auto", "image_suffix": "", "mask_suffix": "", "role": "train",
        "kinds": ["in"], "axes": "", "slices": "planes", "disjoint": "keep", "weights": "",
        "held_out_share": 0.3,
    }  # fmt: skip


def test_the_quality_of_a_size_model_is_not_told_where_it_is_not_known(tmp_path: Path) -> None:
    folder = draw_pairs(tmp_path / "in", n=1)
    result = train(quick_options(folder, tmp_path / "m", epochs=1, size_model=True))
    record = json.loads((tmp_path / "m" / "training.json").read_text())
    assert result.size is not None
    assert record["size_model"] == {"ridge": 1, "median_error_log": None, "correlation_log": None}


def test_why_many_images_are_held_out_is_said(tmp_path: Path) -> None:
    folder = draw_pairs(tmp_path / "in", n=4)
    (folder / "manifest.csv").write_text("path,kind\n0,a\n1,a\n2,b\n3,b\n")
    result = train(quick_options(folder, tmp_path / "m", epochs=1))
    (said,) = [text for text in result.warnings if "are held out to choose" in text]
    assert "because each of 2 kinds of images gives at least one: annotate more of each" in said
