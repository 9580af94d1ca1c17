"""``cellseg train``."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.cli.train_report import print_event, training_reporter
from cellseg_engine.settings import Settings, make_settings
from cellseg_engine.train.recipes import DEFAULT_RECIPE, OPTIMIZERS, load_recipe, recipe_names

if TYPE_CHECKING:
    from cellseg_engine.train.ensemble import EnsembleResult
    from cellseg_engine.train.options import TrainingResult

_SHARED_SETTINGS = (
    "channel",
    "nuclear_channel",
    "invert",
    "percentile_low",
    "percentile_high",
    "device",
)
_REPORTED_REMARKS = 10

Command = Callable[..., Any]


def _setting(name: str) -> Callable[[Command], Command]:
    """Give an option that is also one of `cellseg segment`, with the same words."""
    field = Settings.model_fields[name]
    flag = "--" + name.replace("_", "-")
    kind = click.FLOAT if isinstance(field.default, float) else click.STRING
    text = f"{field.description}  [default: {field.default}]"
    return click.option(flag, name, type=kind, default=None, help=text)


def _data_options(command: Command) -> Command:
    """Add the options that say what to train on."""
    options: list[Callable[[Command], Command]] = [
        click.option(
            "--annotations",
            type=click.Choice(["auto", "labels", "seg", "rois"]),
            default="auto",
            show_default=True,
            help="Which annotations count: label images (NAME_masks.tif), files of the "
            "Cellpose interface (NAME_seg.npy) or ImageJ ROIs (NAME_rois.zip). auto takes the "
            "only one there is.",
        ),
        click.option("--image-suffix", default="", help="How image names end, e.g. _img."),
        click.option("--mask-suffix", default="", help="How label image names end."),
        click.option(
            "--role",
            default="train",
            show_default=True,
            help="Rows of a manifest.csv that count.",
        ),
        click.option(
            "--kind", "kinds", multiple=True, help="Only images of this kind; may be repeated."
        ),
        click.option(
            "--weights",
            default="",
            help="How often each kind of image is drawn: fluo=60,phase=40, or 60/40 in the "
            "order of DIR. Without: every image alike.",
        ),
        click.option(
            "--disjoint",
            type=click.Choice(["split", "keep"]),
            default="split",
            show_default=True,
            help="Labels in several parts that do not touch: split makes each part an object, "
            "keep leaves them.",
        ),
        click.option("--min-objects", type=int, default=None, help="Fewer: image left out."),
        click.option(
            "--held-out-share",
            type=float,
            default=None,
            help="Part of the images, in whole groups, to choose the best weights by; 0 trains "
            "on all and keeps the last weights.  [default: 0.12; 0 with a single image]",
        ),
        click.option("--axes", default="", help="What the dimensions are, e.g. CYX or YXS."),
        click.option(
            "--flow-cache",
            type=GivenPath(file_okay=False),
            default=None,
            help="Folder for flow targets, to share between trainings.",
        ),
        *(_setting(name) for name in _SHARED_SETTINGS),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _recipe_options(command: Command) -> Command:
    """Add the options that say how to train."""
    options: list[Callable[[Command], Command]] = [
        click.option(
            "--recipe",
            type=click.Choice(recipe_names()),
            default=DEFAULT_RECIPE,
            show_default=True,
            help="Epochs, learning rates and the like; docs/training.md has the table.",
        ),
        click.option(
            "--start-from",
            default="",
            help="Model or weights file to go on from, or scratch; without, what the recipe "
            "says, with the default model.",
        ),
        click.option(
            "--allow-chain",
            is_flag=True,
            help="Let --start-from name a model that was itself fine-tuned.",
        ),
        click.option("--epochs", type=int, default=None, help="Instead of the recipe's."),
        click.option("--images-per-epoch", type=int, default=None, help="0: all, once."),
        click.option("--optimizer", type=click.Choice(OPTIMIZERS), default=None),
        click.option("--learning-rate", type=float, default=None),
        click.option("--weight-decay", type=float, default=None),
        click.option("--batch-size", type=int, default=None),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "bf16", "fp16"]),
            default=None,
            help="bf16 is about three times as fast as fp32 on new CPUs and on GPUs; fp16 "
            "needs a GPU. Only fp32 on a CPU gives the same digits in every run.",
        ),
        click.option(
            "--diam-mean-px",
            type=float,
            default=0.0,
            help="From scratch: diameter at which the network sees objects.  [default: 30]",
        ),
        click.option(
            "--n-channels",
            type=click.IntRange(1, 16),
            default=2,
            show_default=True,
            help="From scratch: channels of the network.",
        ),
        click.option(
            "--crop-px",
            type=int,
            default=224,
            show_default=True,
            help="Side of what the network sees in a step.",
        ),
        click.option(
            "--validate-every",
            type=int,
            default=0,
            help="Epochs between scores.  [default: 20 scores in all]",
        ),
        click.option("--seed", type=int, default=0, show_default=True),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    name="train",
    context_settings={"max_content_width": 100},
    epilog="Example: cellseg train my_cells/ --out my_model",
)
@click.argument("paths", nargs=-1, required=True, type=GivenPath(), metavar="DIR...")
@click.option("--out", required=True, type=GivenPath(file_okay=False), help="Folder for the model.")
@click.option("--name", default="", help="Name of the model; that of the folder if left out.")
@_recipe_options
@_data_options
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
@click.option("--overwrite", is_flag=True, help="Replace an earlier training in the folder.")
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
    same way. docs/training.md is a guide.
    """
    if verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s")
        logging.getLogger("numba").setLevel(logging.WARNING)
    given = {name: arguments.pop(name) for name in _SHARED_SETTINGS}
    settings = make_settings({key: value for key, value in given.items() if value is not None})
    changes = (
        "epochs",
        "images_per_epoch",
        "optimizer",
        "learning_rate",
        "weight_decay",
        "batch_size",
        "min_objects",
        "precision",
    )
    recipe = load_recipe(arguments.pop("recipe"), **{name: arguments.pop(name) for name in changes})
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


def _as_event(result: TrainingResult) -> dict[str, Any]:
    return {
        "model": str(result.model),
        "chosen_epoch": result.trained.epoch,
        "scores": result.trained.validation,
        "left_out": len(result.remarks),
        "warnings": list(result.warnings),
    }


def _tell(result: TrainingResult, out: Path) -> None:
    """Say what came out, in a few lines."""
    for remark in result.remarks[:_REPORTED_REMARKS]:
        click.echo(f"{remark.image}: {remark.what}: {remark.reason}", err=True)
    more = len(result.remarks) - _REPORTED_REMARKS
    if more > 0:
        click.echo(f"... and {more} more in {out / 'left_out.csv'}", err=True)
    click.echo(f"Trained on {result.card.training_data}.")
    scores = result.trained.validation
    if scores:
        click.echo(
            f"Best weights: epoch {result.trained.epoch}; held-out images: AP "
            f"{scores['held_out_ap_0.50']:.3f} at IoU 0.5, {scores['held_out_ap_0.75']:.3f} at "
            f"0.75, {scores['held_out_ap_0.90']:.3f} at 0.9 (mean per image, true diameter)."
        )
    if result.size is not None:
        click.echo(
            f"Size model: median error {math.expm1(result.size.median_error):.0%} before the "
            f"refinement, correlation {result.size.correlation:.2f}."
        )
    click.echo(
        f"Model: {result.model}\nUse it: cellseg segment IMAGES --out RESULTS --model "
        f"{result.model}"
    )


def _tell_ensemble(ensemble: EnsembleResult, as_json: bool) -> None:
    """Say what came out of several networks."""
    folder, n_networks = f"{ensemble.folder}{os.sep}", len(ensemble.files)
    if as_json:
        print_event("done", model=folder, networks=[str(path) for path in ensemble.files])
        return
    click.echo(
        f"Model: {folder}, {n_networks} networks whose outputs are averaged; the scores of each "
        f"are in the folders network_1 to network_{n_networks}.\n"
        f"Use it: cellseg segment IMAGES --out RESULTS --model {folder}\n"
        f"Make it a name: cellseg models import {folder} --name NAME"
    )
