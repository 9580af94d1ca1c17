"""The table of the labelled images in ../shared/data, for the tools and the benchmarks."""

from __future__ import annotations

import csv
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
KINDS = {
    "phase contrast, whole cells (T98G)": "phase",
    "E. coli, DAPI": "bacteria",
    "noisy fluorescent nuclei": "volume",
    "fluorescent nuclei": "volume",
}
"""Kinds of the manifest in one word; others are one."""
UNREADABLE = ("volumes/train/1137_mini",)
"""Its image is noise in which no object can be seen: its grey values overflowed."""


def read_rows(data: Path, role: str) -> list[dict[str, str]]:
    """Read the rows of the images of a role that can be used, kinds in one word."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == role]
    return [
        row | {"kind": KINDS.get(row["kind"], row["kind"])}
        for row in rows
        if row["path"] not in UNREADABLE
    ]
