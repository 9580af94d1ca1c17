"""Compiled kernels are those of the present sources, wherever the program is installed."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from cellseg_engine import kernel_cache
from cellseg_engine.cli import doctor
from cellseg_engine.kernel_cache import VARIABLE

config: Any = importlib.import_module("numba.core.config")
ENGINE = kernel_cache.PACKAGE
RUN = (
    "from cellseg_engine import kernel_cache as k; k.PACKAGE = k.Path({folder!r}); "
    "k.set_kernel_folder(); from core.caller import call; print(call(1))"
)
CALLEE = "from numba import njit\n@njit(cache=True)\ndef callee(x):\n    return x + 1\n"
CALLER = (
    "from numba import njit\nfrom core.callee import callee\n@njit(cache=True)\ndef call(x):\n"
    "    return callee(x)\n"
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a package with two kernels of which one calls the other, in place of the engine."""
    folder = tmp_path / "package"
    (folder / "core").mkdir(parents=True)
    (folder / "core/callee.py").write_text(CALLEE)
    (folder / "core/caller.py").write_text(CALLER)
    monkeypatch.setattr(kernel_cache, "PACKAGE", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), str(ENGINE.parent))))
    monkeypatch.delenv(VARIABLE, raising=False)
    return folder


def run(package: Path) -> str:
    """Call the kernel in a process of its own."""
    command = [sys.executable, "-c", RUN.format(folder=str(package))]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def kept_kernels(package: Path) -> list[Path]:
    return list(package.glob("__pycache__/cellseg-kernels-*/core_*/caller.call-*.nbi"))


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_has_changed(package: Path) -> None:
    assert run(package) == run(package) == "2"
    (before,) = kept_kernels(package)
    callee = package / "core/callee.py"
    about = callee.stat()
    callee.write_text(CALLEE.replace("+ 1", "+ 2"))  # neither its length nor its time tell
    os.utime(callee, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert run(package) == "3"
    (after,) = kept_kernels(package)
    assert before.parents[1] != after.parents[1]
    assert not before.parents[1].exists()


def test_every_source_of_a_kernel_counts() -> None:
    listed = [set(ENGINE.glob(pattern)) for pattern in kernel_cache.SOURCES]
    assert all(listed)
    with_kernels = {
        path
        for path in ENGINE.rglob("*.py")
        if re.search(r"^(from|import) numba", path.read_text(), re.M)
    }
    assert with_kernels
    assert with_kernels <= set().union(*listed)


def test_what_the_user_has_set_stays(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = str(package / "mine")
    monkeypatch.setattr(config, "CACHE_DIR", mine)
    kernel_cache.set_kernel_folder()
    assert mine == config.CACHE_DIR
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv(VARIABLE, mine)
    kernel_cache.set_kernel_folder()
    assert config.CACHE_DIR == ""
    assert os.environ[VARIABLE] == mine


def test_what_a_program_of_another_version_handed_down_does_not_stay(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = kernel_cache.folder_name()
    for handed, expected in (
        (package / "other" / own, ""),
        (package / "other/cellseg-kernels-0000", str(package / "__pycache__" / own)),
    ):
        monkeypatch.setattr(config, "CACHE_DIR", "")
        monkeypatch.setenv(VARIABLE, str(handed))
        kernel_cache.set_kernel_folder()
        assert expected == config.CACHE_DIR


def test_without_a_place_beside_the_program_others_are_taken(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "__pycache__").touch()  # so that no folder can be made, also by root
    monkeypatch.setattr(config, "CACHE_DIR", "")
    kernel_cache.set_kernel_folder()
    assert Path(config.CACHE_DIR).is_relative_to(package.parent / "cache")
    finding = doctor._check_cache()
    assert (finding.state, config.CACHE_DIR in finding.detail) == ("ok", True)

    monkeypatch.setenv("XDG_CACHE_HOME", str(package / "__pycache__"))
    monkeypatch.setattr(config, "CACHE_DIR", "")
    kernel_cache.set_kernel_folder()
    assert Path(config.CACHE_DIR).is_relative_to(tempfile.gettempdir())
    assert "every run begins slowly" in doctor._check_cache().detail

    monkeypatch.setattr(config, "CACHE_DIR", str(package / "__pycache__/mine"))
    finding = doctor._check_cache()
    assert finding.state == "problem"
    assert "__pycache__/mine cannot be written to" in finding.detail
