"""How many annotated cells a model needs to learn a new kind of image.

``python benchmarks/learning_curve.py --out FOLDER --write-docs`` runs ``cellseg learning-curve``
from ``nuclei`` on the phase contrast images and writes docs/learning-curve.md. Points that are in
FOLDER already are taken from there; ``--sizes``, ``--subsets`` and ``--starts`` make a part.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from _data import DATA
from _report import DOCS, Bound, Section, describe_machine, finish

KIND = "phase contrast, whole cells (T98G)"
PICTURE = "learning-curve.png"
BOUND_SIZE = 100
BOUND_GAIN = 0.10
BOUND_SUBSETS = 3
BOUND_CPU_MINUTES = 30
PAPER_STEPS = 300
MACHINE = "machine.json"
"""Beside the points: where they were made, for the minutes they took."""


def run(given: argparse.Namespace) -> int:
    """Make the points that are missing; 2 when others were made on another machine."""
    here = {"machine": describe_machine(), "cores": os.cpu_count() or 1}
    if (there := read_machine(given.out) or here) != here:
        print(
            f"The points in {given.out} were made on {there['machine']}, and their minutes cannot "
            "stand beside those of this one: give another --out.",
            file=sys.stderr,
        )
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / MACHINE).write_text(json.dumps(here) + "\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "cellseg_engine", "learning-curve", str(given.data)),
        *("--test", str(given.data), "--kind", KIND, "--out", str(given.out)),
        *("--start-from", given.start_from, "--steps", str(given.steps)),
        *("--sizes", given.sizes, "--subsets", given.subsets, "--starts", given.starts),
    ]
    return subprocess.run(command).returncode


def read_machine(out: Path) -> dict[str, Any] | None:
    """Give where the points were made; None for points of a time before that was kept."""
    path = out / MACHINE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def count_steps(recipe: dict[str, Any]) -> int:
    """Give the steps of every training."""
    return int(recipe["epochs"] * recipe["images_per_epoch"] // recipe["batch_size"])


def curve_section(facts: dict[str, Any], machine: dict[str, Any] | None) -> Section:
    """Give table and bound of a learning curve."""
    recipe = facts["recipe"]
    section = Section(
        "Scores",
        f"{len(facts['training'])} images to draw from, {len(facts['test'])} test images, all of "
        f"other cultures. `{facts['start']['name']}` (SHA-256 "
        f"`{facts['start']['sha256'][:12]}`) is the model to go on from; it was trained on nuclei "
        f"only. Every network: {recipe['epochs']} epochs of "
        f"{recipe['images_per_epoch']} squares ({count_steps(recipe)} steps; the paper and "
        f"`cellseg learning-curve`: {PAPER_STEPS}), {recipe['optimizer']} "
        f"{recipe['learning_rate']:g}, {recipe['precision']}; no images held "
        f"out, the last weights. Diameter for all test images: {facts['diameter_px']:.1f} px, the "
        "mean of the images to draw from. Mean AP per image; spread: standard deviation over "
        "subsets, and their range.",
    )
    section.columns = (
        "from",
        "objects wanted",
        "mean objects",
        "subsets",
        "AP@0.5",
        "standard deviation",
        "range",
        "AP@0.75",
        "AP@0.9",
    )
    for one in facts["summary"]:
        spread = one["ap_0.50_sd"]
        section.rows.append(
            (
                "model" if one["start"] == "pretrained" else "random weights",
                one["wanted"],
                round(one["objects"], 1),
                one["subsets"],
                one["ap_0.50_mean"],
                "" if spread is None else spread,
                f"{one['ap_0.50_min']:.3f} to {one['ap_0.50_max']:.3f}",
                one["ap_0.75_mean"],
                one["ap_0.90_mean"],
            )
        )
    gain, n_subsets = gain_over_model(facts)
    section.bounds.append(
        Bound(
            f"gain of mean AP@0.5 with {BOUND_SIZE} objects over the model as it is",
            gain,
            ">=",
            BOUND_GAIN,
        )
    )
    section.bounds.append(Bound(f"subsets of {BOUND_SIZE} objects", n_subsets, ">=", BOUND_SUBSETS))
    minutes = [row["seconds"] / 60 for row in facts["points"] if row["objects"]]
    if minutes and machine:
        cores = machine["cores"]
        section.bounds.append(
            Bound("CPU minutes of a point at most", max(minutes) * cores, "<=", BOUND_CPU_MINUTES)
        )
        section.notes.append(
            f"Minutes for a point, training and scoring: {min(minutes):.1f} to {max(minutes):.1f}, "
            f"on {machine['machine']}, while it may have had other work; times its {cores} cores, "
            "that is the most CPU time that a point can have taken."
        )
    return section


def gain_over_model(facts: dict[str, Any]) -> tuple[float, int]:
    """Give how much the mean AP@0.5 rises over the model, and of how many subsets it is."""
    summary = {(one["start"], one["wanted"]): one for one in facts["summary"]}
    model, trained = summary.get(("pretrained", 0)), summary.get(("pretrained", BOUND_SIZE))
    if model is None or trained is None:
        return math.nan, 0
    return trained["ap_0.50_mean"] - model["ap_0.50_mean"], trained["subsets"]


def main() -> int:
    """Run the experiment and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with manifest.csv.")
    parser.add_argument("--out", type=Path, required=True, help="Folder of the points.")
    parser.add_argument("--start-from", default="nuclei")
    parser.add_argument("--sizes", default="5,20,100,500")
    parser.add_argument("--subsets", default="1,2,3")
    parser.add_argument("--starts", default="both")
    parser.add_argument("--steps", type=int, default=100, help="Of every training; the paper: 300.")
    parser.add_argument("--report-only", action="store_true", help="Train nothing.")
    parser.add_argument("--json", type=Path, help="Write all to this file.")
    parser.add_argument("--write-docs", action="store_true")
    given = parser.parse_args()
    if not given.report_only and (status := run(given)):
        return status
    facts = json.loads((given.out / "learning_curve.json").read_text(encoding="utf-8"))
    steps = count_steps(facts["recipe"])
    command = f"python benchmarks/learning_curve.py --out FOLDER --steps {steps} --write-docs"
    if given.write_docs:
        picture = given.out / "learning_curve.png"
        if not picture.is_file():
            sys.exit(f"{picture} is not there: run `cellseg learning-curve` with matplotlib.")
        shutil.copyfile(picture, DOCS / "images" / PICTURE)
    introduction = (
        "How the score on unseen images grows with the number of annotated objects, for networks "
        "that go on from a model and for networks from random weights (the experiment of "
        "Pachitariu and Stringer 2022, figure 3), here on whole cells in phase contrast, a kind of "
        "image that the model never saw. How subsets are drawn: [training](training.md).\n\n"
        f"![Learning curve](images/{PICTURE})"
    )
    return finish(
        [curve_section(facts, read_machine(given.out))],
        page="learning-curve.md",
        title="Learning curve",
        introduction=introduction,
        command=command,
        peer_versions={},
        json_path=given.json,
        write_docs=given.write_docs,
    )


if __name__ == "__main__":
    sys.exit(main())
