"""Tables as CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

SUMMARY_COLUMNS = (
    "image",
    "status",
    "objects",
    "diameter_px",
    "seconds",
    "labels",
    "warnings",
    "error",
)
"""Columns of ``summary.csv``, beside the fields of a plate, which may not have these names."""


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV file: UTF-8, comma, decimal point, one line feed per row, names first.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    columns
        Names of the columns, in order.
    rows
        One mapping of column to value per row. A column that a row lacks, None and NaN are
        written as nothing, floats with nine significant digits, booleans as 1 and 0.

    Raises
    ------
    ValueError
        A row has a column that is not named.
    OSError
        The file cannot be written; inside `staged` it is a `WriteError`.
    """
    known = set(columns)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            if not known >= row.keys():
                unknown = ", ".join(sorted(row.keys() - known))
                raise ValueError(f"The table has no column for {unknown}.")
            writer.writerow([_as_text(row.get(column)) for column in columns])


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return ""
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.9g}"
    return str(value)
