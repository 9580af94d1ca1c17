"""Files that Fiji writes: what is not its own stays, and results of other weights are none."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.conftest import ROOT
from tests.integration.cli import Cli
from tests.integration.fiji_host import ABORTED, ImageJ
from tests.integration.fiji_runs import DIAMETER_PX, SETTINGS, close_all, crop
from tests.integration.test_fiji_folder import run, summary

THEIRS = np.full((60, 70), 77, np.uint16)


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "cells.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, crop(150, 60, 60, 70))
    return path


def save(fiji: ImageJ, image: Path, out: Path, more: str = "", *, draw: str = "") -> str | None:
    """Run Segment Cells on a file and save its results."""
    macro = f'open("{image}"); {draw} run("Segment Cells", "{SETTINGS} save_to=[{out}] {more}");'
    answer = fiji.macro(macro + 'return "done";')
    close_all(fiji)
    return answer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_results_of_other_weights_are_not_taken_for_done(
    fiji: ImageJ, cells: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights, out = tmp_path / "mine.safetensors", tmp_path / "out"
    shutil.copy(ROOT / "models/nuclei-provisional.safetensors", weights)
    options = f"{SETTINGS} model=[{weights}]"
    assert run(fiji, cells.parent, out, options) == "done", fiji.printed
    assert run(fiji, cells.parent, out, options) == "done", fiji.printed
    assert summary(out)["cells.tif"]["status"] == "skipped"
    before = (out / "cells_labels.tif").read_bytes()
    shutil.copy(ROOT / "models/phase.safetensors", weights)
    assert run(fiji, cells.parent, out, options) == ABORTED
    row = summary(out)["cells.tif"]
    assert row["status"] == "failed"
    sentence = f"{out / 'cells_run.json'} belongs to results made with other weights of "
    assert row["error"].startswith(sentence)
    assert (out / "cells_labels.tif").read_bytes() == before
    arguments = ["--diameter-px", DIAMETER_PX, "--model", weights, "--outputs", "labels,rois,table"]
    outcome = Cli(capfd)("segment", cells.parent, "--out", out, *arguments)
    assert sentence in outcome.err
    assert run(fiji, cells.parent, out, options + " existing=overwrite") == "done", fiji.printed
    assert summary(out)["cells.tif"]["status"] == "ok"


@pytest.mark.parametrize("draw", ["makeOval(0, 0, 170, 150);", "makeOval(20, 20, 120, 110);"])
def test_the_archive_has_the_objects_of_labels_and_table(
    fiji: ImageJ, tmp_path: Path, draw: str
) -> None:
    path, out = tmp_path / "whole.tif", tmp_path / "out"
    tifffile.imwrite(path, crop(0, 0, 150, 170))
    assert save(fiji, path, out, draw=draw) == "done", fiji.printed
    labels = set(np.unique(tifffile.imread(out / "whole_labels.tif")).tolist()) - {0}
    rows = (out / "whole_objects.csv").read_text(encoding="utf-8").splitlines()
    entries = zipfile.ZipFile(out / "whole_rois.zip").namelist()
    assert {int(name.removesuffix(".roi")) for name in entries} == labels
    assert {int(row.split(",")[0]) for row in rows[1:]} == labels
    record = json.loads((out / "whole_run.json").read_text(encoding="utf-8"))
    assert record["objects"] == len(labels)


def test_titles_with_dots_keep_their_own_files(fiji: ImageJ, tmp_path: Path) -> None:
    path, out = tmp_path / "x.tif", tmp_path / "out"
    tifffile.imwrite(path, crop(150, 60, 60, 70))
    titles = ("scan.lif - Series001", "scan.lif - Series002", "dose 0.5 uM", "plate.ome.tif")
    for title in titles:
        assert save(fiji, path, out, draw=f'rename("{title}");') == "done", fiji.printed
    labels = [name for name in names(out) if name.endswith("_labels.tif")]
    assert labels == [
        "dose 0.5 uM_labels.tif",
        "plate_labels.tif",
        "scan.lif - Series001_labels.tif",
        "scan.lif - Series002_labels.tif",
    ]


def test_a_ground_truth_is_not_replaced(fiji: ImageJ, cells: Path) -> None:
    folder = cells.parent
    tifffile.imwrite(folder / "cells_labels.tif", THEIRS)
    assert save(fiji, cells, folder) == ABORTED
    sentence = "cells_labels.tif is there already and was not written by CellSeg"
    assert sentence in fiji.printed[-600:]
    assert names(folder) == ["cells.tif", "cells_labels.tif"]
    np.testing.assert_array_equal(tifffile.imread(folder / "cells_labels.tif"), THEIRS)


def test_results_of_another_image_of_that_title_are_not_replaced(
    fiji: ImageJ, cells: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other" / "cells.tif"
    other.parent.mkdir()
    tifffile.imwrite(other, crop(0, 0, 50, 50))
    assert save(fiji, cells, out) == "done", fiji.printed
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert save(fiji, other, out) == ABORTED
    assert f"belongs to results of another image, {cells}." in fiji.printed[-600:]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert save(fiji, cells, out, "min_area_px=30") == "done", fiji.printed


def test_label_images_of_segment_cells_are_no_images_to_segment(
    fiji: ImageJ, cells: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = cells.parent
    assert save(fiji, cells, folder) == "done", fiji.printed
    assert run(fiji, folder, tmp_path / "out") == "done", fiji.printed
    assert list(summary(tmp_path / "out")) == ["cells.tif"]
    theirs = tmp_path / "theirs"
    arguments = ["--out", theirs, "--diameter-px", DIAMETER_PX, "--json"]
    outcome = Cli(capfd)("segment", folder, *arguments)
    assert [Path(*image["image"]).name for image in outcome.images] == ["cells.tif"]


def test_what_segment_cells_saved_is_made_again_by_a_folder_run(
    fiji: ImageJ, cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert save(fiji, cells, out, draw='run("Invert"); makeRectangle(0, 0, 40, 40);') == "done"
    record = json.loads((out / "cells_run.json").read_text(encoding="utf-8"))
    assert record["complete"] is False
    assert record["sources"][0]["path"] == str(cells)
    assert run(fiji, cells.parent, out) == "done", fiji.printed
    assert summary(out)["cells.tif"]["status"] == "ok"
    assert json.loads((out / "cells_run.json").read_text(encoding="utf-8"))["complete"] is True


def test_overwrite_replaces_only_what_cellseg_wrote(
    fiji: ImageJ, cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    tifffile.imwrite(out / "cells_labels.tif", THEIRS)
    assert run(fiji, cells.parent, out, SETTINGS + " existing=overwrite") == ABORTED
    error = summary(out)["cells.tif"]["error"]
    assert "cells_labels.tif is there already and was not written by CellSeg" in error
    assert names(out) == ["cells_labels.tif", "summary.csv"]
    np.testing.assert_array_equal(tifffile.imread(out / "cells_labels.tif"), THEIRS)


def test_overwrite_removes_what_the_new_run_does_not_write(fiji: ImageJ, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    still = crop(150, 60, 60, 70)
    movie = np.stack([np.roll(still, 2 * t, axis=1) for t in range(2)])
    tifffile.imwrite(folder / "movie.tif", movie, imagej=True, metadata={"axes": "TYX"})
    assert run(fiji, folder, out, SETTINGS + " track_threshold=0.3") == "done", fiji.printed
    assert (out / "movie_tracks.csv").exists()
    (out / "movie_notes.csv").write_text("mine", encoding="utf-8")
    assert run(fiji, folder, out, "diameter_px=20 existing=overwrite") == "done", fiji.printed
    kept = ["labels.tif", "notes.csv", "objects.csv", "rois.zip", "run.json"]
    assert names(out) == [f"movie_{end}" for end in kept] + ["summary.csv"]
    record = json.loads((out / "movie_run.json").read_text(encoding="utf-8"))
    assert "tracks" not in record["outputs"]
    assert record["settings"]["diameter_px"] == 20


def test_a_damaged_record_is_overwritten_and_names_no_other_files(
    fiji: ImageJ, cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(fiji, cells.parent, out) == "done", fiji.printed
    record = json.loads((out / "cells_run.json").read_text(encoding="utf-8"))
    record["outputs"]["tracks"] = "../in/cells.tif"
    (out / "cells_run.json").write_text(json.dumps(record), encoding="utf-8")
    assert run(fiji, cells.parent, out, SETTINGS + " existing=overwrite") == "done", fiji.printed
    assert cells.exists()
    (out / "cells_run.json").write_text("{", encoding="utf-8")
    assert run(fiji, cells.parent, out) == ABORTED
    assert "is not a run.json of this version" in summary(out)["cells.tif"]["error"]
    assert run(fiji, cells.parent, out, SETTINGS + " existing=overwrite") == "done", fiji.printed
