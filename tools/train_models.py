"""Train the models that come with the program: python tools/train_models.py nuclei --out FOLDER.

Needs the labelled images of docs/models.md in ../shared/data (or --data). Each model goes on from
one that was there before: nuclei and generalist from what they were, the others from nuclei
(docs/decisions/0036). A run that was stopped goes on when it is started again.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tifffile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools.manifest import DATA, read_rows

ROOT = Path(__file__).resolve().parents[1]
LARGE_CROPS, FIELD_CROPS = 2, 8
"""From this many crops on an image counts as large, and as a whole field: it is drawn more often,
since it has more to see."""
CROP_PX = 224
DIAM_MEAN_PX = 17
"""At which the networks see objects."""
SMALL_PX = 13
"""Below this diameter objects count as small: they are the hardest, and are drawn more often."""


@dataclass(frozen=True)
class Plan:
    """How one model is trained.

    Attributes
    ----------
    start_from
        The model it goes on from.
    weights
        How often each kind of image is drawn, in percent; other kinds are not used.
    description
        For its card.
    options
        More options of ``cellseg train``.
    """

    start_from: str
    weights: dict[str, int]
    description: str
    options: tuple[str, ...] = ()


PLANS = {
    "generalist": Plan(
        "generalist",
        {
            "fluo": 15,
            "fluo-large": 16,
            "fluo-small": 17,
            "fluo-field": 11,
            "histology": 16,
            "brightfield": 3,
            "phase": 20,
            "bacteria": 2,
        },
        "Nuclei, whole cells in phase contrast, and bacteria.",
        ("--epochs", "36"),
    ),
    "nuclei": Plan(
        "nuclei",
        {
            "fluo": 19,
            "fluo-large": 20,
            "fluo-small": 24,
            "fluo-field": 14,
            "histology": 18,
            "brightfield": 5,
        },
        "Nuclei in fluorescence, stained tissue and bright field.",
        ("--epochs", "44"),
    ),
    "phase": Plan(
        "nuclei",
        {"phase": 100},
        "Whole cells in phase contrast.",
        ("--epochs", "16"),
    ),
    "nuclei3d": Plan(
        "nuclei",
        {"volume": 50, "fluo": 18, "fluo-large": 12, "fluo-small": 12, "fluo-field": 8},
        "Nuclei in volumes of fluorescence, seen from three sides.",
        ("--epochs", "8", "--slices", "all", "--anisotropy", "1"),
    ),
}


def main() -> int:
    """Write the table of images and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=PLANS)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start-from", default="", help="instead of the plan's")
    given, more = parser.parse_known_args()  # the rest is for cellseg train
    plan = PLANS[given.model]
    given.out.mkdir(parents=True, exist_ok=True)
    table = given.out / "images.csv"
    rows = list(training_rows(given.data.resolve(), plan, DIAM_MEAN_PX))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    command = [
        *(sys.executable, "-m", "cellseg_engine", "train", str(table)),
        *("--out", str(given.out / given.model), "--recipe", "shipped"),
        *("--start-from", given.start_from or plan.start_from, "--allow-chain"),
        *("--licence", "CC0-1.0"),
        *("--validate-every", "4"),
        *("--description", plan.description),
        *("--weights", ",".join(f"{kind}={plan.weights[kind]}" for kind in kinds)),
        *(*plan.options, *more),
    ]
    return subprocess.run(command, check=False).returncode


def training_rows(data: Path, plan: Plan, diam_mean_px: float) -> Iterator[dict[str, str]]:
    """Give the rows of the table of images; stained tissue comes in grey and as hematoxylin."""
    for row in read_rows(data, "train"):
        image = data / f"{row['path']}_img.tif"
        kind = row["kind"]
        if kind == "fluo":
            kind = fluo_kind(image, float(row["median_diameter_px"]), diam_mean_px)
        if kind not in plan.weights:
            continue
        for channel in ("gray", "hematoxylin") if row["axes"] == "YXS" else ("",):
            yield {
                "path": f"{row['path']} {channel}".strip(),
                "image": os.fspath(image),
                "labels": os.fspath(data / f"{row['path']}_masks.tif"),
                "role": "train",
                "kind": kind,
                "group": row["group"],
                "axes": row["axes"],
                "channel": channel,
            }


def fluo_kind(image: Path, diameter_px: float, diam_mean_px: float) -> str:
    """Give the kind of an image of fluorescence: a field, small objects, much to see, or none."""
    with tifffile.TiffFile(image) as tiff:
        height, width = tiff.pages[0].shape[:2]
    n_crops = height * width * (diam_mean_px / diameter_px) ** 2 / CROP_PX**2
    if n_crops >= FIELD_CROPS:
        return "fluo-field"
    if diameter_px < SMALL_PX:
        return "fluo-small"
    return "fluo-large" if n_crops >= LARGE_CROPS else "fluo"


if __name__ == "__main__":
    sys.exit(main())
