"""``cellseg train``."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.settings import Settings, make_settings
from cellseg_engine.train.recipes import DEFAULT_RECIPE, OPTIMIZERS, load_recipe, recipe_names

if TYPE_CHECKING:
    from cellseg_engine.train.options import TrainingResult
    from cellseg_engine.train.state import TrainingProgress

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
            default=0.12,
            show_default=True,
            help="Part of the images, in whole groups, to choose the best weights by; 0 trains "
            "on all and keeps the last weights.",
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
@click.option("--licence", default="unknown", help="Of the weights, for the model's card.")
@click.option("--description", default="", help="A sentence about the model, for its card.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier training in the folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for programs.")
@click.option("--verbose", is_flag=True, help="Details of internal errors.")
def command(
    paths: Sequence[Path], out: Path, as_json: bool, verbose: bool, **arguments: Any
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
    from cellseg_engine.train.options import TrainingOptions
    from cellseg_engine.train.run import train

    options = TrainingOptions(paths=paths, out=out, recipe=recipe, settings=settings, **arguments)
    with _reporter(as_json) as (report, warn):
        result = train(options, report, warn)
    if as_json:
        click.echo(json.dumps(_as_event(result), ensure_ascii=False))
    else:
        _tell(result, out)
    return 0


@contextmanager
def _reporter(
    as_json: bool,
) -> Iterator[tuple[Callable[[TrainingProgress], None], Callable[[str], None]]]:
    """Give how to show progress and warnings: a bar for people, lines for programs."""
    if as_json:
        yield (
            _print_progress,
            lambda text: click.echo(
                json.dumps({"event": "warning", "message": text}, ensure_ascii=False)
            ),
        )
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        tasks: dict[str, Any] = {}
        lines = _EpochLines()

        def report(progress: TrainingProgress) -> None:
            if not console.is_terminal:
                lines.report(progress)
                return
            stage = "training" if progress.stage == "scoring" else progress.stage
            if stage not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                tasks[stage] = bar.add_task(stage)
            bar.update(
                tasks[stage],
                description=_describe(progress),
                completed=progress.done,
                total=progress.total,
            )

        yield report, lambda text: _warn(text, bar.console.print if console.is_terminal else None)


class _EpochLines:
    """For a log file: a line when reading begins, and one per epoch."""

    def __init__(self) -> None:
        self._told: tuple[str, int] = ("", 0)
        self._began, self._done_before = time.monotonic(), 0

    def report(self, progress: TrainingProgress) -> None:
        place = (progress.stage, progress.epoch)
        if progress.stage == "scoring" or place == self._told:
            return
        if self._told[0] != progress.stage:
            self._began, self._done_before = time.monotonic(), progress.done
        self._told = place
        click.echo(_describe(progress) + self._left(progress), err=True)

    def _left(self, progress: TrainingProgress) -> str:
        done = progress.done - self._done_before
        if done <= 0:
            return ""
        seconds = (time.monotonic() - self._began) / done * (progress.total - progress.done)
        return f"  about {math.ceil(seconds / 60)} min left"


def _warn(text: str, show: Callable[..., None] | None) -> None:
    if show is None:
        click.echo(f"Warning: {text}", err=True)
    else:
        show(f"Warning: {text}", markup=False, highlight=False, soft_wrap=True)


def _describe(progress: TrainingProgress) -> str:
    if not progress.n_epochs:
        return progress.stage
    text = f"epoch {progress.epoch}/{progress.n_epochs}"
    if not math.isnan(progress.loss):
        text += f"  loss {progress.loss:.3f}"
    if not math.isnan(progress.score):
        text += f"  best AP {progress.score:.3f}"
    return text + ("  scoring" if progress.stage == "scoring" else "")


def _print_progress(progress: TrainingProgress) -> None:
    values = {
        "event": "progress",
        "stage": progress.stage,
        "done": progress.done,
        "total": progress.total,
        "epoch": progress.epoch,
        "n_epochs": progress.n_epochs,
        "loss": None if math.isnan(progress.loss) else progress.loss,
        "score": None if math.isnan(progress.score) else progress.score,
    }
    click.echo(json.dumps(values))


def _as_event(result: TrainingResult) -> dict[str, Any]:
    return {
        "event": "done",
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
