"""``cellseg train``."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.cli.train_options import (
    reading_options,
    recipe_options,
    take_recipe,
    take_settings,
)
from cellseg_engine.cli.train_report import print_event, training_reporter

if TYPE_CHECKING:
    from cellseg_engine.train.dataset import Remark
    from cellseg_engine.train.ensemble import EnsembleResult
    from cellseg_engine.train.options import TrainingResult

_REPORTED_REMARKS = 10


@click.command(
    name="train",
    context_settings={"max_content_width": 100},
    epilog="Example: cellseg train my_cells/ --out my_model",
)
@click.argument("paths", nargs=-1, required=True, type=GivenPath(), metavar="DIR...")
@click.option("--out", required=True, type=GivenPath(file_okay=False), help="Folder for the model.")
@click.option("--name", default="", help="Name of the model; that of the folder if left out.")
@recipe_options
@click.option(
    "--weights",
    default="",
    help="How often each kind of image is drawn: fluo=60,phase=40, or 60/40 in the "
    "order of DIR. Without: every image alike.",
)
@click.option(
    "--held-out-share",
    type=float,
    default=None,
    help="Part of the images, in whole groups, to choose the best weights by; 0 trains "
    "on all and keeps the last weights.  [default: 0.12; 0 with a single image]",
)
@reading_options
@click.option(
    "--size-model/--no-size-model",
    default=True,
    show_default=True,
    help="Also fit what estimates the diameter. With --epochs 0 --start-from MODEL only this.",
)
@click.option(
    "--networks",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Train so many networks that differ in their seed, as one model: their outputs are "
    "averaged. Each takes as long as one.",
)
@click.option("--licence", default="unknown", help="Of the weights, for the model's card.")
@click.option("--description", default="", help="A sentence about the model, for its card.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Begin anew and replace an earlier training in the folder. To go on with a training that "
    "was stopped, leave this out.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for programs.")
@click.option("--verbose", is_flag=True, help="Details of internal errors.")
def command(
    paths: Sequence[Path],
    out: Path,
    networks: int,
    as_json: bool,
    verbose: bool,
    **arguments: Any,
) -> int:
    """Train a model on annotated images.

    DIR is a folder of images with annotations (NAME.tif with NAME_masks.tif, NAME_seg.npy or
    NAME_rois.zip; sub-folders too), or one with a manifest.csv. The result is NAME.safetensors,
    which `cellseg segment --model` takes, with the curves (curves.png, curves.csv), what was left
    out and why (left_out.csv), and everything needed to train it again (training.json).

    A training that was stopped or killed goes on where it was when it is started again in the
    same way, but without --overwrite. docs/training.md is a guide. How many annotated objects are
    worth having says `cellseg learning-curve`, which `cellseg train --learning-curve` is, too.
    """
    if verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s")
        logging.getLogger("numba").setLevel(logging.WARNING)
    settings = take_settings(arguments)
    recipe = take_recipe(arguments)
    from cellseg_engine.train.ensemble import train_ensemble
    from cellseg_engine.train.options import TrainingOptions
    from cellseg_engine.train.run import train

    options = TrainingOptions(paths=paths, out=out, recipe=recipe, settings=settings, **arguments)
    with training_reporter(as_json) as (report, warn):
        if networks > 1:
            ensemble = train_ensemble(options, networks, report, warn)
        else:
            result = train(options, report, warn)
    if networks > 1:
        _tell_ensemble(ensemble, as_json)
    elif as_json:
        print_event("done", **_as_event(result))
    else:
        _tell(result, out)
    return 0


def _tell_remarks(remarks: Sequence[Remark], out: Path) -> None:
    """Say what was left out or changed, as far as it is not too much."""
    for remark in remarks[:_REPORTED_REMARKS]:
        click.echo(f"{remark.image}: {remark.what}: {remark.reason}", err=True)
    more = len(remarks) - _REPORTED_REMARKS
    if more > 0:
        click.echo(f"... and {more} more in {out / 'left_out.csv'}", err=True)


def _as_event(result: TrainingResult) -> dict[str, Any]:
    from cellseg_engine.train.dataset import count_left_out

    return {
        "model": str(result.model),
        "chosen_epoch": result.trained.epoch,
        "scores": result.trained.validation,
        "left_out": count_left_out(result.remarks),
        "warnings": list(result.warnings),
    }


def _tell(result: TrainingResult, out: Path) -> None:
    """Say what came out, in a few lines."""
    _tell_remarks(result.remarks, out)
    click.echo(f"Trained on {result.card.training_data}.")
    scores = result.trained.validation
    if scores:
        click.echo(
            f"Best weights: epoch {result.trained.epoch}; held-out images: AP "
            f"{scores['held_out_ap_0.50']:.3f} at IoU 0.5, {scores['held_out_ap_0.75']:.3f} at "
            f"0.75, {scores['held_out_ap_0.90']:.3f} at 0.9 (mean per image, true diameter)."
        )
    if result.size is not None and not math.isnan(result.size.median_error):
        is_known = not math.isnan(result.size.correlation)
        correlation = f", correlation {result.size.correlation:.2f}" if is_known else ""
        click.echo(
            f"Size model: median error {math.expm1(result.size.median_error):.0%} before the "
            f"refinement{correlation}."
        )
    click.echo(
        f"Model: {result.model}\nUse it: cellseg segment IMAGES --out RESULTS --model "
        f"{result.model}"
    )


def _tell_ensemble(ensemble: EnsembleResult, as_json: bool) -> None:
    """Say what came out of several networks."""
    from cellseg_engine.train.dataset import count_left_out

    folder, n_networks = f"{ensemble.folder}{os.sep}", len(ensemble.files)
    if as_json:
        n_left_out = count_left_out(ensemble.remarks)
        networks = [str(path) for path in ensemble.files]
        print_event("done", model=folder, networks=networks, left_out=n_left_out)
        return
    _tell_remarks(ensemble.remarks, ensemble.folder / "network_1")
    click.echo(
        f"Model: {folder}, {n_networks} networks whose outputs are averaged; the scores of each "
        f"are in the folders network_1 to network_{n_networks}.\n"
        f"Use it: cellseg segment IMAGES --out RESULTS --model {folder}\n"
        f"Make it a name: cellseg models import {folder} --name NAME"
    )
