"""Bad input: one clear sentence, exit 1 or 2, and an output folder that is as it was."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg_engine.batch.plan import make_plan
from cellseg_engine.errors import ReadError
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.zoo.store import find_model
from tests.integration.cli import Cli, disks, draw, listing, start

OPTIONS = ("--diameter-px", 24)
Case = Callable[[Path], list[object]]


def write(path: Path, image: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, image, **options)
    return path


def text_file(folder: Path) -> list[object]:
    (folder / "text.tif").write_text("this is no image")
    return [folder / "text.tif"]


def truncated(folder: Path) -> list[object]:
    path = write(folder / "cut.tif", disks((300, 300)))
    path.write_bytes(path.read_bytes()[:90_000])
    return [path]


def zero_size(folder: Path) -> list[object]:
    with pytest.warns(UserWarning, match="zero-size"):
        return [write(folder / "z.tif", np.zeros((0, 7), np.uint8))]


def spoilt_pixels(value: float) -> Case:
    def case(folder: Path) -> list[object]:
        image = disks().astype(np.float32)
        image[3, 4:6] = value
        return [write(folder / "spoilt.tif", image)]

    return case


def damaged_weights(folder: Path) -> list[object]:
    path = folder / "damaged.safetensors"
    shutil.copy(find_model("nuclei").files[0], path)
    path.write_bytes(path.read_bytes()[:100_000])
    return [draw(folder / "a.tif"), "--model", path]


def empty_folder(folder: Path) -> list[object]:
    (folder / "nothing").mkdir()
    return [folder / "nothing"]


def good(folder: Path) -> list[object]:
    return [draw(folder / "a.tif")]


def option(*values: object) -> Case:
    return lambda folder: [*good(folder), *values]


CASES: dict[str, tuple[Case, int, str]] = {
    "missing path": (lambda f: [f / "nowhere.tif"], 2, "There is no file or folder"),
    "empty folder": (empty_folder, 2, "There is no image in the folder"),
    "glob without images": (lambda f: [f / "*.tif"], 2, "No image fits"),
    "unknown kind of file": (
        lambda f: [(f / "a.docx").write_text("x") and f / "a.docx"], 2, "a.docx is none",
    ),
    "text named .tif": (text_file, 1, "text.tif"),
    "empty file": (lambda f: [(f / "e.tif").write_bytes(b"") or f / "e.tif"], 1, "e.tif"),
    "truncated": (truncated, 1, "cut.tif"),
    "zero-size": (zero_size, 1, "z.tif"),
    "NaN": (spoilt_pixels(np.nan), 1, "2 pixels that are NaN or infinite"),
    "infinite": (spoilt_pixels(np.inf), 1, "2 pixels that are NaN or infinite"),
    "5-D without axes": (
        lambda f: [write(f / "five.tif", np.zeros((2, 3, 2, 32, 32), np.uint8), metadata=None,
                         photometric="minisblack")],
        1, "--axes",
    ),
    "axes that do not fit": (option("--axes", "ZYX"), 1, "ZYX"),
    "axes that mean nothing": (option("--axes", "AB"), 2, "AB"),
    "too many channels": (
        lambda f: [write(f / "c.tif", np.stack([disks()] * 5), imagej=True,
                         metadata={"axes": "CYX"})],
        1, "has 5 channels and none is chosen. Set --channel to one of 1, 2, 3, 4, 5.",
    ),
    "a channel that is not there": (option("--channel", 3), 1, "There is no channel '3'"),
    "negative diameter": (option("--diameter-px", -1), 2, "--diameter-px -1.0 is not allowed"),
    "percentiles the wrong way round": (
        option("--percentile-low", 99.5), 2, "--percentile-low 99.5 must be below --percentile-high"
    ),
    "diameter that is no number": (option("--diameter-px", "big"), 2, "'big' is not a valid float"),
    "far too large diameter": (option("--diameter-px", 9000), 1, "shrinks to nothing"),
    "far too small diameter": (option("--diameter-px", 0.01), 1, "is too small"),
    "unknown model": (option("--model", "nucleus"), 2, "There is no model 'nucleus'"),
    "model file that is not there": (option("--model", "/no/such.pth"), 2, "no weights file"),
    "damaged weights": (damaged_weights, 2, "is damaged or not a safetensors file"),
    "unknown option": (option("--diametre", 3), 2, "No such option"),
    "unknown output": (option("--outputs", "labels,flows"), 2, "--outputs flows is not known"),
    "device that is not there": (option("--device", "cuda:7"), 2, "cuda:7 is not available"),
    "fp16 on a CPU": (option("--device", "cpu", "--precision", "fp16"), 2, "fp16 needs a GPU"),
    "pattern without fields": (option("--pattern", "{well"), 2, "{well"),
    "pattern that fits nothing": (option("--pattern", "{well}_{channel}"), 2, "fits the pattern"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input(cli: Cli, tmp_path: Path, name: str) -> None:
    case, code, words = CASES[name]
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    arguments = case(source)
    given = listing(source)
    diameter = () if "--diameter-px" in arguments else OPTIONS
    for before in ({}, {"kept.txt": b"mine"}):
        if before:
            out.mkdir()
            (out / "kept.txt").write_bytes(b"mine")
        outcome = cli("segment", *arguments, "--out", out, *diameter)
        assert outcome.code == code, outcome
        assert words in outcome.err
        lines = [line for line in outcome.err.splitlines() if words in line]
        assert len(lines) == 1, outcome.err
        found = listing(out)
        if code == 1 and before:
            assert b",failed," in found.pop("summary.csv")
        assert found == before
        assert out.exists() == bool(before)
        assert ("Results:" in outcome.out) == ("Summary:" in outcome.out)
        assert ("Summary:" in outcome.out) == (code == 1 and bool(before))
    assert listing(source) == given


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system (root on Linux)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(cli: Cli, tmp_path: Path, small_disk: Path) -> None:
    source = tmp_path / "in"
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 60000, (600, 600)).astype(np.uint16)
        source.mkdir(exist_ok=True)
        image[:96, :120] = disks()
        tifffile.imwrite(source / f"{number}.tif", image)
    out = small_disk / "out"
    outcome = cli("segment", source, "--out", out, *OPTIONS)
    assert outcome.code == 1
    assert "the disk is full" in outcome.err
    assert "Stopped after" in outcome.err
    for stem in {name.split("_")[0] for name in listing(out) if name != "summary.csv"}:
        assert (out / f"{stem}_run.json").exists(), "results of an image are whole or not there"
    assert not [name for name in listing(small_disk) if ".cellseg" in name]


def test_no_permission(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.tif")
    out = tmp_path / "out"
    out.mkdir()
    options: dict[str, object] = {}
    if os.name != "posix":
        pytest.skip("folder permissions are tested on POSIX systems")
    out.chmod(0o555)
    if os.geteuid() == 0:
        mount = ["mount", "--bind", "-o", "ro", str(out), str(out)]
        probe = subprocess.run(mount, capture_output=True, check=False)
        if probe.returncode:
            pytest.skip("root may write anywhere, and no read-only mount can be made here")
    try:
        process = start("segment", path, "--out", out, *OPTIONS, **options)
        _, err = process.communicate(timeout=300)
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "-l", str(out)], check=True)
    assert process.returncode == 2
    assert "read-only" in err or "no permission" in err
    assert "Loading the model" not in err
    assert "Traceback" not in err
    assert listing(out) == {}


def test_a_folder_that_cannot_be_made_is_told_first(cli: Cli, tmp_path: Path) -> None:
    path = draw(tmp_path / "a.tif")
    outcome = cli("segment", path, "--out", path / "out", *OPTIONS)
    assert outcome.code == 2
    assert outcome.err.count("a part of that path is a file") == 1
    assert "Loading the model" not in outcome.err


def test_names_that_the_output_cannot_show(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("segment", draw(tmp_path / "\u7d30.tif"), "--out", tmp_path / "out", *OPTIONS)
    assert cli(*call, "--json").out.isascii()
    shown = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", shown)
    assert cli(*call).code == 0
    shown.seek(0)
    assert "\\u7d30.tif: objects: 4" in shown.read()


N_IMAGES = 60


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for number in range(N_IMAGES):
        draw(source / f"{number:02}.tif", shape=(320, 320))
    # Tests started in the background of a shell ignore SIGINT, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start("segment", source, "--out", out, *OPTIONS)
    signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "objects:" in first
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "images are done and stay" in err
    done = sorted(name for name in listing(out) if name.endswith("_run.json"))
    assert 1 <= len(done) < N_IMAGES
    assert not [name for name in listing(out) if name.startswith(".")]
    for name in done:
        assert (out / name.replace("_run.json", "_labels.tif")).exists()
    again = start("segment", source, "--out", out, *OPTIONS, "--json")
    text, err = again.communicate(timeout=600)
    assert again.returncode == 0, err
    assert text.count('"skipped"') >= len(done)
    assert len([name for name in listing(out) if name.endswith("_run.json")]) == N_IMAGES


@pytest.mark.parametrize("path", ["", "x" * 400, "~no_such_user_here/a.tif", "a\udcff.tif"])
def test_paths_that_cannot_be(tmp_path: Path, path: str) -> None:
    with pytest.raises(ReadError):
        make_plan([path], tmp_path / "out")


@pytest.mark.parametrize("content", ["{}", '{"format": 1}', "[]", '{"format": 1, "sources": [3]}'])
def test_a_malformed_run_json(cli: Cli, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a_run.json").write_text(content)
    outcome = cli("segment", draw(tmp_path / "a.tif"), "--out", out, *OPTIONS)
    assert outcome.code == 1
    assert "is not a run.json of this version" in outcome.err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried 9 GB")])
def test_too_little_memory(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Segmenter, "segment", fail)
    outcome = cli("segment", draw(tmp_path / "a.tif"), "--out", tmp_path / "out", *OPTIONS)
    assert outcome.code == 1
    assert "does not fit into memory" in outcome.err


def test_an_image_that_changes_meanwhile_fails(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = draw(tmp_path / "a.tif")
    segment = Segmenter.segment

    def change(self: Segmenter, *arguments: Any, **options: Any) -> Any:
        os.utime(path, ns=(1, 1))
        return segment(self, *arguments, **options)

    monkeypatch.setattr(Segmenter, "segment", change)
    outcome = cli("segment", path, "--out", tmp_path / "out", *OPTIONS)
    assert "changed while it was segmented" in outcome.err
    assert not listing(tmp_path / "out")
