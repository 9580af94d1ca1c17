"""How the project is laid out: what imports what, how long files are, what lies where."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LONGEST_FILE = 400
TOP_LEVEL = {
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "Makefile",
    "NOTICE.md",
    "README.md",
    "benchmarks",
    "bridges",
    "cellprofiler_modules",
    "cellseg_engine",
    "docs",
    "fiji_scripts",
    "models",
    "pyproject.toml",
    "tests",
    "tools",
}
MADE_BY_TOOLS = {"build", "demo_output", "dist", "htmlcov"}


def run_python(code: str) -> str:
    """Run a line of Python in a process of its own and give what it prints."""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return answer.stdout.strip()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("cellseg_engine", {"numba", "numpy", "pydantic", "scipy", "skimage", "torch"}),
        ("cellseg_engine.settings", {"numba", "scipy", "skimage", "torch"}),
        ("cellseg_engine.hosts.assets", {"numba", "numpy", "pydantic", "torch"}),
        ("cellseg_engine.cli.main", {"numba", "scipy", "skimage", "torch"}),
    ],
)
def test_light_imports_stay_light(module: str, heavy: set[str]) -> None:
    assert run_python(f"import sys, {module}; print({heavy} & set(sys.modules))") == "set()"


def test_every_public_name_can_be_imported() -> None:
    code = "import cellseg_engine as c; print([n for n in c.__all__ if not hasattr(c, n)])"
    assert run_python(code) == "[]"


def test_imports_go_one_way() -> None:
    code = "from importlinter.cli import lint_imports_command as run; run()"
    answer = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def python_files() -> list[Path]:
    return sorted((ROOT / "cellseg_engine").rglob("*.py"))


def test_files_are_short() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files()
    }
    assert len(lengths) > 20
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_the_layout_is_as_agreed() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if listed.returncode == 0:
        there = {name.split("/")[0] for name in listed.stdout.splitlines()}
    else:  # a source archive
        there = {path.name for path in ROOT.iterdir()} - MADE_BY_TOOLS
    visible = {name for name in there if not name.startswith(".")}
    assert visible - {"PKG-INFO"} <= TOP_LEVEL
    assert {"pyproject.toml", "cellseg_engine", "bridges", "tests", "README.md"} <= visible
    assert {"fiji_scripts", "cellprofiler_modules"} <= visible


def test_decisions_are_numbered_without_gaps() -> None:
    names = sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md"))
    numbers = [re.match(r"(\d{4})-[a-z0-9-]+\.md$", name) for name in names]
    assert [match and int(match[1]) for match in numbers] == list(range(len(names)))
