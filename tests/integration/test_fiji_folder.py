"""Segment Folder in a real headless ImageJ: the same files as ``cellseg segment`` writes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
import tifffile

from tests.integration.cli import Cli
from tests.integration.fiji_host import ABORTED, ImageJ
from tests.integration.fiji_runs import DIAMETER_PX, SETTINGS, crop, fiji_with_engine
from tests.integration.service import Place, ask, wait_until


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageJ]:
    with fiji_with_engine(tmp_path_factory.mktemp("fiji")) as (fiji, _):
        yield fiji


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with five images of several kinds in it, and what is none."""
    folder = tmp_path / "in é put"
    (folder / "sub").mkdir(parents=True)
    gray = crop(150, 60, 80, 90)
    calibrated: dict[str, Any] = {
        "resolution": (4.0, 4.0),
        "metadata": {"axes": "YX", "unit": "um"},
    }
    tifffile.imwrite(folder / "cells 2.tif", gray, imagej=True, **calibrated)
    tifffile.imwrite(folder / "cells 10.tif", crop(0, 0, 70, 60).astype(np.uint16) * 50)
    tifffile.imwrite(folder / "rgb.tif", np.stack([gray] * 3, axis=-1), photometric="rgb")
    stack = np.stack([crop(0, 0, 60, 64), crop(90, 90, 60, 64)])
    tifffile.imwrite(folder / "sub" / "time.tif", stack, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "sub" / "blank.tif", np.zeros((50, 40), np.uint8))
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    (folder / ".hidden.tif").write_bytes(b"no image")
    return folder


def run(fiji: ImageJ, images: object, out: object, more: str = SETTINGS) -> str | None:
    return fiji.macro(
        f'run("Segment Folder", "input_folder=[{images}] output_folder=[{out}] {more}");'
        'return "done";'
    )


def summary(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8", newline="") as stream:
        return {Path(row["image"]).name: row for row in csv.DictReader(stream)}


def test_a_folder_gives_what_cellseg_segment_gives(
    host: ImageJ, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, theirs = tmp_path / "out é", tmp_path / "theirs"
    assert run(host, images, out) == "done", host.printed
    assert Cli(capfd)("segment", images, "--out", theirs, "--diameter-px", DIAMETER_PX).code == 0
    rows = summary(out)
    names = ["blank.tif", "cells 10.tif", "cells 2.tif", "rgb.tif", "time.tif"]
    assert sorted(rows) == names
    assert [row["status"] for row in rows.values()] == ["ok"] * 5
    for name in ("cells 2", "cells 10", "rgb", "sub/time", "sub/blank"):
        ours = tifffile.imread(out / f"{name}_labels.tif")
        expected = tifffile.imread(theirs / f"{name}_labels.tif")
        np.testing.assert_array_equal(ours, expected)
        assert ours.dtype == expected.dtype
        table = (out / f"{name}_objects.csv").read_text(encoding="utf-8")
        assert table == (theirs / f"{name}_objects.csv").read_text(encoding="utf-8")
        rois = (out / f"{name}_rois.zip").read_bytes()
        assert rois == (theirs / f"{name}_rois.zip").read_bytes()
        assert int(rows[Path(name).name + ".tif"]["objects"]) == expected.max()
    assert "5 images: 5 segmented, 0 were done before, 0 failed." in host.printed
    assert "blank.tif" in rows
    assert "No objects were found." in rows["blank.tif"]["warnings"]
    with tifffile.TiffFile(out / "cells 2_labels.tif") as tif:
        assert tif.imagej_metadata is not None
        assert tif.imagej_metadata["unit"] in ("um", "micron", "\\u00B5m")
        pixels, units = tif.pages.first.tags["XResolution"].value
        assert pixels / units == pytest.approx(4.0)


def test_a_run_goes_on_where_it_was_and_so_does_the_command_line(
    host: ImageJ, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.rmtree(images / "sub")
    assert run(host, images, out) == "done", host.printed
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("cells*")}
    (out / "rgb_labels.tif").unlink()
    tifffile.imwrite(images / "new.tif", crop(200, 300, 50, 60))
    assert run(host, images, out) == "done", host.printed
    rows = summary(out)
    assert {name: row["status"] for name, row in rows.items()} == {
        "cells 10.tif": "skipped",
        "cells 2.tif": "skipped",
        "new.tif": "ok",
        "rgb.tif": "ok",
    }
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("cells*")} == kept
    record = json.loads((out / "cells 2_run.json").read_text(encoding="utf-8"))
    assert record["complete"] is True
    assert record["settings"]["diameter_px"] == DIAMETER_PX
    assert record["pixel_size_um"] == {"X": 0.25, "Y": 0.25}
    # cellseg segment takes the same results for its own
    (out / "summary.csv").unlink()
    arguments = ["--diameter-px", DIAMETER_PX, "--outputs", "labels,rois,table", "--json"]
    outcome = Cli(capfd)("segment", images, "--out", out, *arguments)
    assert outcome.code == 0, outcome.err
    assert {image["status"] for image in outcome.images} == {"skipped"}


def test_results_of_other_settings_are_named_not_mixed(
    host: ImageJ, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name in ("sub", "rgb.tif", "cells 10.tif"):
        path = images / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run(host, images, out) == "done", host.printed
    before = (out / "cells 2_labels.tif").read_bytes()
    other = f"diameter_px={DIAMETER_PX} min_area_px=20"
    assert run(host, images, out, other) == ABORTED
    assert "made with other settings: min_area_px 0 instead of 20" in host.printed
    assert (out / "cells 2_labels.tif").read_bytes() == before
    assert run(host, images, out, other + " existing=overwrite") == "done"
    assert summary(out)["cells 2.tif"]["status"] == "ok"
    (out / "cells 2_run.json").unlink()
    assert run(host, images, out) == ABORTED
    assert "is there already and was not written by CellSeg" in host.printed


def test_a_failure_is_named_and_the_rest_goes_on(
    host: ImageJ, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.rmtree(images / "sub")
    (images / "empty.tif").write_bytes(b"")
    whole = (images / "cells 10.tif").read_bytes()
    (images / "cut.tif").write_bytes(whole[: len(whole) // 2])
    channels = np.stack([crop(0, 0, 40, 50)] * 2)
    tifffile.imwrite(images / "two.tif", channels, imagej=True, metadata={"axes": "CYX"})
    assert run(host, images, out) == "done", host.printed
    rows = summary(out)
    failed = {name for name, row in rows.items() if row["status"] == "failed"}
    assert failed == {"empty.tif", "cut.tif", "two.tif"}
    assert "cannot be opened" in rows["empty.tif"]["error"]
    assert "2 channels and none is chosen" in rows["two.tif"]["error"]
    assert "6 images: 3 segmented, 0 were done before, 3 failed." in host.printed
    for name in failed:
        assert f"{images / name} failed: " in host.printed
    assert not list(out.glob("empty*")) and not list(out.glob("cut*"))


def test_names_that_would_be_alike_are_told_apart(
    host: ImageJ, tmp_path: Path, images: Path
) -> None:
    folder, out = tmp_path / "same", tmp_path / "out"
    folder.mkdir()
    for name in ("a.tif", "a.tiff", "b.ome.tif"):
        tifffile.imwrite(folder / name, crop(150, 60, 60, 60))
    assert run(host, folder, out) == "done", host.printed
    found = sorted(path.name for path in out.glob("*_labels.tif"))
    assert found == ["a_tif_labels.tif", "a_tiff_labels.tif", "b_labels.tif"]
    assert isinstance(roifile.roiread(out / "b_rois.zip"), list)
    assert run(host, tmp_path / "in" / ".." / "same", out) == "done", host.printed
    rows = (out / "summary.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(rows) == 3, "an image is the same however its folder is typed"


@pytest.mark.parametrize(
    ("folder", "out", "words"),
    [
        ("", "", "There is no folder"),
        ("{images}", "{images}", "The folder for results is the one with the images."),
        ("{images}", "/proc/results", "/proc/results cannot be written"),
        ("{images}", "{images}/notes.txt", "notes.txt cannot be written"),
        ("{images}/none", "{tmp}", "There is no folder {images}/none."),
        ("{tmp}/no images", "{tmp}/out", "There is no image in the folder {tmp}/no images"),
    ],
)
def test_folders_that_cannot_be_are_refused_before_any_work(
    host: ImageJ, images: Path, tmp_path: Path, folder: str, out: str, words: str
) -> None:
    (tmp_path / "no images").mkdir()
    names = {"images": images, "tmp": tmp_path}
    if not folder:
        words = "No folder for the images was given. Set input_folder."
    assert run(host, folder.format(**names), out.format(**names)) == ABORTED
    assert words.format(**names) in host.printed[-800:]


def test_escape_keeps_what_is_done(tmp_path: Path, images: Path) -> None:
    shutil.rmtree(images / "sub")
    out = tmp_path / "out"
    with fiji_with_engine(tmp_path / "fiji", fake=True) as (fiji, engine):
        slow = f'run("Segment Folder", "input_folder=[{images}] output_folder=[{out}]'
        ticket = fiji.start_macro(f'{slow} model=slow iterations=150"); return "went on";')
        wait_until((out / "cells 2_run.json").exists, "the first image")
        wait_until(partial(is_running, engine), "the second image")
        fiji.python(
            "from ij import IJ\nfrom java.awt.event import KeyEvent\n"
            "IJ.setKeyDown(KeyEvent.VK_ESCAPE)"
        )
        assert fiji.wait(ticket)["result"] == ABORTED
        assert "of 3 images are done; the same command goes on from there." in fiji.printed
        done = len(summary(out))
        assert 0 < done < 3
        assert len(list(out.glob("*_labels.tif"))) == done


def is_running(engine: Place) -> bool:
    return bool(ask(engine.find(), "GET", "/v1/status")[1]["running"])
