"""How much longer IdentifyCells takes in CellProfiler than the engine does for the same images.

    python benchmarks/cellprofiler.py [--write-docs]

Needs a headless CellProfiler (python tools/cellprofiler_host.py build) and the labelled images.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from _data import DATA, read_validation
from _engine import running_engine
from _report import Bound, Section, finish

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import cellprofiler_host  # noqa: E402

PLUGINS = ROOT / "cellprofiler_modules"
N_IMAGES = 10
LIMIT = 1.3
WALL_TIME = re.compile(r"Image # (\d+), module IdentifyCells # \d+: .*Wall_time = ([\d.]+) secs")
INTRODUCTION = (
    "Ten different images go through a real CellProfiler without its window. Given are the time "
    "inside the module (CellProfiler's own log) and the time that the engine says it took "
    "(`CellSeg_Seconds`). The difference is the exchange of arrays, the edited label images and "
    "the measurements. The engine runs already and has its model loaded, as for all image sets of "
    "a run but the first. RunCellpose is not installed here, so nothing is said about it."
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="Write the report to this file too.")
    parser.add_argument("--write-docs", action="store_true", help="Write the page in docs/.")
    options = parser.parse_args()
    python = cellprofiler_host.find("3.9") or cellprofiler_host.find("3.11")
    if python is None:
        sys.exit("There is no CellProfiler: python tools/cellprofiler_host.py build")
    with tempfile.TemporaryDirectory(prefix="cellseg-bench-") as folder:
        shapes, rounds = measure(python, options.data, options.rounds, Path(folder))
    inside, engine = (np.array([pair[k] for pair in rounds]) for k in (0, 1))
    ratios = [float(a.sum() / b.sum()) for a, b in rounds]
    rows = [
        (shape, *(float(np.median(times[:, k])) for times in (inside, engine)))
        for k, shape in enumerate(shapes)
    ]
    rows.append(("all", *(float(np.median(times.sum(1))) for times in (inside, engine))))
    section = Section(
        title="Seconds per image set",
        text=f"Medians of {options.rounds} rounds, each a process of CellProfiler of its own.",
        columns=("image, pixels", "inside the module", "the engine"),
        rows=[(name, round(a, 3), round(b, 3)) for name, a, b in rows],
        bounds=[
            Bound("time inside the module / the engine's", statistics.median(ratios), "<=", LIMIT)
        ],
        notes=["The rounds: " + ", ".join(f"{ratio:.3f}" for ratio in ratios) + "."],
    )
    return finish(
        [section],
        page="cellprofiler-performance.md",
        title="What IdentifyCells costs in CellProfiler",
        introduction=INTRODUCTION,
        command="python benchmarks/cellprofiler.py --write-docs",
        peer_versions=versions_of(python),
        json_path=options.json,
        write_docs=options.write_docs,
    )


def measure(
    python: Path, data: Path, rounds: int, folder: Path
) -> tuple[list[str], list[tuple[np.ndarray, np.ndarray]]]:
    """Give the images' shapes, and of each round the seconds in the module and in the engine."""
    images = folder / "images"
    images.mkdir()
    shapes = []
    for image in read_validation(data, "fluo", N_IMAGES):
        tifffile.imwrite(images / f"{image.name}.tif", image.pixels)
        shapes.append(" x ".join(map(str, image.pixels.shape)))
    (folder / "pipelines").mkdir()
    program = [str(python), "-m", "tests.integration.cellprofiler_pipelines"]
    subprocess.run([*program, str(PLUGINS), str(folder / "pipelines")], cwd=ROOT, check=True)
    pipeline = folder / "pipelines/basic.cppipe"
    (folder / "runtime").mkdir(mode=0o700)
    environment = {
        **{k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}},
        "CELLSEG_RUNTIME": str(folder / "runtime"),
        "CELLSEG_ENGINE_PYTHON": sys.executable,
    }
    service = [sys.executable, "-m", "cellseg_service", "--background"]
    with running_engine(service, folder / "runtime", environment):
        results = [
            run(python, pipeline, images, folder / f"round-{number}", environment)
            for number in range(rounds + 1)
        ]
    return shapes, results[1:]


def run(
    python: Path, pipeline: Path, images: Path, out: Path, environment: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Run CellProfiler once."""
    program = [str(python), "-m", "cellprofiler", "-c", "-r", "-p", str(pipeline)]
    places = ["-i", str(images), "-o", str(out), "--plugins-directory", str(PLUGINS)]
    done = subprocess.run(
        [*program, *places],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    found = dict(WALL_TIME.findall(done.stdout))
    if done.returncode or len(found) != N_IMAGES:
        sys.exit(f"CellProfiler failed:\n{done.stdout[-4000:]}")
    with (out / "Image.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["ImageNumber"]))
    inside = [float(found[row["ImageNumber"]]) for row in rows]
    engine = [float(row["CellSeg_Seconds_Nuclei"]) for row in rows]
    return np.array(inside), np.array(engine)


def versions_of(python: Path) -> dict[str, str]:
    """Give the versions of a CellProfiler."""
    code = (
        "import importlib.metadata as m, platform; "
        "print('python', platform.python_version()); "
        "[print(n, m.version(n)) for n in ('cellprofiler', 'numpy')]"
    )
    printed = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return dict(line.split() for line in printed.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
