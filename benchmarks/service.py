"""What the boundary between a host and the engine costs, beyond the engine's own time.

``python benchmarks/service.py`` starts a real service with a model that costs nothing and asks it
from the Python of a host (3.9, or 3.8). Tables go to standard error, JSON to standard output; the
exit code is 1 when a bound fails.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _engine import running_engine
from _report import Bound, Section, finish

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LIMITS_MS = {
    "nothing (64 x 64 uint16)": 5.0,
    "2048 x 2048 float32": 25.0,
    "64 x 1024 x 1024 uint16": 400.0,
}
INTRODUCTION = (
    "A host writes an image into the exchange folder, asks, and reads the labels (uint16) back. "
    "Given is the time of the whole call minus what the engine says it took itself; the first "
    "call is not counted, and is shown. The peer, measured in turn in the same process: the same "
    "arrays through a socket with pickle (multiprocessing.connection), without queue, progress, "
    "cancel or checks."
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="", help="Of the host; looked for if empty.")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="Write the report to this file too.")
    parser.add_argument("--write-docs", action="store_true", help="Write the page in docs/.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cellseg-bench-") as folder:
        facts, cases = run(options.python or find_python(), options.repeats, Path(folder))
    rows = [make_row(case) for case in cases]
    found = [statistics.median(facts["ensure"]), min(facts["ensure"]), max(facts["ensure"])]
    section = Section(
        title="Milliseconds a call, beyond the engine's own",
        text=f"Medians of {options.repeats} calls from Python {facts['python']}, warm.",
        columns=("image", "ours", "fastest", "slowest", "first", "peer", "ours / peer"),
        rows=[*rows, ("finding the engine that runs", *(round(t, 2) for t in found), "", "", "")],
        bounds=[
            Bound(f"{row[0]}, ms", float(row[1]), "<", LIMITS_MS[row[0]])
            for row in rows
            if row[0] in LIMITS_MS
        ],
    )
    return finish(
        [section],
        page="service-performance.md",
        title="What the service costs",
        introduction=INTRODUCTION,
        command="python benchmarks/service.py --write-docs",
        peer_versions={"python": facts["python"], "numpy": facts["numpy"]},
        json_path=options.json,
        write_docs=options.write_docs,
    )


def make_row(case: dict[str, Any]) -> tuple[str, float, float, float, float, float, float]:
    ours, peer = statistics.median(case["ours"]), statistics.median(case["peer"])
    times = (ours, min(case["ours"]), max(case["ours"]), case["first"], peer)
    first, second, third, fourth, fifth = (round(t, 2) for t in times)
    return case["name"], first, second, third, fourth, fifth, round(ours / peer, 2)


def run(python: str, repeats: int, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    runtime = folder / "runtime"
    environment = {
        **os.environ,
        "CELLSEG_RUNTIME": str(runtime),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "bridges")]),
    }
    stub = [sys.executable, str(HERE / "_service_stub.py"), "--background"]
    with running_engine(stub, runtime, environment):
        client = subprocess.run(
            [python, str(HERE / "_service_client.py"), str(repeats), str(folder / "peer")],
            env={**environment, "PYTHONPATH": str(ROOT / "bridges")},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    facts, *cases = map(json.loads, client.stdout.splitlines())
    return facts, cases


def find_python() -> str:
    sys.path.insert(0, str(ROOT))
    from tests.integration.service import old_pythons

    found = old_pythons()
    if not found:
        sys.exit("Python 3.9 with NumPy was not found: give it with --python.")
    return str(found[-1])


if __name__ == "__main__":
    sys.exit(main())
