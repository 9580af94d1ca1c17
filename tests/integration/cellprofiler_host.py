"""Help for tests of IdentifyCells: a real CellProfiler without its window, and one engine for it.

Two hosts, made by tools/cellprofiler_host.py: on Python 3.9, as the released application, where
this computer has one, and on 3.11.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, require
from tests.integration.service import Place
from tools import cellprofiler_host

PLUGINS = ROOT / "cellprofiler_modules"
EXAMPLES = ROOT / "docs/examples/cellprofiler"
LIMIT_S = 240.0
_MADE_BY = "make one: python tools/cellprofiler_host.py build"
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "CELLSEG_ENGINE_PYTHON")
_HOST = pytest.StashKey["Host"]()


@dataclass(frozen=True)
class Outcome:
    """How a run of CellProfiler ended.

    Attributes
    ----------
    code
        Exit code.
    log
        All that it printed.
    out
        Its output folder.
    """

    code: int
    log: str
    out: Path

    def table(self, name: str) -> list[dict[str, str]]:
        """Give the rows of a table."""
        with (self.out / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def columns(self, name: str) -> list[str]:
        """Give the columns of a table."""
        with (self.out / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file))

    def tables(self) -> set[str]:
        """Give the names of the tables."""
        return {path.stem for path in self.out.glob("*.csv")}

    def array(self, name: str, number: int = 1) -> np.ndarray:
        """Give an image that was saved as it is (see tools/make_example_pipelines.py)."""
        array: np.ndarray = np.load(self.out / f"{name}_{number:04}.npy")
        return array

    def labels(self, name: str, number: int = 1) -> np.ndarray:
        """Give the labels of objects."""
        return self.array(f"{name}Labels", number)


@dataclass
class Host:
    """A CellProfiler, the runtime folder of its engine, and pipelines for it."""

    python: Path
    place: Place
    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Give the environment of a CellProfiler that knows where the engine lives."""
        inherited = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
        known = {
            "CELLSEG_RUNTIME": str(self.place.runtime),
            "CELLSEG_ENGINE_PYTHON": sys.executable,
        }
        return {**inherited, **known, **more}

    def run(
        self,
        pipeline: Path | str,
        images: Path,
        out: Path,
        *arguments: str,
        plugins: Path = PLUGINS,
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run a pipeline (a file, or the name of one that the tests have) as people do."""
        out.mkdir(parents=True, exist_ok=True)
        program = [str(self.python), "-m", "cellprofiler", "-c", "-r"]
        places = ["-p", self.pipeline(pipeline), "-i", images, "-o", out]
        command = [*program, *map(str, places), "--plugins-directory", str(plugins), *arguments]
        code, log = finish(command, environment or self.environment(), out)
        return Outcome(code, log, out)

    def run_all(
        self,
        tasks: Sequence[tuple[Path | str, Path]],
        out: Path,
        on_error: str = "stop",
        plugins: Path = PLUGINS,
    ) -> list[Outcome]:
        """Run pipelines on folders of images one after the other in one process."""
        outs = [out / f"{number:02}" for number in range(len(tasks))]
        for folder in outs:
            folder.mkdir(parents=True)
        codes = self.ask(
            "run",
            [
                {
                    "pipeline": str(self.pipeline(pipeline)),
                    "images": str(images),
                    "out": str(folder),
                    "on_error": on_error,
                }
                for (pipeline, images), folder in zip(tasks, outs, strict=True)
            ],
            plugins,
        )
        logs = [(folder / "log.txt").read_text(encoding="utf-8") for folder in outs]
        return [Outcome(*each) for each in zip(codes, logs, outs, strict=True)]

    def ask(self, command: str, task: Any, plugins: Path = PLUGINS) -> Any:
        """Have CellProfiler's Python do something (see cellprofiler_inside.py)."""
        program = [str(self.python), "-m", "tests.integration.cellprofiler_inside"]
        arguments = [command, str(plugins), json.dumps(task)]
        code, printed = finish([*program, *arguments], self.environment(), ROOT)
        assert code == 0, printed
        return json.loads(printed.splitlines()[-1])

    def pipeline(self, named: Path | str) -> Path:
        """Give the file of a pipeline; those of the tests are made when the first is asked for."""
        if isinstance(named, Path):
            return named
        if not self.folder.exists():
            self.folder.mkdir()
            shared = [str(path) for path in [ROOT.parent / "shared/examples"] if path.is_dir()]
            program = [str(self.python), "-m", "tests.integration.cellprofiler_pipelines"]
            command = [*program, str(PLUGINS), str(self.folder), *shared]
            code, printed = finish(command, self.environment(), ROOT)
            assert code == 0, printed
        return self.folder / f"{named}.cppipe"

    def counters(self) -> dict[str, int]:
        """Give what the engine counted so far."""
        counters: dict[str, int] = self.place.engine().status()["counters"]
        return counters


def get_host(request: pytest.FixtureRequest, factory: pytest.TempPathFactory) -> Host:
    """Give the CellProfiler for most tests, and the one engine of the session."""
    config = request.config
    if _HOST not in config.stash:
        found = cellprofiler_host.find("3.9") or cellprofiler_host.find("3.11")
        python = require(found, f"needs a headless CellProfiler; {_MADE_BY}")
        folder = factory.mktemp("cellprofiler")
        place = Place(folder / "engine")
        place.runtime.chmod(0o700)
        config.add_cleanup(place.stop)
        place.start()
        config.stash[_HOST] = Host(python, place, folder / "pipelines")
    return config.stash[_HOST]


def find_python(version: str) -> Path:
    """Give the Python of a certain CellProfiler; only the one on 3.11 is asked of everybody."""
    found = cellprofiler_host.find(version)
    if version == "3.11":
        return require(found, f"needs a headless CellProfiler on Python 3.11; {_MADE_BY}")
    return found or pytest.skip(f"needs a headless CellProfiler on Python {version}")


def finish(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    """Run a program to its end and give exit code and output; one that does not end fails."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=dict(environment),
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
            pytest.fail(f"CellProfiler did not end within {LIMIT_S:g} s:\n{printed[-4000:]}")
    return process.returncode, printed


def install(folder: Path) -> Path:
    """Install the module into a plugins directory as people do."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "cellseg_engine", "install", "cellprofiler", "--no-check"]
    code, printed = finish([*command, "--plugins-directory", str(folder)], os.environ, folder)
    assert code == 0, printed
    return folder


def match(first: np.ndarray, second: np.ndarray, iou: float = 0.5) -> tuple[int, int]:
    """Count the objects of either label image that the other one has too.

    Above an overlap (intersection over union) of one half no object has two partners.
    """
    shared = np.zeros((int(first.max()) + 1, int(second.max()) + 1))
    np.add.at(shared, (first.ravel(), second.ravel()), 1)
    union = shared.sum(0) + shared.sum(1)[:, None] - shared
    is_pair = (shared / np.maximum(union, 1))[1:, 1:] >= iou
    return int(is_pair.any(1).sum()), int(is_pair.any(0).sum())
