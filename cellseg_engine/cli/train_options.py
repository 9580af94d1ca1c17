"""Options that the commands which train have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.settings import Settings, make_settings
from cellseg_engine.train.recipes import (
    DEFAULT_RECIPE,
    OPTIMIZERS,
    Recipe,
    load_recipe,
    recipe_names,
)

SHARED_SETTINGS = (
    "channel",
    "nuclear_channel",
    "invert",
    "percentile_low",
    "percentile_high",
    "anisotropy",
    "device",
)

_CHANGES = (
    "epochs",
    "images_per_epoch",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "min_objects",
    "precision",
)

Command = Callable[..., Any]


def _setting(name: str) -> Callable[[Command], Command]:
    """Give an option that is also one of `cellseg segment`, with the same words."""
    field = Settings.model_fields[name]
    flag = "--" + name.replace("_", "-")
    kind = click.FLOAT if isinstance(field.default, float) else click.STRING
    text = f"{field.description}  [default: {field.default}]"
    return click.option(flag, name, type=kind, default=None, help=text)


def reading_options(command: Command) -> Command:
    """Add the options that say how annotated images are found and read."""
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
            "--disjoint",
            type=click.Choice(["split", "keep"]),
            default="split",
            show_default=True,
            help="Labels in several parts that do not touch: split makes each part an object, "
            "keep leaves them.",
        ),
        click.option("--min-objects", type=int, default=None, help="Fewer: image left out."),
        click.option("--axes", default="", help="What the dimensions are, e.g. CYX or YXS."),
        click.option(
            "--slices",
            type=click.Choice(["planes", "all"]),
            default="planes",
            show_default=True,
            help="What is learnt from stacks along Z: their planes, or all slices in XY, XZ and "
            "YZ, for models that segment volumes.",
        ),
        click.option(
            "--flow-cache",
            type=GivenPath(file_okay=False),
            default=None,
            help="Folder for flow targets, to share between trainings.",
        ),
        *(_setting(name) for name in SHARED_SETTINGS),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def recipe_options(command: Command) -> Command:
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
            "--from",
            "start_from",
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
            help="Side of what the network sees in a step; less where all images are smaller.",
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


def take_settings(arguments: dict[str, Any]) -> Settings:
    """Take the settings out of a command's arguments and check them.

    Raises
    ------
    SettingsError
        A value is out of range.
    """
    given = {name: arguments.pop(name) for name in SHARED_SETTINGS}
    return make_settings({key: value for key, value in given.items() if value is not None})


def take_recipe(arguments: dict[str, Any]) -> Recipe:
    """Take the recipe and what changes in it out of a command's arguments.

    Raises
    ------
    SettingsError
        A value is not allowed.
    """
    changes = {name: arguments.pop(name) for name in _CHANGES}
    return load_recipe(arguments.pop("recipe"), **changes)
