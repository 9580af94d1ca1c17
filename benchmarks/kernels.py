"""Times of single kernels, ours beside cellpose 3.1.1.3's, to be run before and after a change.

``python benchmarks/kernels.py --no-volume --only "flow targets"``; with ``--no-peer`` ours alone.
The two run in turn, each round in a process of its own, after a warm-up; the table gives medians
of the rounds. Tables go to standard error, JSON to standard output; the exit code is 1 when a
bound fails.
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

import numpy as np
from _peer import Peer, clean_environment, find_peer_python
from _report import Bound, Section, finish
from _synthetic import make_labels, make_volume, sum_slice_flows

from cellseg_engine.core.flows import labels_to_flows

HERE = Path(__file__).resolve().parent
LEAST_RATIOS = {
    "flow targets": 10,
    "dynamics, bilinear": 10,
    "clustering": 4,
    "flow check": 10,
    "fields to labels": 10,
    "volume dynamics, trilinear": 20,
    "volume fields to labels": 15,
}
FULL_SIDE = 2048
FULL_VOLUME = (64, 512, 512)
INTRODUCTION = (
    "Seconds of the steps after the network, this engine beside cellpose 3.1.1.3 (the peer) on the "
    "same arrays, with the same number of threads. Flows are the exact ones of synthetic cells; in "
    "the volume, the normalised sum of those of the slices in three directions. 200 steps of "
    "dynamics. The peer does not check the flows of volumes, so masks are compared without the "
    "check, and ours with it stands below. Labels do not depend on the number "
    "of threads."
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=FULL_SIDE, help="Of the image, in px.")
    parser.add_argument(
        "--volume", type=int, nargs=3, default=FULL_VOLUME, metavar=("Z", "Y", "X"), help="In px."
    )
    parser.add_argument("--no-volume", action="store_true", help="Leave the volume out.")
    parser.add_argument("--no-peer", action="store_true", help="Time ours alone.")
    parser.add_argument("--only", nargs="+", default=[], help="Names of kernels, as in the table.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peer-python", default="", help="Interpreter with cellpose 3.1.1.3.")
    parser.add_argument("--json", type=Path, help="Write the report to this file too.")
    parser.add_argument("--write-docs", action="store_true", help="Write docs/kernels.md.")
    options = parser.parse_args()
    is_full = options.side == FULL_SIDE and tuple(options.volume) == FULL_VOLUME
    is_full = is_full and not (options.no_volume or options.no_peer or options.only)
    if options.write_docs and (not is_full or options.rounds < 3):
        parser.error("--write-docs needs everything, in full size and at least 3 rounds")
    versions: dict[str, str] = {}
    programs = {"ours": [sys.executable, str(HERE / "_kernels_worker.py")]}
    environments = {"ours": os.environ | {"NUMBA_NUM_THREADS": str(options.threads)}}
    if not options.no_peer:
        python = find_peer_python(options.peer_python)
        versions = Peer(python, options.threads).versions
        programs["peer"] = [str(python), str(HERE / "peer_kernels.py")]
        environments["peer"] = clean_environment(options.threads)
    with tempfile.TemporaryDirectory(prefix="cellseg-kernels-") as folder:
        arrays, text = make_arrays(options)
        source = Path(folder, "input.npz")
        np.savez(source, only=json.dumps(options.only), threads=options.threads, **arrays)
        times: dict[str, list[dict[str, float]]] = {who: [] for who in programs}
        peaks = dict.fromkeys(programs, 0.0)
        for _ in range(options.rounds):
            for who, program in programs.items():
                answer = run_once([*program, str(source)], environments[who])
                times[who].append(answer["seconds"])
                peaks[who] = max(peaks[who], answer["peak"] / 1e9)
    section = make_section(times, f"{text} {options.threads} threads.", options.only, is_full)
    section.notes.append(
        "Peak memory of the whole process: "
        + ", ".join(f"{who} {peak:.2f} GB" for who, peak in peaks.items())
        + "."
    )
    if is_full:
        section.bounds.append(
            Bound("peak memory, the peer's / ours", peaks["peer"] / peaks["ours"], ">=", 1)
        )
    return finish(
        [section],
        page="kernels.md",
        title="Speed of single kernels",
        introduction=INTRODUCTION,
        command="python benchmarks/kernels.py --write-docs",
        peer_versions=versions,
        json_path=options.json,
        write_docs=options.write_docs,
    )


def make_arrays(options: argparse.Namespace) -> tuple[dict[str, np.ndarray], str]:
    """Give the input of the workers, and what it is in words."""
    labels, generator = make_labels(options.side)
    arrays = {
        "labels": labels,
        "flows": labels_to_flows(labels),
        "shifted": np.roll(labels, (2, 1), (0, 1)),
    }
    text = f"Image: {options.side} x {options.side} px, {labels.max()} cells ({generator})."
    if not options.no_volume:
        volume = make_volume(tuple(options.volume))
        arrays |= {"volume_mask": volume > 0, "volume_flows": sum_slice_flows(volume)}
        size = " x ".join(map(str, options.volume))
        text += f" Volume: {size}, {volume.max()} cells, {np.count_nonzero(volume)} voxels."
    return arrays, text


def run_once(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run a program; what it says."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{Path(command[1]).name} failed:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def make_section(
    times: dict[str, list[dict[str, float]]], text: str, only: list[str], is_full: bool
) -> Section:
    rows: list[tuple[Any, ...]] = []
    bounds = []
    for name in times["ours"][0]:
        if only and name not in only:
            continue
        ours = statistics.median(run[name] for run in times["ours"])
        row: list[Any] = [name, round(ours, 4), round(min(run[name] for run in times["ours"]), 4)]
        if "peer" in times and name not in times["peer"][0]:
            row += ["", "", ""]
        elif "peer" in times:
            peer = statistics.median(run[name] for run in times["peer"])
            ratios = [
                theirs[name] / own[name]
                for own, theirs in zip(times["ours"], times["peer"], strict=True)
            ]
            row += [round(peer, 4), round(peer / ours, 1), f"{min(ratios):.1f}-{max(ratios):.1f}"]
            if is_full and name in LEAST_RATIOS:
                bounds.append(Bound(f"{name}, ratio", peer / ours, ">=", LEAST_RATIOS[name]))
        rows.append(tuple(row))
    peer_columns = ("peer, s", "ratio", "ratios of the rounds") if "peer" in times else ()
    return Section(
        title="Seconds",
        text=f"{text} Medians of {len(times['ours'])} rounds, ours and the peer's in turn.",
        columns=("kernel", "ours, s", "fastest", *peer_columns),
        rows=list(rows),
        bounds=bounds,
    )


if __name__ == "__main__":
    sys.exit(main())
