"""`cellseg segment`: what it writes, names, skips and keeps."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import roifile
import tifffile

from cellseg_engine.core import clustering
from cellseg_engine.nets.processor import has_bf16_units
from tests.integration.cli import Cli, disks, draw, listing

OPTIONS = ("--diameter-px", 24, "--device", "cpu")


def test_all_outputs_of_an_image(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "in" / "cells.tif"
    path.parent.mkdir()
    tifffile.imwrite(
        path, disks(), imagej=True, resolution=(2, 2), metadata={"unit": "um", "axes": "YX"}
    )
    out = tmp_path / "out"
    outcome = cli(
        "segment", path, "--out", out, *OPTIONS, "--outputs", "labels,rois,overlay,table,geojson"
    )
    assert outcome.code == 0, outcome.err
    assert "objects: 4, diameter 24.0 px" in outcome.out
    assert "1 segmented; 4 objects in all" in outcome.out
    assert sorted(listing(out)) == [
        "cells_labels.tif",
        "cells_objects.csv",
        "cells_objects.geojson",
        "cells_overlay.png",
        "cells_rois.zip",
        "cells_run.json",
        "summary.csv",
    ]
    labels = tifffile.imread(out / "cells_labels.tif")
    assert labels.dtype == np.uint16
    assert labels.max() == 4
    rois = roifile.roiread(out / "cells_rois.zip")
    assert isinstance(rois, list)
    assert len(rois) == 4
    with (out / "cells_objects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["area_um2"]) == pytest.approx(float(rows[0]["area_px"]) / 4)
    assert {"mean_probability", "flow_error", "touches_edge", "intensity_mean_1"} <= rows[0].keys()
    assert len(json.loads((out / "cells_objects.geojson").read_text())["features"]) == 4
    run = json.loads((out / "cells_run.json").read_text())
    assert run["settings"]["diameter_px"] == 24
    assert run["precision"] == ("bf16" if has_bf16_units() else "fp32")
    assert run["device"] == "cpu"
    assert run["inverted"] is False
    assert len(run["model"]["weights_sha256"][0]) == 64
    assert run["pixel_size_um"] == {"Y": 0.5, "X": 0.5}
    assert {"size", "network", "labels"} == run["seconds"].keys()


def test_the_api_gives_the_same_labels(cli: Cli, tmp_path: Path) -> None:
    import cellseg_engine

    path = draw(tmp_path / "a.tif")
    cli("segment", path, "--out", tmp_path / "out", *OPTIONS)
    settings = cellseg_engine.make_settings(diameter_px=24, device="cpu")
    result = cellseg_engine.segment(disks(), settings=settings)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a_labels.tif"), result.labels)
    assert result.outlines.shape == result.labels.shape
    assert result.outlines[result.labels == 0].sum() == 0


def test_zero_objects_is_a_valid_answer(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, image in (
        ("constant", np.full((70, 80), 500, np.uint16)),
        ("black", np.zeros((70, 80), np.uint8)),
        ("noise", rng.normal(1000, 3, (70, 80)).astype(np.uint16)),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    out = tmp_path / "out"
    outcome = cli(
        "segment", tmp_path, "--out", out, "--outputs", "labels,rois,overlay,table,geojson"
    )
    assert outcome.code == 0
    assert outcome.out.count("objects: 0") == 3
    assert outcome.err.count("No objects were found.") == 3
    for name in ("constant", "black", "noise"):
        labels = tifffile.imread(out / f"{name}_labels.tif")
        assert labels.shape == (70, 80)
        assert not labels.any()
        assert json.loads((out / f"{name}_run.json").read_text())["objects"] == 0
        assert (out / f"{name}_objects.csv").read_text().startswith("label,")


def test_an_empty_well_never_breaks_a_plate(cli: Cli, tmp_path: Path) -> None:
    plate = tmp_path / "plate"
    for well, n in (("A01", 4), ("A02", 0), ("A03", 6)):
        for channel in ("dapi", "actin"):
            draw(plate / f"{well}_s1_{channel}.tif", n=n)
    (plate / "notes.png").write_bytes((plate / "A01_s1_dapi.tif").read_bytes())
    out = tmp_path / "out"
    outcome = cli(
        "segment", plate, "--out", out, "--pattern", "{well}_{site}_{channel}",
        "--channel", "dapi", "--json", *OPTIONS,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert [image["objects"] for image in outcome.images] == [4, 0, 6]
    assert outcome.images[0]["fields"] == {"well": "A01", "site": "s1"}
    warnings = [event["message"] for event in outcome.events if event["event"] == "warning"]
    assert any("notes.png" in warning for warning in warnings)
    with (out / "summary.csv").open() as file:
        assert [(r["well"], r["objects"]) for r in csv.DictReader(file)] == [
            ("A01", "4"), ("A02", "0"), ("A03", "6"),
        ]  # fmt: skip
    tables = [path for path in listing(out) if path.endswith("_objects.csv")]
    assert len(tables) == 3
    header = (out / tables[0]).read_text().splitlines()[0]
    assert header.startswith("well,site,label,")
    assert header.endswith("intensity_mean_actin,intensity_mean_dapi")


def test_two_inputs_never_overwrite_each_other(cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "in/a/x.tif", n=1)
    draw(tmp_path / "in/b/x.tif", n=2)
    draw(tmp_path / "in/b/y.tif", n=3)
    tifffile.imwrite(tmp_path / "in/b/y.tiff", disks(n=4))
    for number, paths in enumerate(
        (
            ["in"],
            ["in/a", "in/b"],
            ["in/a/x.tif", "in/b/x.tif", "in/b/y.tif", "in/b/y.tiff"],
            ["in/**/*.tif*"],
        )
    ):
        out = tmp_path / f"out{number}"
        outcome = cli(
            "segment", *(tmp_path / path for path in paths), "--out", out, "--json", *OPTIONS
        )
        assert outcome.code == 0, outcome.err
        assert [image["objects"] for image in outcome.images] == [1, 2, 3, 4]
        labels = [image["outputs"]["labels"] for image in outcome.images]
        assert len(set(labels)) == 4
        assert [tifffile.imread(path).max() for path in labels] == [1, 2, 3, 4]


def test_existing_results(cli: Cli, tmp_path: Path) -> None:
    path = draw(tmp_path / "a.tif")
    out = tmp_path / "out"
    call = ("segment", path, "--out", out, *OPTIONS)
    assert cli(*call).code == 0
    before = listing(out)

    skipped = cli(*call, "--json")
    assert (skipped.code, skipped.images[0]["status"]) == (0, "skipped")
    assert skipped.images[0]["objects"] == 4
    assert listing(out).keys() == before.keys()
    assert listing(out)["a_labels.tif"] == before["a_labels.tif"]

    refused = cli(*call, "--existing", "error")
    assert refused.code == 1
    assert "There are results of" in refused.err

    other = cli(*call, "--min-area-px", 33)
    assert other.code == 1
    assert "made with other settings: --min-area-px 0 instead of 33" in other.err
    assert listing(out)["a_labels.tif"] == before["a_labels.tif"]

    os.utime(path, ns=(1, 1))
    assert cli(*call, "--json").images[0]["status"] == "skipped", "a copy is the same image"
    draw(path, n=3)
    changed = cli(*call)
    assert changed.code == 1
    assert "made before a.tif changed" in changed.err
    assert listing(out)["a_labels.tif"] == before["a_labels.tif"]

    replaced = cli(*call, "--existing", "overwrite", "--json")
    assert replaced.images[0]["objects"] == 3
    assert tifffile.imread(out / "a_labels.tif").max() == 3


def test_results_of_another_image_are_not_taken_for_these(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("segment", draw(tmp_path / "one/x.tif"), "--out", out, *OPTIONS).code == 0
    outcome = cli("segment", draw(tmp_path / "two/x.tif", n=2), "--out", out, *OPTIONS)
    assert outcome.code == 1
    assert "belongs to results of another image" in outcome.err


def test_files_of_others_are_never_replaced(cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "x.tif")
    truth = tmp_path / "x_labels.tif"
    truth.write_bytes(b"years of work")
    for existing in ("skip", "overwrite", "error"):
        outcome = cli(
            "segment", tmp_path / "x.tif", "--out", tmp_path, "--existing", existing, *OPTIONS
        )
        assert outcome.code == 1
        assert "was not written by cellseg" in outcome.err
    assert truth.read_bytes() == b"years of work"
    assert sorted(listing(tmp_path)) == ["summary.csv", "x.tif", "x_labels.tif"]


def test_results_beside_the_images_are_not_taken_for_images(cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "a.tif")
    for _ in range(2):
        outcome = cli("segment", tmp_path, "--out", tmp_path, "--json", *OPTIONS)
        assert outcome.code == 0
        assert len(outcome.images) == 1
    draw(tmp_path / "sub/b.tif")
    outcome = cli("segment", tmp_path, "--out", tmp_path / "sub", "--json", *OPTIONS)
    assert len(outcome.images) == 1


def test_one_bad_image_does_not_stop_the_others(cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_text("not an image")
    draw(tmp_path / "c.tif", n=2)
    out = tmp_path / "out"
    outcome = cli("segment", tmp_path, "--out", out, *OPTIONS)
    assert outcome.code == 1
    assert "FAILED" in outcome.err
    assert "b.tif" in outcome.err
    assert "2 segmented, 1 failed; 6 objects in all" in outcome.out
    with (out / "summary.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok", "failed", "ok"]
    assert not [name for name in listing(out) if name.startswith("b")]


def test_the_first_run_says_that_it_compiles(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("segment", draw(tmp_path / "a.tif"), "--out", tmp_path / "out", *OPTIONS)
    assert cli(*call).code == 0
    assert "Compiling" not in cli(*call).err
    kept = Path(str(clustering.number_seeds.stats.cache_path))
    assert list(kept.glob("clustering.number_seeds-*.nbi"))
    empty = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)))
    monkeypatch.setattr(clustering, "number_seeds", empty)
    assert "Compiling for this computer, once" in cli(*call).err


def test_one_diameter_for_a_whole_run(cli: Cli, tmp_path: Path) -> None:
    for name, n in (("a", 4), ("b", 5), ("c", 0), ("d", 6)):
        draw(tmp_path / f"{name}.tif", n=n)
    outcome = cli(
        "segment", tmp_path, "--out", tmp_path / "out", "--diameter-scope", "folder", "--json"
    )
    assert outcome.code == 0, outcome.err
    diameters = {image["diameter_px"] for image in outcome.images}
    assert len(diameters) == 1
    assert diameters.pop() == pytest.approx(24, rel=0.35)
    messages = [event["message"] for event in outcome.events if event["event"] == "status"]
    assert any("median of 3 images" in message for message in messages)


def test_stacks_are_segmented_plane_by_plane(cli: Cli, tmp_path: Path) -> None:
    stack = np.stack([disks(n=n) for n in (4, 0, 2)])
    tifffile.imwrite(tmp_path / "z.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    outcome = cli("segment", tmp_path / "z.tif", "--out", tmp_path / "out", "--json", *OPTIONS)
    assert outcome.code == 0, outcome.err
    assert outcome.images[0]["objects"] == 6
    labels = tifffile.imread(tmp_path / "out/z_labels.tif")
    assert [len(np.unique(plane)) - 1 for plane in labels] == [4, 0, 2]
    assert labels.max() == 6, "no id occurs in two planes"
    with (tmp_path / "out/z_objects.csv").open() as file:
        assert [row["z"] for row in csv.DictReader(file)] == ["0"] * 4 + ["2"] * 2


def test_settings_of_running_do_not_make_results_stale(cli: Cli, tmp_path: Path) -> None:
    path = draw(tmp_path / "a.tif")
    assert cli("segment", path, "--out", tmp_path / "out", *OPTIONS).code == 0
    outcome = cli("segment", path, "--out", tmp_path / "out", *OPTIONS, "--batch-size", 2, "--json")
    assert outcome.images[0]["status"] == "skipped"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib\n"
        "from cellseg_engine.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "heavy = {'torch', 'numba', 'numpy', 'scipy', 'pydantic', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_help_names_every_setting(cli: Cli) -> None:
    from cellseg_engine.settings import Settings

    text = cli("segment", "--help").out
    for name in Settings.model_fields:
        assert "--" + name.replace("_", "-") in text


def test_overwrite_removes_what_it_does_not_write(cli: Cli, tmp_path: Path) -> None:
    call = ("segment", draw(tmp_path / "a.tif"), "--out", tmp_path / "out", *OPTIONS)
    assert cli(*call).code == 0
    assert cli(*call, "--existing", "overwrite", "--outputs", "labels").code == 0
    assert sorted(listing(tmp_path / "out")) == ["a_labels.tif", "a_run.json", "summary.csv"]


def test_axes_given_are_compared(cli: Cli, tmp_path: Path) -> None:
    call = ("segment", draw(tmp_path / "a.tif"), "--out", tmp_path / "out", *OPTIONS)
    assert cli(*call).code == 0
    assert "made with other axes: those of the file" in cli(*call, "--axes", "XY").err


def test_results_of_a_killed_commit_are_made_again(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("segment", draw(tmp_path / "a.tif"), "--out", tmp_path / "out", *OPTIONS, "--json")
    replace = os.replace

    def fail_at_rois(source: Path, target: Path) -> None:
        if str(target).endswith("_rois.zip"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_at_rois)
    cli(*call)
    monkeypatch.undo()
    assert json.loads((tmp_path / "out/a_run.json").read_text())["complete"] is False
    outcome = cli(*call)
    assert (outcome.code, outcome.images[0]["status"]) == (0, "ok")
    assert cli(*call).images[0]["status"] == "skipped"


def test_summary_keeps_earlier_rows_and_foreign_tables(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a", "b", "a"):
        assert cli("segment", draw(tmp_path / f"{name}.tif"), "--out", out, *OPTIONS).code == 0
    with (out / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(Path(row["image"]).name, row["status"]) for row in rows] == [
        ("a.tif", "skipped"),
        ("b.tif", "ok"),
    ]
    (out / "summary.csv").write_text("mine\n1\n")
    outcome = cli("segment", tmp_path / "a.tif", "--out", out, *OPTIONS)
    assert "is no summary of cellseg" in outcome.err
    assert (out / "summary.csv").read_text() == "mine\n1\n"


def test_a_common_diameter_is_kept_when_an_image_is_added(cli: Cli, tmp_path: Path) -> None:
    call = ("segment", tmp_path / "in", "--out", tmp_path / "out", "--json")
    scope = ("--diameter-scope", "folder")
    draw(tmp_path / "in/a.tif")
    assert cli(*call, *scope).code == 0
    draw(tmp_path / "in/b.tif", n=6, seed=3)
    outcome = cli(*call, *scope)
    assert [image["status"] for image in outcome.images] == ["skipped", "ok"], outcome.err
    run = json.loads((tmp_path / "out/b_run.json").read_text())
    assert run["diameter_source"] == "folder estimate"


def test_globs_find_folders_but_no_outputs(cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "p1/a.tif")
    (tmp_path / "p1/link.tif").symlink_to(tmp_path / "p1/a.tif")
    for _ in range(2):
        outcome = cli("segment", tmp_path / "*", "--out", tmp_path / "out", "--json", *OPTIONS)
        assert sorted(Path(image["image"][0]).name for image in outcome.images) == [
            "a.tif",
            "link.tif",
        ]


def test_an_incomplete_site_fails_and_the_rest_is_done(cli: Cli, tmp_path: Path) -> None:
    for name in ("A1_w1", "A1_w2", "A2_w1"):
        draw(tmp_path / f"in/{name}.tif")
    outcome = cli(
        "segment", tmp_path / "in", "--out", tmp_path / "out", "--pattern", "{well}_{channel}",
        "--channel", "w1", "--json", *OPTIONS,
    )  # fmt: skip
    assert outcome.code == 1
    assert [image["status"] for image in outcome.images] == ["ok", "failed"]
    assert "no file for channel w2 of well A2" in outcome.images[1]["error"]
