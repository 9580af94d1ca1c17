"""``summary.csv``: what became of every image of a folder of results."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from cellseg_engine.batch.results import JobResult
from cellseg_engine.errors import WriteError
from cellseg_engine.io.staging import staged
from cellseg_engine.io.tables import SUMMARY_COLUMNS, write_table


def write_summary(out: Path, results: Sequence[JobResult]) -> Path:
    """Write ``summary.csv``, a row per image; rows of other images of earlier runs stay.

    Raises
    ------
    WriteError
        It cannot be written, or a file of that name is not such a table.
    """
    path = out / "summary.csv"
    rows = {str(row["image"]): row for row in _earlier_rows(path)}
    rows |= {str(row["image"]): row for row in (result.as_row() for result in results)}
    columns = [name for row in rows.values() for name in row if name not in SUMMARY_COLUMNS]
    with staged(out) as stage:
        write_table(
            stage.path(path.name), list(dict.fromkeys((*columns, *SUMMARY_COLUMNS))), rows.values()
        )
    return path


def _earlier_rows(path: Path) -> list[dict[str, object]]:
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            rows: list[dict[str, object]] = [dict(row) for row in reader]
    except (OSError, ValueError, csv.Error):
        reader, rows = None, []
    if (
        reader is None
        or not set(SUMMARY_COLUMNS) <= set(reader.fieldnames or ())
        or any(None in row for row in rows)
    ):
        raise WriteError(
            f"{path} is there already and is no summary of cellseg, so none was written.",
            hint="Move the file away, or use another --out.",
        )
    return rows
