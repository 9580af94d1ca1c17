"""What Segment Cells costs in a headless Fiji, beyond the engine's own time.

``python benchmarks/fiji.py`` starts a real service with a model that costs nothing and runs the
real script by a macro in the headless ImageJ of the tests (tools/fiji_host.py build). Tables go to
standard error, JSON to standard output; the exit code is 1 when a bound fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _engine import running_engine
from _report import Bound, Section, finish

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from tests.integration.fiji_host import (  # noqa: E402
    ImageJ,
    lay_out,
    lay_out_imagej,
    mini_fiji,
    plain_imagej,
    virtual_display,
)

CASES = {
    "2048 x 2048 uint16, 2000 ROIs": 'newImage("case", "16-bit ramp", 2048, 2048, 1);',
    "64 x 1024 x 1024 uint16, 512 ROIs": 'newImage("case", "16-bit ramp", 1024, 1024, 64);',
}
IN_WINDOWS = "2048 x 2048 uint16, 2000 ROIs, with windows and ROI Manager"
LIMITS_MS = dict(zip([*CASES, IN_WINDOWS], (150.0, 600.0, 450.0), strict=True))
ABOUT = (
    "from java.lang import System\n"
    "from ij import IJ\n"
    "result = [System.getProperty('java.version'), IJ.getVersion()]"
)
RUN = """
{before}start = getTime();
run("Segment Cells", "model=stub image=case");
wall = getTime() - start;
selectImage("case-labels");
info = getMetadata("Info");
close();
return "" + wall + "|" + info;
"""
INTRODUCTION = (
    "A macro runs Segment Cells on an open image: the pixels go to the engine, label image, ROIs "
    "and their archive come back, the ROIs are drawn as an overlay. Given is the time of the whole "
    "command minus what the model took; the engine's encoding of the ROIs counts. The first call, "
    "which starts nothing but compiles much, is not counted, and is shown. With windows it is a "
    "plain ImageJ under Xvfb; the ROI Manager is emptied before each run, outside the time."
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=10, help="Calls before the counted ones.")
    parser.add_argument("--json", type=Path, help="Write the report to this file too.")
    parser.add_argument("--write-docs", action="store_true", help="Write the page in docs/.")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="cellseg-bench-") as folder,
        engine(Path(folder)) as environment,
    ):
        with mini_fiji(lay_out(Path(folder) / "Fiji.app"), environment) as host:
            rows = [
                measure(host, name, make, options.repeats, options.warm_up)
                for name, make in CASES.items()
            ]
            java = host.python(ABOUT)
        with (
            virtual_display() as display,
            plain_imagej(lay_out_imagej(Path(folder) / "ImageJ"), display, environment) as host,
        ):
            host.macro('run("ROI Manager...");')
            make = next(iter(CASES.values()))
            before = 'roiManager("reset");'
            rows.append(measure(host, IN_WINDOWS, make, options.repeats, options.warm_up, before))
    section = Section(
        title="Milliseconds a run, beyond the model's own",
        text=f"Medians of {options.repeats} runs after {options.warm_up} others.",
        columns=("image", "ours", "fastest", "slowest", "first", "of it in the engine"),
        rows=rows,
        bounds=[Bound(f"{row[0]}, ms", float(row[1]), "<=", LIMITS_MS[row[0]]) for row in rows],
    )
    return finish(
        [section],
        page="fiji-performance.md",
        title="What the Fiji script costs",
        introduction=INTRODUCTION,
        command="python benchmarks/fiji.py --write-docs",
        peer_versions={"java": java[0], "ImageJ": java[1]},
        json_path=options.json,
        write_docs=options.write_docs,
    )


def measure(
    host: ImageJ, name: str, make: str, repeats: int, warm_up: int, before: str = ""
) -> tuple[str, float, float, float, float, float]:
    host.macro(make)
    found = [run_once(host, before) for _ in range(1 + warm_up + repeats)]
    host.macro('close("*");')
    beyond = [wall - model for wall, model, _ in found]
    counted = beyond[1 + warm_up :]
    engine = statistics.median(other for _, _, other in found[1 + warm_up :])
    return (
        name,
        round(statistics.median(counted), 1),
        round(min(counted), 1),
        round(max(counted), 1),
        round(beyond[0], 1),
        round(engine, 1),
    )


def run_once(host: ImageJ, before: str) -> tuple[float, float, float]:
    """Give the milliseconds of the whole run, of the model, and of the engine beside the model."""
    answer = host.macro(RUN.format(before=before)) or ""
    wall, _, info = answer.partition("|")
    found = re.search(r"^seconds: (.*)$", info, re.MULTILINE)
    if found is None:
        sys.exit(f"The run failed: {host.printed}")
    seconds: dict[str, Any] = json.loads(found[1])
    model = 1e3 * (seconds["segment"] + seconds["model"])
    return float(wall), model, 1e3 * seconds["total"] - model


@contextmanager
def engine(folder: Path) -> Iterator[dict[str, str]]:
    """Give the environment in which an ImageJ finds an engine with the stub."""
    runtime = folder / "runtime"
    environment = {
        **os.environ,
        "CELLSEG_RUNTIME": str(runtime),
        "CELLSEG_ENGINE_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "bridges")]),
    }
    stub = [sys.executable, str(HERE / "_fiji_stub.py"), "--background"]
    with running_engine(stub, runtime, environment):
        yield environment


if __name__ == "__main__":
    sys.exit(main())
