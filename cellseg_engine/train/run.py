"""A training from annotated images to a weights file; the API behind ``cellseg train``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from cellseg_engine.errors import MissingDependencyError
from cellseg_engine.io.figures import figure_class
from cellseg_engine.nets.card import ModelCard, WeightsFile
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.nets.weights import build_network
from cellseg_engine.train.checkpoint import CheckpointFolder
from cellseg_engine.train.curves import write_curves
from cellseg_engine.train.dataset import TrainingData
from cellseg_engine.train.loop import Trainer
from cellseg_engine.train.options import TrainingOptions, TrainingResult
from cellseg_engine.train.outcome import begin_record, finish, keep_good_weights
from cellseg_engine.train.prepare import Prepared, is_chain, prepare, validate_every
from cellseg_engine.train.record import check_earlier, write_left_out, write_record
from cellseg_engine.train.size_fit import SizeFit, fit_size_model
from cellseg_engine.train.state import Arrays, LoopOptions, TrainingProgress
from cellseg_engine.train.validate import make_model

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
    return train_prepared(options, prepare(options, report), report, warn)


def train_prepared(
    options: TrainingOptions,
    prepared: Prepared,
    report: Callable[[TrainingProgress], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Train on images that were read before; else as `train`."""
    card, data, threads = prepared.card, prepared.data, prepared.threads
    checkpoints = CheckpointFolder(options.out / "checkpoints")
    if options.overwrite:
        checkpoints.remove()
    else:
        check_earlier(options.out, prepared.plan, prepared.fingerprint)
    warnings = _warnings(prepared)
    for warning in warnings:
        warn(warning)
    trainer = Trainer(
        build_network(prepared.start)
        if prepared.start
        else _random_network(card.n_channels, options.seed),
        card,
        data.training,
        data.held_out,
        _loop_options(options, prepared),
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


def _random_network(n_channels: int, seed: int) -> ResidualUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResidualUNet(n_channels)


def _warnings(prepared: Prepared) -> list[str]:
    data, start, warnings = prepared.data, prepared.start, []
    if start is not None and is_chain(start):
        warnings.append(
            f"The training goes on from {start.card.name}, which was itself fine-tuned, from "
            f"{start.card.start_name}: what only its images taught can be forgotten."
        )
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


def _loop_options(options: TrainingOptions, prepared: Prepared) -> LoopOptions:
    return LoopOptions(
        recipe=options.recipe,
        weights=prepared.data.weights,
        seed=options.seed,
        crop_px=prepared.plan["crop_px"],
        validate_every=validate_every(options),
        device=options.settings.device,
        checkpoint_every_s=options.checkpoint_every_s,
        fingerprint=prepared.fingerprint,
        threads=prepared.threads,
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
