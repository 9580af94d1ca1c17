"""A training from annotated images to a weights file; the API behind ``cellseg train``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from cellseg_engine.errors import MissingDependencyError
from cellseg_engine.io.figures import figure_class
from cellseg_engine.io.staging import remove_stale
from cellseg_engine.nets.card import ModelCard, WeightsFile
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.nets.weights import build_network
from cellseg_engine.train.checkpoint import CheckpointFolder
from cellseg_engine.train.curves import write_curves
from cellseg_engine.train.dataset import TrainingData
from cellseg_engine.train.lock import only_training
from cellseg_engine.train.loop import Trainer
from cellseg_engine.train.options import TrainingOptions, TrainingResult
from cellseg_engine.train.outcome import begin_record, finish, keep_good_weights, try_to_draw
from cellseg_engine.train.prepare import Prepared, is_chain, prepare, validate_every
from cellseg_engine.train.record import (
    find_earlier,
    refuse_others,
    weights_of,
    write_left_out,
    write_record,
)
from cellseg_engine.train.sampling import HELD_OUT_SHARE
from cellseg_engine.train.size_fit import SizeFit, fit_size_model
from cellseg_engine.train.state import Arrays, LoopOptions, TrainingProgress
from cellseg_engine.train.validate import make_model

FEW_OBJECTS = 100
"""Pachitariu and Stringer 2022: 100 to 200 objects are enough to fine-tune a fitting model."""

MUCH_HELD_OUT = 0.25
"""Part of the images that is said when so many are held out without being asked for."""


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
    """Train on images that were read before; else as `train`.

    Raises
    ------
    SettingsError
        Another training runs in the folder.
    """
    with only_training(options.out):
        return _train(options, prepared, report, warn)


def _train(
    options: TrainingOptions,
    prepared: Prepared,
    report: Callable[[TrainingProgress], None],
    warn: Callable[[str], None],
) -> TrainingResult:
    card, data, threads = prepared.card, prepared.data, prepared.threads
    checkpoints = CheckpointFolder(options.out / "checkpoints")
    overwrite, own = options.overwrite, f"{card.name}.safetensors"
    remove_stale(options.out)
    known = weights_of(
        find_earlier(options.out, prepared.plan, prepared.fingerprint, overwrite=overwrite)
    )
    refuse_others(options.out, known | {own} if overwrite else known)
    warnings = _warnings(prepared, options.held_out_share)
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
    replaced = sorted(known - {own})
    content = begin_record(options, prepared.plan, prepared.fingerprint, data, warnings, replaced)
    content["threads"] = threads
    if overwrite:  # only now: what refuses the options refuses them before
        checkpoints.remove()
    write_record(options.out, content)
    write_left_out(options.out, data.remarks)
    trained = trainer.run()
    if trained.stopped or trained.arrays is None:
        error = keep_good_weights(options, card, trained, content)
        checkpoints.remove()
        raise error
    size = None
    if options.size_model:
        torch.set_num_threads(threads)
        size = _fit_size(options, card, trained.arrays, data, report)
    card, model = finish(options, card, trained, trained.arrays, size, content)
    checkpoints.remove()
    if trained.history and (warning := try_to_draw(options, trained)):
        warn(warning)
        warnings.append(warning)
    return TrainingResult(
        model,
        card,
        trained,
        size,
        n_images=len(data.training),
        n_objects=sum(image.n_objects for image in data.training),
        remarks=tuple(data.remarks),
        warnings=tuple(warnings),
    )


def _random_network(n_channels: int, seed: int) -> ResidualUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResidualUNet(n_channels)


def _warnings(prepared: Prepared, held_out_share: float | None) -> list[str]:
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
    n_held_out, n_all = len(data.held_out), len(data.all_images)
    much = max(MUCH_HELD_OUT, 1.5 * (held_out_share or HELD_OUT_SHARE))
    if n_held_out > max(1, much * n_all):
        why = "images of one group stay together: give smaller groups"
        if len({image.group for image in data.held_out}) == n_held_out:
            n_kinds = len({image.kind for image in data.held_out})
            why = f"each of {n_kinds} kinds of images gives at least one: annotate more of each"
        warnings.append(
            f"{n_held_out} of {n_all} images are held out to choose the best weights by, because "
            f"{why}, or hold nothing out with --held-out-share 0."
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
