"""A training from annotated images to a weights file; the API behind ``cellseg train``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import torch

from cellseg_engine._version import __version__
from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.errors import MissingDependencyError, SettingsError
from cellseg_engine.io.figures import figure_class
from cellseg_engine.nets.card import ModelCard, WeightsFile
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.nets.weights import CELLS_DIAM_MEAN_PX, build_network
from cellseg_engine.train.checkpoint import CheckpointFolder
from cellseg_engine.train.curves import write_curves
from cellseg_engine.train.dataset import DataOptions, TrainingData, load_images
from cellseg_engine.train.flow_cache import FlowCache
from cellseg_engine.train.loop import Trainer
from cellseg_engine.train.options import (
    SCRATCH,
    TrainingOptions,
    TrainingResult,
    check_options,
    model_name,
    start_name,
)
from cellseg_engine.train.outcome import begin_record, finish, keep_good_weights
from cellseg_engine.train.record import all_remarks, check_earlier, write_left_out, write_record
from cellseg_engine.train.sampling import hold_out, parse_weights
from cellseg_engine.train.size_fit import SizeFit, fit_size_model
from cellseg_engine.train.sources import Found, find_sources
from cellseg_engine.train.state import Arrays, LoopOptions, TrainingProgress
from cellseg_engine.train.validate import make_model
from cellseg_engine.zoo.store import read_model

FEW_OBJECTS = 100
"""Pachitariu and Stringer 2022: 100 to 200 objects are enough to fine-tune a fitting model."""


def train(
    options: TrainingOptions,
    report: Callable[[TrainingProgress], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Train a model; a training that was killed goes on where it was.

    Parameters
    ----------
    options
        What and how.
    report
        Called after every image, step and score.
    warn
        Called with sentences that the user should read, as early as they are known; they are in
        the result, too.

    Raises
    ------
    TrainingDataError, ReadError
        The images or annotations cannot be used.
    SettingsError, ModelNotFoundError, WeightsError, DeviceError
        The options cannot be used.
    WriteError
        The disk is full or ``out`` cannot be written to; what is there stays, and the same call
        goes on from there.
    TrainingDivergedError
        The loss became NaN; the last good weights are in ``out`` if there were any.
    """
    check_options(options)
    threads = torch.get_num_threads()  # before kernels of numba change it
    prepared = _prepare(options, report)
    card, data = prepared.card, prepared.data
    checkpoints = CheckpointFolder(options.out / "checkpoints")
    if options.overwrite:
        checkpoints.remove()
    else:
        check_earlier(options.out, prepared.plan, prepared.fingerprint)
    warnings = _warnings(data)
    for warning in warnings:
        warn(warning)
    trainer = Trainer(
        build_network(prepared.start)
        if prepared.start
        else _random_network(card.n_channels, options.seed),
        card,
        data.training,
        data.held_out,
        _loop_options(options, data, prepared.fingerprint, threads),
        checkpoints,
        report,
        partial(write_curves, options.out),
    )
    content = begin_record(options, prepared.plan, prepared.fingerprint, data, warnings)
    content["threads"] = threads
    write_record(options.out, content)
    write_left_out(options.out, data.remarks)
    trained = trainer.run()
    if trained.stopped or trained.arrays is None:
        raise keep_good_weights(options, card, trained)
    size = None
    if options.size_model:
        torch.set_num_threads(threads)
        size = _fit_size(options, card, trained.arrays, data, report)
    card, model = finish(options, card, trained, trained.arrays, size, content)
    checkpoints.remove()
    return TrainingResult(model, card, trained, size, tuple(data.remarks), tuple(warnings))


@dataclass(frozen=True)
class _Prepared:
    """What is known before the first step."""

    start: WeightsFile | None
    card: ModelCard
    data: TrainingData
    plan: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Give the hash of what every step depends on: not how often scores are taken."""
        steps = {key: value for key, value in self.plan.items() if key != "validate_every"}
        return hashlib.sha256(json.dumps(steps, sort_keys=True).encode()).hexdigest()


def _prepare(options: TrainingOptions, report: Callable[[TrainingProgress], None]) -> _Prepared:
    start = _find_start(options)
    found = find_sources(
        options.paths,
        annotations=options.annotations,
        image_suffix=options.image_suffix,
        mask_suffix=options.mask_suffix,
        role=options.role,
        kinds=options.kinds,
    )
    card = _first_card(options, start)
    data = _load(options, card, found, report)
    card = _describe_data(card, data)
    return _Prepared(start, card, data, _make_plan(options, card, start, data))


def _find_start(options: TrainingOptions) -> WeightsFile | None:
    """Give the weights to start from, None for random ones."""
    name = start_name(options)
    if name == SCRATCH:
        return None
    files = read_model(name)
    if len(files) > 1:
        raise SettingsError(
            f"{name} is an ensemble of {len(files)} networks; a training starts from one.",
            hint="Give the weights file of one of them with --start-from.",
        )
    asked = options.diam_mean_px
    if asked and asked != files[0].card.diam_mean_px:
        raise SettingsError(
            f"diam_mean_px = {asked:g} is not that of {name}, {files[0].card.diam_mean_px:g}.",
            hint="Leave it out; it can be chosen when training from scratch.",
        )
    return files[0]


def _random_network(n_channels: int, seed: int) -> ResidualUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResidualUNet(n_channels)


def _first_card(options: TrainingOptions, start: WeightsFile | None) -> ModelCard:
    recipe = options.recipe
    changes = f"{recipe.epochs} epochs, {recipe.optimizer} {recipe.learning_rate:g}, "
    begun = f"from {start.card.name} (SHA-256 {start.sha256})" if start else "from random weights"
    diam_mean = start.card.diam_mean_px if start else options.diam_mean_px or CELLS_DIAM_MEAN_PX
    return ModelCard(
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


def _load(
    options: TrainingOptions,
    card: ModelCard,
    found: Found,
    report: Callable[[TrainingProgress], None],
) -> TrainingData:
    images, remarks = load_images(
        found.sources,
        DataOptions(
            settings=options.settings,
            n_channels=card.n_channels,
            min_objects=options.recipe.min_objects,
            disjoint=options.disjoint,
            flow_variant=cast(FlowVariant, card.flow_variant),
            axes=options.axes,
        ),
        FlowCache(options.flow_cache or options.out / "flows"),
        lambda done, total: report(TrainingProgress("reading", done, total)),
    )
    kinds = list(dict.fromkeys(image.kind for image in images))
    weights = parse_weights(options.weights, kinds)
    training, held_out = hold_out(images, options.held_out_share, options.seed)
    return TrainingData(training, held_out, weights, all_remarks(found, remarks))


def _describe_data(card: ModelCard, data: TrainingData) -> ModelCard:
    """Write into the card what the model is trained on."""
    images = data.all_images
    kinds = ", ".join(dict.fromkeys(image.kind for image in images))
    listing = "\n".join(sorted(f"{image.name} {image.sha256}" for image in images))
    diameters = [image.diameter_px for image in data.training]
    return card.with_changes(
        diam_labels_px=sum(diameters) / len(diameters),
        training_data=f"{len(data.training)} images with "
        f"{sum(image.n_objects for image in data.training)} objects ({kinds}); "
        f"{len(data.held_out)} more to choose the weights by",
        training_data_sha256=hashlib.sha256(listing.encode()).hexdigest(),
    )


def _make_plan(
    options: TrainingOptions, card: ModelCard, start: WeightsFile | None, data: TrainingData
) -> dict[str, Any]:
    """Give everything that the weights depend on."""
    return {
        "name": card.name,
        "recipe": asdict(options.recipe),
        "start": start.sha256 if start else SCRATCH,
        "n_channels": card.n_channels,
        "diam_mean_px": card.diam_mean_px,
        "flow_variant": card.flow_variant,
        "crop_px": options.crop_px,
        "seed": options.seed,
        "weights": data.weights,
        "validate_every": _validate_every(options),
        "size_model": options.size_model,
        "training": [[image.name, image.sha256] for image in data.training],
        "held_out": [[image.name, image.sha256] for image in data.held_out],
    }


def _validate_every(options: TrainingOptions) -> int:
    return options.validate_every or max(1, options.recipe.epochs // 20)


def _warnings(data: TrainingData) -> list[str]:
    warnings = []
    n_objects = sum(image.n_objects for image in data.training)
    if n_objects < FEW_OBJECTS:
        warnings.append(
            f"There are only {n_objects} objects to train on; {FEW_OBJECTS} to 200 are needed to "
            "fine-tune a model, 500 and more are better."
        )
    if not data.held_out:
        warnings.append(
            "No images are held out, so the last weights are kept, whether they are the best or "
            "not, and there are no scores."
        )
    try:
        figure_class()
    except MissingDependencyError as error:
        warnings.append(f"There will be no curves.png, only curves.csv. {error}")
    return warnings


def _loop_options(
    options: TrainingOptions, data: TrainingData, fingerprint: str, threads: int
) -> LoopOptions:
    return LoopOptions(
        recipe=options.recipe,
        weights=data.weights,
        seed=options.seed,
        crop_px=options.crop_px,
        validate_every=_validate_every(options),
        device=options.settings.device,
        checkpoint_every_s=options.checkpoint_every_s,
        fingerprint=fingerprint,
        threads=threads,
    )


def _fit_size(
    options: TrainingOptions,
    card: ModelCard,
    arrays: Arrays,
    data: TrainingData,
    report: Callable[[TrainingProgress], None],
) -> SizeFit:
    net = build_network(WeightsFile(card, arrays, None, ""))
    model = make_model(net, card, options.settings.device, options.recipe.precision)
    return fit_size_model(
        model,
        data.training,
        data.held_out,
        seed=options.seed,
        progress=lambda done, total: report(TrainingProgress("size model", done, total)),
    )
