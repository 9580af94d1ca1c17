"""Help for tests that install into hosts: folders of hosts, files to install, disks that fail."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellseg_engine.hosts import layouts
from tests.conftest import ROOT, require

CLIENT = ROOT / "bridges" / "cellseg_client"


class Assets:
    """A small set of what hosts get, which a test can change as a new version would.

    The client is the real one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in {
            "cellprofiler_modules/identifycells.py": "class IdentifyCells: pass\n",
            "cellprofiler_modules/README.md": "not for hosts\n",
            "cellprofiler_modules/tests/test_it.py": "not for hosts\n",
            "cellprofiler_modules/_cellseg/__init__.py": "",
            "cellprofiler_modules/_cellseg/objects.py": "objects = 1\n",
            "cellprofiler_modules/_cellseg/help/texts.txt": "Übersicht\n",
            "cellprofiler_modules/_cellseg/__pycache__/objects.cpython-39.pyc": "not for hosts\n",
            "fiji_scripts/Segment_Cells.py": "print 'segment'\n",
            "fiji_scripts/README.md": "not for hosts\n",
            "fiji_scripts/cellseg_jy/__init__.py": "",
            "fiji_scripts/cellseg_jy/wire.py": "wire = 1\n",
            "fiji_scripts/imagej/CellSeg_.jar": "a jar\n",
            "fiji_scripts/imagej/java/cellseg/Source.java": "not for hosts\n",
            "fiji_scripts/cellseg_jy/wire$py.class": "not for hosts\n",
        }.items():
            self.write(name, text)
        shutil.copytree(
            CLIENT, folder / "cellseg_client", ignore=shutil.ignore_patterns("__pycache__")
        )

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def find(self, name: str) -> Path:
        return self.folder / name


def make_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assets:
    """Give what is installed instead of the project's own files."""
    made = Assets(tmp_path / "assets")
    monkeypatch.setattr(layouts, "asset_folder", made.find)
    return made


def make_plugins(tmp_path: Path) -> Path:
    """Give a plugins directory with a plugin of somebody else."""
    folder = tmp_path / "Plügins of CellProfiler"
    folder.mkdir()
    (folder / "other.py").write_text("mine = 1\n")
    return folder


def make_fiji(tmp_path: Path) -> Path:
    """Give a folder that looks like a Fiji."""
    folder = tmp_path / "My Fiji.app ü"
    for name in (
        "jars/fiji-2.14.0.jar",
        "jars/jython-slim-2.7.4.jar",
        "plugins/Other_.jar",
        "scripts/Plugins/Mine/My_Own.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def tree(folder: Path) -> dict[str, bytes | None]:
    """Give all that lies below a folder: files with their content, folders with None."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Mount a file system of a few kilobytes there."""
    with _mounted(["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], folder):
        yield


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only, also for root."""
    with _mounted(["--bind", "-o", "ro", str(folder), str(folder)], folder):
        yield


@contextlib.contextmanager
def _mounted(arguments: list[str], folder: Path) -> Iterator[None]:
    can_mount = sys.platform == "linux" and os.getuid() == 0 and shutil.which("mount")
    command = ["mount", *arguments]
    done = can_mount and subprocess.run(command, capture_output=True, check=False).returncode == 0
    require(done, "needs the right to mount a small file system (root on Linux)")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
