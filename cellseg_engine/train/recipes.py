"""Recipes: how long, with which optimiser and which learning rates a network is trained."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from cellseg_engine.errors import SettingsError

RECIPES_FILE = Path(__file__).with_name("recipes.toml")
DEFAULT_RECIPE = "cellpose2-finetune"
OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True)
class Recipe:
    """One table of recipes.toml, which says what each value means.

    Attributes
    ----------
    name
        Of the table.
    schedule_epochs
        Epochs that the schedule of learning rates is written for; another number of ``epochs``
        goes through the same schedule at another pace.
    """

    name: str
    source: str
    description: str
    start: Literal["scratch", "model"]
    epochs: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    momentum: float
    weight_decay: float
    batch_size: int
    warmup_epochs: int
    halve_from_epoch: int
    halve_every_epochs: int
    images_per_epoch: int
    min_objects: int
    precision: Literal["fp32", "bf16", "fp16"]
    vary_intensity: bool = False
    average_decay: float = 0.0
    least_images_per_epoch: int = 0
    schedule_epochs: int = 0

    def images_wanted(self, n_images: int) -> int:
        """Give how many views an epoch has, in whole batches, of so many training images."""
        wanted = self.images_per_epoch or max(n_images, self.least_images_per_epoch)
        return -(-wanted // self.batch_size) * self.batch_size

    def rate(self, epoch: int) -> float:
        """Give the learning rate of an epoch, counted from 0.

        Notes
        -----
        Stringer et al. 2021: 0 in the first epoch, then linear over the warm-up, then constant;
        the epoch where halving starts has half of it already.
        """
        place = (epoch + 0.5) * self.schedule_epochs / self.epochs - 0.5
        rate = self.learning_rate
        if self.warmup_epochs > 1:
            rate *= min(1.0, max(0.0, place) / (self.warmup_epochs - 1))
        if 0 < self.halve_from_epoch <= place:
            rate /= 2 ** ((place - self.halve_from_epoch) // self.halve_every_epochs + 1)
        return rate


def recipe_names() -> tuple[str, ...]:
    """Give the names of all recipes."""
    return tuple(_read())


def load_recipe(name: str, **changes: Any) -> Recipe:
    """Give a recipe, with some of its values replaced.

    Parameters
    ----------
    name
        One of `recipe_names`.
    **changes
        New values; None and what is left out stay as the recipe has them.

    Raises
    ------
    SettingsError
        No such recipe, or a value that is not allowed.
    """
    tables = _read()
    if name not in tables:
        raise SettingsError(
            f"There is no recipe {name!r}; the recipes are {', '.join(tables)}.",
            hint="Choose one of them with --recipe.",
        )
    recipe = Recipe(name=name, schedule_epochs=tables[name]["epochs"], **tables[name])
    given = {key: value for key, value in changes.items() if value is not None}
    unknown = sorted(given.keys() - {field.name for field in fields(Recipe)})
    if unknown:
        raise SettingsError(f"{unknown[0]} is not a value of a recipe.")
    if (
        given.get("optimizer", recipe.optimizer) != recipe.optimizer
        and "learning_rate" not in given
    ):
        raise SettingsError(
            f"The learning rate {recipe.learning_rate:g} of {name} is for {recipe.optimizer}, not "
            f"for {given['optimizer']}.",
            hint="Give --learning-rate as well, for example 0.001 for adamw or 0.1 for sgd.",
        )
    return _checked(replace(recipe, **given))


def _checked(recipe: Recipe) -> Recipe:
    limits = {
        "epochs": (0, 100_000),
        "learning_rate": (0, 10),
        "weight_decay": (0, 1),
        "batch_size": (1, 1024),
        "images_per_epoch": (0, 1_000_000),
        "least_images_per_epoch": (0, 1_000_000),
        "min_objects": (1, 100_000),
        "average_decay": (0, 0.999999),
    }
    for name, (low, high) in limits.items():
        value = getattr(recipe, name)
        if not math.isfinite(value) or not low <= value <= high:
            raise SettingsError(f"{name} = {value:g} is not allowed: it must be {low} to {high:,}.")
    return recipe


def _read() -> dict[str, dict[str, Any]]:
    with RECIPES_FILE.open("rb") as file:
        return tomllib.load(file)
