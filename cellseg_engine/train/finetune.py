"""From a training folder to a new model in the list: one round of the human-in-the-loop."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cellseg_engine.errors import CellSegError, SettingsError, WriteError
from cellseg_engine.io.staging import remove_stale, temporary_folder
from cellseg_engine.settings import DEFAULT_MODEL, Settings
from cellseg_engine.train.faults import TrainingDataError, name_some
from cellseg_engine.train.folder import Content, TrainedModel, note_model, now, read_folder
from cellseg_engine.train.recipes import Recipe, load_recipe
from cellseg_engine.train.starts import check_start
from cellseg_engine.train.state import TrainingProgress
from cellseg_engine.zoo.store import check_new_name, import_model, list_models

ONLINE_RECIPE = "cellpose2-online"
_MAX_NAME = 60


@dataclass(frozen=True)
class FineTuning:
    """What to train.

    Attributes
    ----------
    folder
        A training folder.
    name
        Of the new model; empty for the folder's name with the next free number.
    start_from
        The model to start from, always anew.
    recipe, epochs
        How; 0 epochs are the recipe's.
    size_model
        Also fit what estimates the diameter.
    settings
        Of them the channels, percentiles, ``invert``, ``device`` and ``precision`` count; ``auto``
        is the faster precision for training on the device, since somebody waits for the model.
    """

    folder: Path
    name: str = ""
    start_from: str = DEFAULT_MODEL
    recipe: str = ONLINE_RECIPE
    epochs: int = 0
    size_model: bool = True
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class FineTuned:
    """What came out: the model, what it was trained on, and sentences for the user."""

    model: TrainedModel
    warnings: tuple[str, ...]


def check_fine_tuning(wanted: FineTuning) -> FineTuning:
    """Refuse what cannot be, before anything is computed; give it with the name of the model.

    Raises
    ------
    TrainingDataError
        The folder is no training folder, has no images, or too few objects in each of them.
    SettingsError
        The name is taken or unsafe, the recipe is unknown, or the model to start from is an
        ensemble or itself fine-tuned.
    ModelNotFoundError, WeightsError
        There is no model to start from, or it is damaged.
    """
    content = read_folder(wanted.folder)
    recipe = _recipe(wanted)
    if not content.images:
        raise TrainingDataError(
            f"There are no images in the training folder {wanted.folder} yet.",
            hint="Correct an image and add it first.",
        )
    most = max(image.objects for image in content.images)
    if most < recipe.min_objects:
        raise TrainingDataError(
            f"No image in {wanted.folder} has {recipe.min_objects} objects, which the recipe "
            f"{recipe.name} needs at least; the most are {most}.",
            hint="Add images with more objects.",
        )
    check_start(wanted.start_from)
    wanted = replace(wanted, name=wanted.name or _next_name(wanted.folder))
    check_new_name(wanted.name)
    return wanted


def fine_tune(
    wanted: FineTuning,
    report: Callable[[TrainingProgress], None],
    warn: Callable[[str], None],
    before_install: Callable[[], None] = lambda: None,
) -> FineTuned:
    """Train on all images of a training folder and put the model into the list.

    However it ends, nothing is left in the folder but, at the end, the note about the model, or its
    weights where they cannot be put into the list. A name made of the folder's that is taken
    meanwhile becomes the next free one.

    Parameters
    ----------
    wanted
        What to train.
    report, warn
        As of `cellseg_engine.train.run.train`.
    before_install
        Called when the training is over, before the model becomes visible.

    Raises
    ------
    CellSegError
        See `check_fine_tuning`, `cellseg_engine.train.run.train` and
        `cellseg_engine.zoo.store.import_model`; the list is unchanged.
    """
    from cellseg_engine.nets.runtimes import choose_device
    from cellseg_engine.train.arithmetic import fast_precision
    from cellseg_engine.train.options import TrainingOptions
    from cellseg_engine.train.run import train

    wanted = check_fine_tuning(wanted)
    precision = wanted.settings.precision
    if precision == "auto":  # somebody waits for the model
        precision = fast_precision(choose_device(wanted.settings.device))
    recipe = replace(_recipe(wanted), precision=precision)
    remove_stale(wanted.folder)
    with temporary_folder(wanted.folder) as work:
        options = TrainingOptions(
            paths=[wanted.folder],
            out=work / "training",
            recipe=recipe,
            name=wanted.name,
            start_from=wanted.start_from,
            settings=wanted.settings,
            annotations="labels",
            held_out_share=0.0,
            size_model=wanted.size_model,
            description=f"Fine-tuned on the training folder {wanted.folder.resolve().name}.",
        )
        gone = _without_files(wanted.folder)
        for sentence in gone:
            warn(sentence)
        result = train(options, report, warn)
        before_install()
        name = _install(result.model, wanted)
    made = TrainedModel(
        name=name,
        start=wanted.start_from,
        images=result.n_images,
        objects=result.n_objects,
        epochs=recipe.epochs,
        made=now(),
    )
    warnings = [*gone, *result.warnings]
    warnings += [f"{r.image}: {r.what}: {r.reason}." for r in result.remarks]
    try:
        note_model(wanted.folder, made)
    except CellSegError as error:
        warnings.append(
            f"The model {made.name} is in the list, but could not be noted in the training folder: "
            f"{error}"
        )
    return FineTuned(made, tuple(warnings))


def newest_model(content: Content) -> str:
    """Give the newest model of a training folder that is still in the list, or nothing."""
    known = {entry.name for entry in list_models()}
    return next((model.name for model in reversed(content.models) if model.name in known), "")


def _install(weights: Path, wanted: FineTuning) -> str:
    """Put weights into the list and give their name there; keep them in the folder if that fails.

    Raises
    ------
    CellSegError
        As `import_model`; the sentence says where the weights are.
    """
    name, folder = wanted.name, wanted.folder
    is_automatic = re.fullmatch(rf"{re.escape(_stem(folder))}-\d+", name)
    try:
        if is_automatic and name in {entry.name for entry in list_models()}:
            name = _next_name(folder)
        import_model([weights], name)
    except (CellSegError, OSError) as error:
        kept = folder / f"{name}.safetensors"
        number = 1
        while kept.exists():
            number += 1
            kept = folder / f"{name}-{number}.safetensors"
        weights.replace(kept)
        if not isinstance(error, CellSegError):
            error = WriteError(f"The model {name} cannot be put into the list: {error}.")
        raise type(error)(
            f"{error.message} The training is over; its weights are in {kept}.",
            hint=f"Put them into the list: cellseg models import {kept} --name NAME",
        ) from error
    return name


def _without_files(folder: Path) -> list[str]:
    """Give a sentence about images of the record that are not in the folder any more, if any."""
    gone = [
        image.name
        for image in read_folder(folder).images
        if not all((folder / f"{image.name}_{end}.tif").is_file() for end in ("img", "masks"))
    ]
    if not gone:
        return []
    sentence = (
        f"{len(gone)} images in the record of {folder} are not trained on, since files of theirs "
        f"are gone: {name_some(gone)}."
    )
    return [sentence]


def _recipe(wanted: FineTuning) -> Recipe:
    if wanted.epochs < 0:
        raise SettingsError(f"epochs = {wanted.epochs} is not allowed: it must not be negative.")
    return load_recipe(wanted.recipe, epochs=wanted.epochs or None)


def _next_name(folder: Path) -> str:
    """Give the first free name made of the folder's."""
    stem = _stem(folder)
    taken = {entry.name for entry in list_models()}
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def _stem(folder: Path) -> str:
    """Give the beginning of the names of a folder's models."""
    letters = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_")[:_MAX_NAME]
    return letters or "model"
