"""docs/appose.md: the engine in an Appose worker, driven by the Java program of the example."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.io import imread

from cellseg_engine import make_settings
from tests.conftest import ROOT, require
from tests.integration.fiji_runs import DIAMETER_PX, crop, segmenter
from tools import fiji_host

POM = ROOT / "tests/hosts/appose/pom.xml"
JARS = ROOT / ".hosts/appose"
PROGRAM = ROOT / "docs/examples/appose/SegmentWithAppose.java"
LIMIT_S = 600.0
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"


def run(*command: str, code: int = 0) -> str:
    """Run a program to its end, expect its exit code and give what it printed."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "bridges")])
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert answer.returncode == code, answer.stdout + answer.stderr
    return answer.stdout


def require_program(name: str) -> str:
    try:
        return fiji_host.find_program(name)
    except fiji_host.ProblemError:
        require(None, f"needs {name}: a JDK and Maven")
        raise


@pytest.fixture(scope="module")
def classpath(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fetch Appose from Maven Central, once, and compile the program of the example."""
    require(importlib.util.find_spec("appose"), "needs appose: pip install appose")
    compiler = require_program("javac")
    if not list(JARS.glob("appose-*.jar")):
        maven, new = require_program("mvn"), JARS.with_name(f"appose-{os.getpid()}")
        options = ["-B", "-q", "-f", str(POM), "-DincludeScope=runtime"]
        run(maven, *options, f"-DoutputDirectory={new}", COPY)
        shutil.rmtree(JARS, ignore_errors=True)
        new.rename(JARS)
    classes = tmp_path_factory.mktemp("classes")
    jars = str(JARS / "*")
    run(compiler, "-encoding", "UTF-8", "-Xlint:all", "-cp", jars, "-d", str(classes), str(PROGRAM))
    return os.pathsep.join([jars, str(classes)])


def segment(
    classpath: str, diameter_px: float, *paths: Path, limit_s: float = 0, code: int = 0
) -> str:
    """Run the program of the example; gives what it printed."""
    java, python = fiji_host.find_program("java"), Path(sys.executable).parent
    program = [java, "-cp", classpath, "SegmentWithAppose", str(python)]
    return run(*program, *map(str, (diameter_px, limit_s, *paths)), code=code)


def shared_memory() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob("psm_*")} if folder.is_dir() else set()


@pytest.mark.slow
def test_labels_are_those_of_the_engine(classpath: str, tmp_path: Path) -> None:
    images = [crop(60 * n, 90, 80 + n, 90) for n in range(2)]
    paths = [tmp_path / f"{n}.{kind}" for n in range(2) for kind in ("tif", "png")]
    for pixels, path in zip(images, paths[::2], strict=True):
        tifffile.imwrite(path, pixels)
    before = shared_memory()
    printed = segment(classpath, DIAMETER_PX, *paths)
    settings = make_settings(diameter_px=DIAMETER_PX)
    for pixels, path in zip(images, paths[1::2], strict=True):
        wanted = segmenter().segment(pixels.astype(np.uint16), "YX", settings=settings)
        labels = imread(path)
        assert labels.dtype == np.uint16 and wanted.n_objects > 2
        np.testing.assert_array_equal(labels, wanted.labels)
        assert f"{path.stem}.tif: {wanted.n_objects} objects" in printed
        for stage in ("network", "labels"):
            assert re.search(rf"^{path.stem}\.tif: {stage} \d+ of \d+$", printed, re.MULTILINE)
    assert shared_memory() <= before


@pytest.mark.slow
def test_a_problem_is_a_sentence(classpath: str, tmp_path: Path) -> None:
    image, labels = tmp_path / "a.tif", tmp_path / "a.png"
    tifffile.imwrite(image, crop(0, 0, 40, 50))
    printed = segment(classpath, -5, image, labels, code=1)
    assert printed.startswith("a.tif: diameter_px") and "Traceback" not in printed
    assert not labels.exists()


@pytest.mark.slow
def test_an_image_that_takes_too_long_is_cancelled(classpath: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{kind}" for name in "ab" for kind in ("tif", "png")]
    for path in paths[::2]:
        tifffile.imwrite(path, crop(0, 0, 200, 200))
    before = shared_memory()
    small_px = 5  # the image is enlarged for the network, which then has many tiles
    printed = segment(classpath, small_px, *paths, limit_s=0.001, code=1)
    for path, other in zip(paths[::2], paths[1::2], strict=True):
        lines = [line for line in printed.splitlines() if line.startswith(path.name)]
        assert re.fullmatch(r".\.tif: network 0 of \d+", lines[0]), printed
        assert lines[-1] == f"{path.name}: cancelled after 0.001 s", printed
        assert "labels" not in "".join(lines)
        assert not other.exists()
    assert shared_memory() <= before
