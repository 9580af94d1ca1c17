"""What a training writes at its beginning and at its end."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from cellseg_engine._version import __version__
from cellseg_engine.errors import MissingDependencyError
from cellseg_engine.io.staging import staged
from cellseg_engine.nets.card import ModelCard, file_sha256, write_weights
from cellseg_engine.train.curves import draw_curves, write_curves
from cellseg_engine.train.dataset import TrainingData
from cellseg_engine.train.faults import TrainingDivergedError
from cellseg_engine.train.options import TrainingOptions
from cellseg_engine.train.record import RECORD, describe_images, to_json
from cellseg_engine.train.size_fit import SizeFit
from cellseg_engine.train.state import Arrays, Trained


def begin_record(
    options: TrainingOptions,
    plan: Mapping[str, Any],
    fingerprint: str,
    data: TrainingData,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Give the record of a training that is about to begin."""
    return {
        "complete": False,
        "cellseg_engine": __version__,
        "fingerprint": fingerprint,
        "plan": plan,
        "paths": [str(path) for path in options.paths],
        "settings": options.settings.model_dump(),
        "device": options.settings.device,
        "torch": torch.__version__,
        "platform": platform.platform(),
        "training": describe_images(data.training),
        "held_out": describe_images(data.held_out),
        "left_out": [asdict(remark) for remark in data.remarks],
        "warnings": list(warnings),
    }


def keep_good_weights(
    options: TrainingOptions, card: ModelCard, trained: Trained
) -> TrainingDivergedError:
    """Keep the last good weights, and give the error that says so."""
    kept = "no weights were good before, so none are kept"
    if trained.arrays is not None:
        path = options.out / f"{card.name}.safetensors"
        with staged(options.out) as stage:
            _write_model(stage.path(path.name), card, trained.arrays, None)
        kept = f"the last good weights, of epoch {trained.epoch}, are in {path}"
    return TrainingDivergedError(
        f"{trained.stopped}, so the training was stopped; {kept}.",
        hint="Train again with --overwrite and a smaller --learning-rate, and look for images "
        "with extreme pixels.",
    )


def finish(
    options: TrainingOptions,
    card: ModelCard,
    trained: Trained,
    arrays: Arrays,
    size: SizeFit | None,
    content: Mapping[str, Any],
) -> tuple[ModelCard, Path]:
    """Write the model, the picture of the curves, and last the record that says all is done."""
    if size is not None:
        card = replace(card, diameter_range_px=size.model.range_px)
    path = options.out / f"{card.name}.safetensors"
    if trained.history:
        write_curves(options.out, trained.history)
        with suppress(MissingDependencyError):  # warned about at the beginning
            draw_curves(options.out, trained.history, trained.epoch)
    with staged(options.out) as stage:
        temporary = stage.path(path.name)
        _write_model(temporary, card, arrays, size)
        record = {
            **content,
            "complete": True,
            "model": path.name,
            "model_sha256": file_sha256(temporary),
            "card": asdict(card),
            "chosen_epoch": trained.epoch,
            "scores": trained.validation,
            "size_model": _describe_size(size),
        }
        stage.path(RECORD).write_text(to_json(record), encoding="utf-8")
    return card, path


def _write_model(path: Path, card: ModelCard, arrays: Arrays, size: SizeFit | None) -> None:
    """Write the weights and wait until they are on the disk: the checkpoints are deleted next."""
    try:
        write_weights(path, card, arrays, size.model if size else None)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        # as the system would say it, for `staged` to turn into a sentence
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _describe_size(size: SizeFit | None) -> dict[str, float] | None:
    if size is None:
        return None
    return {
        "ridge": size.ridge,
        "median_error_log": size.median_error,
        "correlation_log": size.correlation,
    }
