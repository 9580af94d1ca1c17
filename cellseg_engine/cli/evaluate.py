"""``cellseg evaluate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.cli.report import progress_bar
from cellseg_engine.errors import SettingsError

if TYPE_CHECKING:
    from cellseg_engine.batch.intervals import Intervals
    from cellseg_engine.batch.pairing import Pairing

_TABLE_BEGIN = "image,frame,"
"""How a table of scores begins; only such a file is replaced by one."""


@click.command(
    name="evaluate",
    context_settings={"max_content_width": 100},
    epilog="Example: cellseg evaluate --pred results --truth annotations",
)
@click.option(
    "--pred", default=None, type=GivenPath(), help="Label image, or folder (NAME_labels.tif)."
)
@click.option(
    "--truth",
    default=None,
    type=GivenPath(),
    help="True label image, or folder of them (NAME_masks.tif, NAME_labels.tif, NAME.tif).",
)
@click.option(
    "--between",
    nargs=2,
    default=None,
    type=GivenPath(),
    metavar="A B",
    help="Instead of --pred and --truth: label images of two annotators, neither of whom is "
    "right. Only scores that do not change with their order are given.",
)
@click.option(
    "--allow-missing", is_flag=True, help="Leave out true images that have no prediction."
)
@click.option(
    "--axes",
    default=None,
    help="What the dimensions are, for example ZYX, where the files do not say.",
)
@click.option(
    "--csv",
    "csv_path",
    type=GivenPath(dir_okay=False),
    help="Write a row per image; only a table of earlier scores is replaced.",
)
@click.option(
    "--plots",
    type=GivenPath(file_okay=False),
    help="Folder for pictures: AP against IoU, and the five worst images with found (green), "
    "missed (red) and invented (yellow) objects.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the intervals."
)
@click.option("--json", "as_json", is_flag=True, help="All scores as JSON.")
def command(
    pred: Path | None,
    truth: Path | None,
    between: tuple[Path, Path] | None,
    allow_missing: bool,
    axes: str | None,
    seed: int,
    as_json: bool,
    **targets: Path | None,
) -> int:
    """Score label images against the truth, or two annotators against one another.

    Average precision is TP / (TP + FP + FN) at a threshold on the intersection over union, as in
    the Cellpose and StarDist papers. Every score is given POOLED over all objects of all images,
    and as the MEAN PER IMAGE: a dense image weighs more in the first. Brackets are 95 %
    intervals: how far the score moves when other images of the same sort are drawn (bootstrap
    over files).
    """
    from cellseg_engine.batch.agreement import as_agreement
    from cellseg_engine.batch.evaluate import evaluate_pairs
    from cellseg_engine.batch.intervals import bootstrap
    from cellseg_engine.io.staging import staged
    from cellseg_engine.io.tables import write_table

    csv_path, plots = targets["csv_path"], targets["plots"]
    if csv_path:
        _check_table(csv_path)
    pairing = _pair(pred, truth, between, allow_missing)
    with progress_bar("Scoring", len(pairing.pairs)) as advance:
        evaluation = evaluate_pairs(
            pairing, progress=lambda done, _: advance(done), axes=axes, between=bool(between)
        )
    intervals = bootstrap(evaluation, seed=seed)
    scores = as_agreement(evaluation) if between else evaluation.as_dict()
    if not as_json:
        _warn_about_partners(pairing, bool(between))
        for warning in scores["warnings"]:
            click.echo(f"Warning: {warning}", err=True)
        click.echo(_as_text(scores, intervals))
    drawn: list[Path] = []
    try:
        if csv_path:
            rows = scores["images"]
            with staged(csv_path.parent) as stage:
                write_table(stage.path(csv_path.name), list(rows[0]), rows)
        if plots:
            from cellseg_engine.batch.score_plots import write_plots

            drawn = write_plots(plots, evaluation, intervals, axes)
    finally:  # no file that cannot be written takes the scores with it
        if as_json:
            scores["intervals"] = _as_json(intervals, scores)
            scores["plots"] = [str(path) for path in drawn]
            click.echo(json.dumps(scores, indent=2))
    if not as_json:
        for path in drawn:
            click.echo(f"Wrote {path}")
    return 0


def _check_table(path: Path) -> None:
    """Refuse to write the scores to a file that is no table of scores."""
    if path.suffix.lower() != ".csv":
        raise click.UsageError(f"--csv {path} must end in .csv.")
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            is_ours = file.readline(len(_TABLE_BEGIN)) == _TABLE_BEGIN
    except FileNotFoundError:
        return
    if not is_ours:
        raise SettingsError(
            f"--csv {path} is there already and is no table of scores.",
            hint="Move the file away, or give another name.",
        )


def _pair(
    pred: Path | None, truth: Path | None, between: tuple[Path, Path] | None, allow_missing: bool
) -> Pairing:
    from cellseg_engine.batch.pairing import pair_files

    if between and not (pred or truth):
        # Neither is the truth, so an image that only one has annotated is no mistake.
        return pair_files(between[1], between[0], allow_missing=True)
    if between or not (pred and truth):
        raise click.UsageError("Give --pred and --truth, or --between A B.")
    return pair_files(pred, truth, allow_missing=allow_missing)


def _warn_about_partners(pairing: Pairing, is_between: bool) -> None:
    first, second = ("label image of B", "label image of A") if is_between else (
        "prediction", "truth"
    )  # fmt: skip
    for path in pairing.truths_without_prediction:
        click.echo(f"Warning: no {first} for {path}; left out.", err=True)
    for path in pairing.predictions_without_truth:
        click.echo(f"Warning: no {second} for {path}; left out.", err=True)
    if pairing.left_out:
        few = ", ".join(map(str, pairing.left_out[:3])) + (", ..." * (len(pairing.left_out) > 3))
        click.echo(
            f"Warning: {len(pairing.left_out)} of the files are left out, since others in their "
            f"folder end like label images (_labels, _masks and so on) and they do not: {few}",
            err=True,
        )


def _as_json(intervals: Intervals | None, scores: dict[str, Any]) -> dict[str, Any] | None:
    """Give the intervals of the scores that are reported."""
    if intervals is None:
        return None
    values = asdict(intervals)
    for part in ("pooled", "mean_per_image"):
        values[part] = {
            name: list(ends) for name, ends in values[part].items() if name in scores[part]
        }
    return values


def _as_text(scores: dict[str, Any], intervals: Intervals | None) -> str:
    """Lay out the scores in two columns: pooled, and mean per image."""
    pooled, mean = scores["pooled"], scores["mean_per_image"]
    if "n_a" in pooled:
        counted = f"{pooled['n_a']} objects of A and {pooled['n_b']} of B"
    else:
        counted = f"{pooled['n_truth']} true and {pooled['n_prediction']} predicted objects"
    lines = [
        f"{scores['n_images']} images, {counted}",
        f"{'':28}{'pooled':>10}{'':16}{'mean per image':>18}",
    ]
    for name, value in pooled.items():
        if name in mean:
            ends = ("", "")
            if intervals:
                ends = (_bracket(intervals.pooled[name]), _bracket(intervals.mean_per_image[name]))
            lines.append(
                f"{name:28}{value:>10.3f}{ends[0]:16}{mean[name]:>18.3f}{ends[1]}".rstrip()
            )
    if intervals is None:
        lines.append("No intervals: they need two files or more.")
    else:
        lines.append(
            f"[ ]: {intervals.level:.0%} intervals over {intervals.n_files} files "
            f"({intervals.n_resamples} resamples, seed {intervals.seed})"
        )
    return "\n".join(lines)


def _bracket(ends: tuple[float, float]) -> str:
    return f" [{ends[0]:.3f} {ends[1]:.3f}]"
