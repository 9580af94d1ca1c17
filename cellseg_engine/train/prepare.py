"""What a training stands on: its start, its images, and the plan that tells trainings apart."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from cellseg_engine._version import __version__
from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.errors import SettingsError
from cellseg_engine.nets.card import ModelCard, WeightsFile
from cellseg_engine.nets.weights import CELLS_DIAM_MEAN_PX
from cellseg_engine.train.dataset import DataOptions, TrainingData, TrainingImage, load_images
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.flow_cache import FlowCache
from cellseg_engine.train.options import (
    NO_LICENCE,
    SCRATCH,
    TrainingOptions,
    check_options,
    model_name,
    start_name,
)
from cellseg_engine.train.record import all_remarks, identify
from cellseg_engine.train.sampling import hold_out, parse_weights
from cellseg_engine.train.sources import Found, Source, find_sources
from cellseg_engine.train.starts import check_no_chain, check_single, is_fine_tune
from cellseg_engine.train.state import TrainingProgress
from cellseg_engine.train.validate import leave_out_unscorable
from cellseg_engine.zoo.store import read_model

Report = Callable[[TrainingProgress], None]

SMALLEST_VIEW_PX = 64


@dataclass(frozen=True)
class Prepared:
    """What is known before the first step.

    Attributes
    ----------
    start
        The weights to go on from; None for random ones.
    card
        Of the model that is to be.
    data
        Its images.
    plan
        Everything that the weights depend on.
    threads
        Of torch on the CPU.
    """

    start: WeightsFile | None
    card: ModelCard
    data: TrainingData
    plan: dict[str, Any]
    threads: int

    @property
    def fingerprint(self) -> str:
        """Give a hash of what every step depends on: not how often scores are taken."""
        steps = {key: value for key, value in self.plan.items() if key != "validate_every"}
        return hashlib.sha256(json.dumps(steps, sort_keys=True).encode()).hexdigest()


def prepare(
    options: TrainingOptions, report: Report = lambda _: None, found: Found | None = None
) -> Prepared:
    """Find the start and read the images of a training.

    Parameters
    ----------
    found
        The annotated images, if they are not to be looked for in ``options.paths``.

    Raises
    ------
    TrainingDataError, ReadError, SettingsError, ModelNotFoundError, WeightsError, WriteError
        As `cellseg_engine.train.run.train`.
    """
    check_options(options)
    threads = torch.get_num_threads()  # before kernels of numba change it
    start = find_start(options)
    data = read_data(options, start, found or find_images(options, options.role), report)
    return prepare_data(options, start, data, threads)


def prepare_data(
    options: TrainingOptions, start: WeightsFile | None, data: TrainingData, threads: int
) -> Prepared:
    """Prepare a training on images that were read before.

    Held-out images that cannot be scored are left out.

    Raises
    ------
    TrainingDataError
        None of them can.
    """
    if options.recipe.epochs:
        data = _only_scorable(data, _first_card(options, start).diam_mean_px)
    card = _describe_data(_first_card(options, start), data, options.recipe.epochs > 0)
    crop_px = view_px(options.crop_px, data.all_images, card.diam_mean_px)
    plan = _make_plan(options, card, start, data, crop_px)
    return Prepared(start, card, data, plan, threads)


def _only_scorable(data: TrainingData, diam_mean_px: float) -> TrainingData:
    held_out, remarks = leave_out_unscorable(data.held_out, diam_mean_px)
    if remarks and not held_out:
        raise TrainingDataError(
            f"None of the {len(remarks)} images held out to choose the best weights by can be "
            f"scored ({remarks[0].image}: {remarks[0].reason}).",
            hint="Hold nothing out with --held-out-share 0, or more with a larger share.",
        )
    return replace(data, held_out=held_out, remarks=[*data.remarks, *remarks])


def view_px(at_most: int, images: Sequence[TrainingImage], diam_mean_px: float) -> int:
    """Give the side of what the network sees: less where every image is smaller, as it sees them.

    The rest of a view would be empty: slower, and unlike the images to come.
    """
    largest = max(
        float(max(image.labels.shape) * diam_mean_px / image.diameter_px) for image in images
    )
    return min(at_most, max(SMALLEST_VIEW_PX, 8 * math.ceil(largest / 8)))


def find_start(options: TrainingOptions) -> WeightsFile | None:
    """Give the weights to start from, None for random ones.

    Raises
    ------
    SettingsError
        They are an ensemble, of another diameter, or themselves fine-tuned: see
        docs/decisions/0025-a-training-starts-from-a-base.md.
    ModelNotFoundError, WeightsError
        There are none, or they are damaged.
    """
    name = start_name(options)
    if name == SCRATCH:
        return None
    files = read_model(name)
    check_single(name, len(files))
    start = files[0]
    asked = options.diam_mean_px
    if asked and asked != start.card.diam_mean_px:
        raise SettingsError(
            f"diam_mean_px = {asked:g} is not that of {name}, {start.card.diam_mean_px:g}.",
            hint="Leave it out; it can be chosen when training from scratch.",
        )
    if options.recipe.epochs and not options.allow_chain:
        check_no_chain(name, start.card, start.sha256)
    return start


def find_images(options: TrainingOptions, role: str) -> Found:
    """Find the annotated images of a training, each once.

    Parameters
    ----------
    role
        Rows of a manifest that count.

    Raises
    ------
    ReadError, TrainingDataError, SettingsError
        There are none, they cannot be told apart, or endings are given beside a manifest.
    """
    found = find_sources(
        options.paths,
        annotations=options.annotations,
        image_suffix=options.image_suffix,
        mask_suffix=options.mask_suffix,
        role=role,
        kinds=options.kinds,
    )
    first: dict[tuple[Path, Path, str], Source] = {}
    for source in found.sources:
        files = source.image.resolve(), source.annotation.resolve()
        first.setdefault((*files, source.channel), source)
    return replace(found, sources=tuple(first.values()))


def is_chain(start: WeightsFile | None) -> bool:
    """Say whether weights are a fine-tune; models that come with the program are bases."""
    return start is not None and is_fine_tune(start.card, start.sha256)


def read_data(
    options: TrainingOptions, start: WeightsFile | None, found: Found, report: Report
) -> TrainingData:
    """Read the images and split them into those to train on and those held out.

    Raises
    ------
    TrainingDataError, SettingsError, WriteError
        One sentence says why.
    """
    card = _first_card(options, start)
    images, remarks = load_images(
        found.sources,
        data_options(options, card),
        FlowCache(options.flow_cache or options.out / "flows"),
        lambda done, total: report(TrainingProgress("reading", done, total)),
    )
    kinds = list(dict.fromkeys(image.kind for image in images))
    weights = parse_weights(options.weights, kinds)
    training, held_out = hold_out(images, options.held_out_share, options.seed)
    return TrainingData(training, held_out, weights, all_remarks(found, remarks))


def data_options(options: TrainingOptions, card: ModelCard) -> DataOptions:
    """Give how the images of a training are read."""
    return DataOptions(
        settings=options.settings,
        n_channels=card.n_channels,
        min_objects=options.recipe.min_objects,
        disjoint=options.disjoint,
        flow_variant=cast(FlowVariant, card.flow_variant),
        axes=options.axes,
        slices=options.slices,
    )


def validate_every(options: TrainingOptions) -> int:
    """Give the epochs between two scores of the held-out images."""
    return options.validate_every or max(1, options.recipe.epochs // 20)


def _first_card(options: TrainingOptions, start: WeightsFile | None) -> ModelCard:
    recipe = options.recipe
    if start is not None and recipe.epochs == 0:  # the weights stay, so what is said of them does
        before = start.card
        return before.with_changes(
            name=model_name(options),
            description=options.description or before.description,
            licence=before.licence if options.licence == NO_LICENCE else options.licence,
            origin=f"Size model fitted with cellseg-engine {__version__}, seed {options.seed}. "
            f"Weights of {before.name} (SHA-256 {start.sha256}): {before.origin}",
        )
    changes = f"{recipe.epochs} epochs, {recipe.optimizer} {recipe.learning_rate:g}, "
    begun = f"from {start.card.name} (SHA-256 {start.sha256})" if start else "from random weights"
    diam_mean = start.card.diam_mean_px if start else options.diam_mean_px or CELLS_DIAM_MEAN_PX
    card = ModelCard(
        name=model_name(options),
        n_channels=start.card.n_channels if start else options.n_channels,
        diam_mean_px=diam_mean,
        diam_labels_px=diam_mean,
        flow_variant=start.card.flow_variant if start else "v3",
        description=options.description,
        licence=options.licence,
        origin=f"Trained with cellseg-engine {__version__} {begun}: recipe {recipe.name}, "
        f"{changes}{recipe.precision}, seed {options.seed}.",
    )
    if start is None:
        return card
    return card.with_changes(start_name=start.card.name, start_sha256=start.sha256)


def _describe_data(card: ModelCard, data: TrainingData, is_trained: bool) -> ModelCard:
    """Write into the card what the model is trained on, or only its size model."""
    images = data.all_images
    kinds = ", ".join(dict.fromkeys(image.kind for image in images))
    listing = "\n".join(sorted(f"{image.name} {image.sha256}" for image in images))
    diameters = [image.diameter_px for image in data.training]
    card = card.with_changes(diam_labels_px=sum(diameters) / len(diameters))
    n_objects = sum(image.n_objects for image in data.training)
    training = f"{len(data.training)} images with {n_objects} objects ({kinds})"
    if not is_trained:
        return card.with_changes(training_data=f"{card.training_data}; size model: {training}")
    return card.with_changes(
        training_data=f"{training}; {len(data.held_out)} more to choose the weights by",
        training_data_sha256=hashlib.sha256(listing.encode()).hexdigest(),
    )


def _make_plan(
    options: TrainingOptions,
    card: ModelCard,
    start: WeightsFile | None,
    data: TrainingData,
    crop_px: int,
) -> dict[str, Any]:
    """Give everything that the weights depend on."""
    return {
        "name": card.name,
        "recipe": asdict(options.recipe),
        "start": start.sha256 if start else SCRATCH,
        "n_channels": card.n_channels,
        "diam_mean_px": card.diam_mean_px,
        "flow_variant": card.flow_variant,
        "crop_px": crop_px,
        "seed": options.seed,
        "weights": data.weights,
        "validate_every": validate_every(options),
        "size_model": options.size_model,
        "training": [[image.name, *identify(image)] for image in data.training],
        "held_out": [[image.name, *identify(image)] for image in data.held_out],
    }
