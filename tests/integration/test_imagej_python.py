"""ImageJ inside Python: the tests in the folder imagej, in processes of their own.

A Java machine can be started once in a process and stays until its end, so pytest's own process
gets none.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, require
from tests.integration.fiji_host import real_fiji, require_host, virtual_display

FOLDER = ROOT / "tests/integration/imagej"
LIMIT_S = 840.0


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "bridges")])
    return {**os.environ, "PYTHONPATH": path}


def require_java() -> None:
    """Skip without what is needed (in continuous integration: fail)."""
    for package in ("jpype", "scyjava", "psutil"):
        found = importlib.util.find_spec(package)
        require(found, f"needs {package}: pip install 'cellseg-engine[imagej]'")
    require(shutil.which("java") or os.environ.get("JAVA_HOME"), "needs Java: a JDK 11 or newer")
    require_host()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images", "regions", "datasets", "segmenting", "notebook"])
def test_inside_a_real_imagej(name: str) -> None:
    require_java()
    run(name)


@pytest.mark.slow
def test_inside_a_real_fiji() -> None:
    real_fiji()
    require_java()
    run("fiji")


@pytest.mark.slow
def test_inside_an_imagej_with_windows() -> None:
    require_java()
    with virtual_display() as display:
        run("display", DISPLAY=display)


def run(name: str, **variables: str) -> None:
    """Run the tests of a file in a process of their own."""
    file = FOLDER / f"{name}.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment() | variables,
        timeout=LIMIT_S,
    )
    said = answer.stdout + answer.stderr
    assert answer.returncode == 0, said
    assert " passed" in said and " skipped" not in said, said


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("c.to_array(1)", "No Java machine runs in this process. Start one first"),
        ("c.start_imagej('no/such/place')", "no/such/place. Give the folder of an ImageJ"),
        (
            "import sys; sys.modules['jpype'] = None; c.to_array(1)",
            "ImageJ in Python needs the package jpype1, which is not installed. pip install",
        ),
        ("c.start_imagej('tests')", "tests holds no jar with ImageJ."),
    ],
)
def test_without_java(code: str, sentence: str) -> None:
    if "None" not in code:
        require(importlib.util.find_spec("jpype"), "needs jpype1: pip install jpype1")
    answer = subprocess.run(
        [sys.executable, "-c", f"import cellseg_imagej as c; {code}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert answer.returncode == 1
    assert sentence in answer.stderr.splitlines()[-1], answer.stderr


def test_every_public_name_is_there_without_java() -> None:
    code = "import cellseg_imagej as c, sys; [getattr(c, n) for n in c.__all__]"
    check = "assert not {'jpype', 'scyjava', 'torch'} & set(sys.modules), 'heavy'"
    subprocess.run(
        [sys.executable, "-c", f"{code}; {check}"], check=True, cwd=ROOT, env=environment()
    )
