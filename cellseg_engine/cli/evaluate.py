"""``cellseg evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.cli.report import progress_bar


@click.command(
    name="evaluate",
    context_settings={"max_content_width": 100},
    epilog="Example: cellseg evaluate --pred results --truth annotations",
)
@click.option(
    "--pred",
    required=True,
    type=GivenPath(),
    help="Label image, or folder of them (NAME_labels.tif).",
)
@click.option(
    "--truth",
    required=True,
    type=GivenPath(),
    help="True label image, or folder of them (NAME_masks.tif, NAME_labels.tif, NAME.tif).",
)
@click.option(
    "--allow-missing", is_flag=True, help="Leave out true images that have no prediction."
)
@click.option(
    "--axes",
    default=None,
    help="What the dimensions are, for example ZYX, where the files do not say.",
)
@click.option("--csv", "csv_path", type=GivenPath(), help="Write a row per image.")
@click.option("--json", "as_json", is_flag=True, help="All scores as JSON.")
def command(
    pred: Path,
    truth: Path,
    allow_missing: bool,
    axes: str | None,
    csv_path: Path | None,
    as_json: bool,
) -> int:
    """Score label images against the truth.

    Average precision is TP / (TP + FP + FN) at a threshold on the intersection over union, as in
    the Cellpose and StarDist papers. Every score is given POOLED over all objects of all images,
    and as the MEAN PER IMAGE: a dense image weighs more in the first.
    """
    from cellseg_engine.batch.evaluate import evaluate_pairs, pair_files
    from cellseg_engine.io.staging import staged
    from cellseg_engine.io.tables import write_table

    if csv_path and csv_path.suffix.lower() != ".csv":
        raise click.UsageError(f"--csv {csv_path} must end in .csv.")
    pairing = pair_files(pred, truth, allow_missing=allow_missing)
    with progress_bar("Scoring", len(pairing.pairs)) as advance:
        evaluation = evaluate_pairs(pairing, progress=lambda done, _: advance(done), axes=axes)
    if csv_path:
        rows = evaluation.rows()
        with staged(csv_path.parent) as stage:
            write_table(stage.path(csv_path.name), list(rows[0]), rows)
    if as_json:
        click.echo(json.dumps(evaluation.as_dict(), indent=2))
        return 0
    for path in pairing.truths_without_prediction:
        click.echo(f"Warning: no prediction for {path}; left out.", err=True)
    for path in pairing.predictions_without_truth:
        click.echo(f"Warning: no truth for {path}; left out.", err=True)
    click.echo(_as_text(evaluation.as_dict()))
    return 0


def _as_text(scores: dict[str, Any]) -> str:
    """Lay out the scores in two columns: pooled, and mean per image."""
    pooled, mean = scores["pooled"], scores["mean_per_image"]
    lines = [
        (
            f"{scores['n_images']} images, {pooled['n_truth']} true and "
            f"{pooled['n_prediction']} predicted objects"
        ),
        f"{'':28}{'pooled':>10}{'mean per image':>18}",
    ]
    for name, value in pooled.items():
        if name in mean:
            lines.append(f"{name:28}{value:>10.3f}{mean[name]:>18.3f}")
    return "\n".join(lines)
