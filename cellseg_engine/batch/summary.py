"""``summary.csv``: what became of every image of a folder of results."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cellseg_engine.batch.results import JobResult
from cellseg_engine.errors import WriteError
from cellseg_engine.io.process_lock import ProcessLock
from cellseg_engine.io.staging import staged
from cellseg_engine.io.tables import SUMMARY_COLUMNS, write_table

LOCK_TIMEOUT_S = 60
"""For which a run waits until another one has written the table."""


def write_summary(out: Path, results: Sequence[JobResult]) -> Path:
    """Write ``summary.csv``, a row per image; rows of other images of earlier runs stay.

    So do those of images that failed only because their earlier results stay.

    Runs that write to the same folder wait for each other.

    Raises
    ------
    WriteError
        It cannot be written, or a file of that name is not such a table.
    """
    path = out / "summary.csv"
    with _alone(out), staged(out) as stage:
        rows = {_identity(row): row for row in _earlier_rows(path)}
        for result in results:
            row = result.as_row()
            image = _identity(row)
            is_there = image in rows and rows[image]["status"] != "failed"
            if not (result.keeps_earlier and is_there):
                rows[image] = row
        columns = [name for row in rows.values() for name in row if name not in SUMMARY_COLUMNS]
        write_table(
            stage.path(path.name), list(dict.fromkeys((*columns, *SUMMARY_COLUMNS))), rows.values()
        )
    return path


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock of a folder's table, on disks that have locks."""
    lock = ProcessLock(out / ".cellseg-summary.lock")
    if not lock.wait(LOCK_TIMEOUT_S):
        raise WriteError(
            f"Another run was writing {out / 'summary.csv'} for more than {LOCK_TIMEOUT_S} s, so "
            "none was written.",
            hint="Run again once it is done: images that are done are skipped.",
        )
    try:
        yield
    finally:
        lock.release(remove=True)


def _identity(row: Mapping[str, object]) -> str:
    """Give what tells an image from others; rows of old runs may have a path as it was typed."""
    image = str(row["image"])
    return os.path.abspath(image) if Path(image).exists() else image


def _earlier_rows(path: Path) -> list[dict[str, object]]:
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:  # Excel begins it with a mark
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
