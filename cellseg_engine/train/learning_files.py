"""What a learning curve writes: a file for each point, the table, the facts and the picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_engine.errors import MissingDependencyError, ReadError, SettingsError
from cellseg_engine.io.figures import figure_class
from cellseg_engine.io.staging import staged
from cellseg_engine.io.tables import write_table
from cellseg_engine.train.record import to_json

TABLE, FACTS, PICTURE = "learning_curve.csv", "learning_curve.json", "learning_curve.png"
POINTS = "points"
SCORES = ("ap_0.50", "ap_0.75", "ap_0.90", "ap_mean", "ap_0.50_pooled")
COLUMNS = (
    *("start", "wanted", "subset", "images", "objects"),
    *SCORES,
    *("seconds", "weights_sha256"),
)
_DRAWN = (("ap_0.50", "AP at IoU 0.5"), ("ap_0.75", "AP at IoU 0.75"))
_COLOURS = {"pretrained": "tab:blue", "scratch": "tab:orange"}

Row = Mapping[str, Any]


def read_point(out: Path, name: str, fingerprint: str) -> dict[str, Any] | None:
    """Give the row of a point that was made before; None if it was not.

    Raises
    ------
    SettingsError
        It was made with other images or settings, or by another version.
    ReadError
        Its file is damaged.
    """
    path = out / POINTS / f"{name}.json"
    if not path.exists():
        return None
    row, before = _read(path)
    if before != fingerprint:
        raise SettingsError(
            f"{path} was made with other images, another model, other settings or by another "
            "version of cellseg, so its score cannot stand in one curve with new ones.",
            hint="Give another --out, or delete the folder points.",
        )
    return row


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Give the row and the fingerprint of a point."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        row = {column: content["row"][column] for column in COLUMNS}
        return row, content["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"{path} is damaged or was not written by `cellseg learning-curve`.",
            hint="Delete it, to make the point again, or give another --out.",
        ) from error


def write_point(out: Path, name: str, fingerprint: str, row: Row) -> None:
    """Keep the row of a point."""
    with staged(out / POINTS) as stage:
        stage.path(f"{name}.json").write_text(
            to_json({"fingerprint": fingerprint, "row": dict(row)}), encoding="utf-8"
        )


def write_curve(out: Path, facts: Row) -> list[dict[str, Any]]:
    """Write table, facts and picture of all points that are there; give their rows.

    Without matplotlib there is no picture.

    Raises
    ------
    ReadError
        The file of a point is damaged.
    """
    rows = _all_points(out)
    summary = summarise(rows)
    with staged(out) as stage:
        write_table(stage.path(TABLE), COLUMNS, rows)
        content = {**facts, "summary": summary, "points": rows}
        stage.path(FACTS).write_text(to_json(content), encoding="utf-8")
        with suppress(MissingDependencyError):
            _draw(stage.path(PICTURE), rows, summary)
    return rows


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Give mean, standard deviation, smallest and largest score of the subsets of each size.

    Returns
    -------
    A dictionary for each start and size, in the order of the rows; ``_sd`` is None for a single
    subset.
    """
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["start"], row["wanted"]), []).append(row)
    found = []
    for (start, wanted), members in groups.items():
        one: dict[str, Any] = {
            "start": start,
            "wanted": wanted,
            "subsets": len(members),
            "objects": float(np.mean([row["objects"] for row in members])),
        }
        for score in SCORES:
            values = np.array([row[score] for row in members])
            one[f"{score}_mean"] = float(values.mean())
            one[f"{score}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else None
            one[f"{score}_min"], one[f"{score}_max"] = float(values.min()), float(values.max())
        found.append(one)
    return found


def _all_points(out: Path) -> list[dict[str, Any]]:
    """Give the rows of all points, the first model first, then by start, size and subset."""
    paths = (out / POINTS).glob("*.json")
    # What begins with a dot is half a point of a run that was killed.
    rows = [_read(path)[0] for path in paths if not path.name.startswith(".")]
    return sorted(
        rows, key=lambda row: (row["wanted"] > 0, row["start"], row["wanted"], row["subset"])
    )


def _draw(path: Path, rows: Sequence[Row], summary: Sequence[Row]) -> None:
    """Draw score against number of objects: mean, range and each network."""
    figure = figure_class()(figsize=(10, 4.2), layout="constrained")
    for axes, (score, title) in zip(figure.subplots(1, 2), _DRAWN, strict=True):
        for start, colour in _COLOURS.items():
            mine = [one for one in summary if one["start"] == start and one["wanted"]]
            objects = [one["objects"] for one in mine]
            if mine:
                axes.plot(
                    objects,
                    [one[f"{score}_mean"] for one in mine],
                    "o-",
                    color=colour,
                    label="from the model" if start == "pretrained" else "from random weights",
                )
                low, high = ([one[f"{score}_{end}"] for one in mine] for end in ("min", "max"))
                axes.fill_between(objects, low, high, color=colour, alpha=0.2, lw=0)
            dots = [row for row in rows if row["start"] == start and row["wanted"]]
            axes.plot(
                [row["objects"] for row in dots],
                [row[score] for row in dots],
                ".",
                color=colour,
                alpha=0.6,
            )
        for row in rows:
            if row["wanted"] == 0:
                axes.axhline(row[score], color="grey", ls=":", label="the model as it is")
        if any(row["wanted"] for row in rows):
            axes.set_xscale("log")
        axes.set(ylim=(0, 1), xlabel="annotated objects", ylabel=title)
        if rows:
            axes.legend(fontsize="small", loc="upper left")
    figure.savefig(path, dpi=110)
