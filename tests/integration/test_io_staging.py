"""Results appear all together or not at all, whatever happens in between."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cellseg_engine.errors import ReadError, WriteError
from cellseg_engine.io.labels import write_labels
from cellseg_engine.io.overlays import write_overlay
from cellseg_engine.io.rois import write_geojson, write_rois
from cellseg_engine.io.staging import check_writable, remove_stale, staged
from cellseg_engine.io.tables import write_table


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def fail(folder: Path, error: BaseException, *names: str) -> None:
    """Write some files and then fail."""
    with staged(folder) as stage:
        for name in names:
            stage.path(name).write_text("half")
        stage.path("never written")
        raise error


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an older result in it."""
    (tmp_path / "a.txt").write_text("old")
    return tmp_path


def test_files_appear_at_the_end_with_their_names(folder: Path) -> None:
    with staged(folder / "new" / "deep") as stage:
        for name in ("b.tif", "a.json"):
            path = stage.path(name)
            assert path.parent == folder / "new" / "deep"
            assert path.suffix == Path(name).suffix
            path.write_text(name)
        assert not any((folder / "new" / "deep" / name).exists() for name in ("b.tif", "a.json"))
    assert content(folder / "new" / "deep") == {"a.json": b"a.json", "b.tif": b"b.tif"}


def test_existing_file_is_replaced_only_at_the_end(folder: Path) -> None:
    with staged(folder) as stage:
        stage.path("a.txt").write_text("new")
        assert (folder / "a.txt").read_text() == "old"
    assert content(folder) == {"a.txt": b"new"}


def test_renames_in_the_order_of_the_calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed: list[str] = []
    replace = os.replace

    def spy(source: Path, target: Path) -> None:
        renamed.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", spy)
    with staged(folder) as stage:
        later, first = stage.path("z"), stage.path("b")
        assert stage.path("z") == later
        first.touch()
        later.touch()
    assert renamed == ["z", "b"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), SystemExit(1)], ids=repr)
def test_nothing_is_left_after_any_exception(folder: Path, error: BaseException) -> None:
    before = content(folder)
    with pytest.raises(type(error)):
        fail(folder / "new" / "deep", error, "a.txt")
    assert content(folder) == before
    with pytest.raises(type(error)):
        fail(folder, error, "a.txt", "b.txt")
    assert content(folder) == before


def test_folder_that_others_use_meanwhile_stays(folder: Path) -> None:
    def interrupted() -> None:
        with staged(folder / "new") as stage:
            stage.path("x").touch()
            (folder / "new" / "other").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert content(folder / "new") == {"other": b""}


def test_very_long_names(folder: Path) -> None:
    name = "ü" * 120 + ".tif"
    with staged(folder) as stage:
        stage.path(name).touch()
    assert (folder / name).exists()


@pytest.mark.skipif(os.name != "posix", reason="Windows has another limit")
def test_a_name_that_is_too_long_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        with staged(folder) as stage:
            stage.path("a.txt").write_text("new")
            stage.path("x" * 300).touch()

    monkeypatch.setattr(Path, "is_dir", os.path.isdir)  # as from Python 3.14 on
    with pytest.raises(WriteError, match="the name is too long"):
        write()
    assert content(folder) == {"a.txt": b"old"}


def test_a_folder_is_tried_without_a_trace(folder: Path) -> None:
    check_writable(folder)
    check_writable(folder / "new" / "deep")
    with pytest.raises(WriteError, match="is a file"):
        check_writable(folder / "a.txt" / "new")
    if os.name == "posix":
        with pytest.raises(WriteError, match="the name is too long"):
            check_writable(folder / ("x" * 300))
    assert content(folder) == {"a.txt": b"old"}


def test_name_with_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="without folders"), staged(folder) as stage:
        stage.path("../x")


@pytest.mark.parametrize(
    ("number", "fact"),
    [
        (errno.ENOSPC, "the disk is full (1.5 MB are free)"),
        (errno.EDQUOT, "the disk quota is used up (1.5 MB are free)"),
        (errno.EACCES, "there is no permission to write there"),
        (errno.EROFS, "the disk is read-only"),
    ],
)
def test_errors_of_the_system_are_explained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, fact: str
) -> None:
    class Usage:
        free = 1_500_000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage)
    before = content(folder)
    with pytest.raises(WriteError) as caught, staged(folder / "new") as stage:
        raise OSError(number, "what the system says", str(stage.path("x")))
    assert caught.value.message == f"The results cannot be written to {folder / 'new'}: {fact}."
    assert caught.value.hint
    assert content(folder) == before


def test_errors_about_other_files_pass(folder: Path) -> None:
    with pytest.raises(FileNotFoundError), staged(folder / "new"):
        (folder / "input.tif").read_bytes()
    with pytest.raises(ReadError, match="as it was"), staged(folder):
        raise ReadError("as it was")


def test_path_through_a_file(folder: Path) -> None:
    with pytest.raises(WriteError, match="is a file, not a folder"), staged(folder / "a.txt" / "b"):
        pytest.fail("the block must not run")
    with pytest.raises(WriteError, match="is a file, not a folder"), staged(folder / "a.txt"):
        pytest.fail("the block must not run")
    assert content(folder) == {"a.txt": b"old"}


def test_folder_in_the_place_of_a_result(folder: Path) -> None:
    (folder / "b.tif").mkdir()

    def write() -> None:
        with staged(folder) as stage:
            stage.path("a.txt").write_text("new")
            stage.path("b.tif").write_text("new")

    with pytest.raises(WriteError, match="there is a folder of that name"):
        write()
    assert content(folder) == {"a.txt": b"old", "b.tif": None}


def test_folder_removed_meanwhile(folder: Path) -> None:
    def write() -> None:
        with staged(folder / "x") as stage:
            (folder / "x").rmdir()
            stage.path("y").write_text("z")

    with pytest.raises(WriteError, match="the folder does not exist"):
        write()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(folder: Path) -> None:
    folder.chmod(0o500)
    try:
        with pytest.raises(WriteError, match="no permission"), staged(folder / "x"):
            pytest.fail("the block must not run")
    finally:
        folder.chmod(0o700)
    assert content(folder) == {"a.txt": b"old"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"a small disk cannot be mounted: {error}")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


NOISE = np.random.default_rng(0).integers(0, 60_000, (400, 400))


WRITERS: dict[str, Callable[[Path], None]] = {
    "labels": lambda path: write_labels(path, NOISE, "YX", {}),
    "uint32": lambda path: write_labels(path, NOISE + 10_000, "YX", {}),
    "rois": lambda path: write_rois(path, NOISE, "YX"),
    "geojson": lambda path: write_geojson(path, NOISE, "YX"),
    "overlay": lambda path: write_overlay(path, NOISE, NOISE),
    "table": lambda path: write_table(path, ["a"], ({"a": n} for n in range(100_000))),
    "numpy": NOISE.tofile,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_full_disk(small_disk: Path, kind: str) -> None:
    (small_disk / "keep.txt").write_text("old")
    before = content(small_disk)

    def fill() -> None:
        with staged(small_disk / "new") as stage:
            stage.path("first.txt").write_text("complete")
            WRITERS[kind](stage.path("x.tif"))

    with pytest.raises(WriteError, match=r"the disk is full \([\d.,]+ MB are free\)") as caught:
        fill()
    assert str(small_disk / "new") in str(caught.value)
    assert content(small_disk) == before


def test_stale_files_of_dead_processes_are_removed(folder: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from cellseg_engine.io.staging import staged\n"
        "with staged(Path(sys.argv[1])) as stage:\n"
        "    stage.path('x.tif').write_text('half'); os._exit(9)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert finished.returncode == 9
    [left] = folder.glob(".cellseg-*")
    other_host = left.with_name(left.name.replace(left.name.split("-")[1], "00000000"))
    other_host.touch()
    named_alike = folder / ".cellseg-notes"
    named_alike.touch()
    with staged(folder) as stage:
        mine = stage.path("y.tif")
        mine.touch()
        assert remove_stale(folder) == [left]
        assert mine.exists()
    assert set(content(folder)) == {"a.txt", "y.tif", other_host.name, named_alike.name}
    assert remove_stale(folder / "missing") == []
    assert platform.node(), "the host's name tells temporary files of machines apart"


def test_tables_keep_sub_pixels_of_large_images(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ["x"], [{"x": 31234.5678}])
    assert (tmp_path / "t.csv").read_text() == "x\n31234.5678\n"
