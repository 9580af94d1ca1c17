"""The curves of a training: losses and scores by epoch, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellseg_engine.io.figures import figure_class
from cellseg_engine.io.staging import staged
from cellseg_engine.io.tables import write_table

TABLE, PICTURE = "curves.csv", "curves.png"
COLUMNS = (
    "epoch",
    "learning_rate",
    "flow_loss",
    "probability_loss",
    "held_out_flow_loss",
    "held_out_probability_loss",
    "held_out_ap_0.50",
    "held_out_ap_0.75",
    "held_out_ap_0.90",
    "held_out_ap_mean",
    "held_out_ap_0.50_pooled",
)
_LOSSES = (
    ("flow_loss", "flows", "tab:blue"),
    ("probability_loss", "probability", "tab:orange"),
)
_SCORES = (
    ("held_out_ap_0.50", "AP at IoU 0.5"),
    ("held_out_ap_0.75", "AP at IoU 0.75"),
    ("held_out_ap_0.90", "AP at IoU 0.9"),
    ("held_out_ap_mean", "mean of AP 0.5-0.95"),
)

Rows = Sequence[Mapping[str, Any]]


def write_curves(folder: Path, rows: Rows) -> None:
    """Write the table of the curves, replacing an earlier one."""
    with staged(folder) as stage:
        write_table(stage.path(TABLE), COLUMNS, rows)


def draw_curves(folder: Path, rows: Rows, chosen_epoch: int) -> None:
    """Draw losses and scores by epoch into a PNG file.

    Parameters
    ----------
    rows
        As written by `write_curves`.
    chosen_epoch
        The epoch whose weights were kept; it is marked.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    figure = figure_class()(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for column, what, colour in _LOSSES:
        left.plot(*_series(rows, column), color=colour, label=f"{what}, training")
        epochs, values = _series(rows, f"held_out_{column}")
        left.plot(epochs, values, "o--", color=colour, ms=3, label=f"{what}, held out")
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    for column, what in _SCORES:
        right.plot(*_series(rows, column), "o-", ms=3, label=what)
    right.set(xlabel="epoch", ylabel="average precision, held-out images", ylim=(0, 1))
    for axes in (left, right):
        axes.axvline(chosen_epoch, color="grey", lw=1, ls=":", label="weights kept")
        axes.legend(
            fontsize="small",
            frameon=False,
            ncols=2,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
        )
    with staged(folder) as stage:
        figure.savefig(stage.path(PICTURE), dpi=110)


def _series(rows: Rows, column: str) -> tuple[list[int], list[float]]:
    there = [row for row in rows if row.get(column) is not None]
    return [row["epoch"] for row in there], [row[column] for row in there]
