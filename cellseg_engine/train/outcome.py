"""What a training writes at its beginning and at its end."""

from __future__ import annotations

import logging
import math
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from cellseg_engine._version import __version__
from cellseg_engine.errors import MissingDependencyError
from cellseg_engine.io.staging import Stage, staged
from cellseg_engine.nets.card import ModelCard, file_sha256, write_weights
from cellseg_engine.train.curves import PICTURE, draw_curves, write_curves
from cellseg_engine.train.dataset import TrainingData
from cellseg_engine.train.faults import TrainingDivergedError
from cellseg_engine.train.options import TrainingOptions
from cellseg_engine.train.record import RECORD, describe_images, to_json
from cellseg_engine.train.size_fit import SizeFit
from cellseg_engine.train.state import Arrays, Trained

_OPTIONS = (
    *("annotations", "image_suffix", "mask_suffix", "role", "kinds", "axes", "slices", "disjoint"),
    *("weights", "held_out_share"),
)
"""What else of the options says how images are found, read and split."""

_log = logging.getLogger(__name__)


def begin_record(
    options: TrainingOptions,
    plan: Mapping[str, Any],
    fingerprint: str,
    data: TrainingData,
    warnings: Sequence[str],
    replaced: Sequence[str],
) -> dict[str, Any]:
    """Give the record of a training that is about to begin, and of the weights it replaces."""
    return {
        "complete": False,
        "replaced": list(replaced),
        "cellseg_engine": __version__,
        "fingerprint": fingerprint,
        "plan": plan,
        "paths": [str(path) for path in options.paths],
        "options": {name: getattr(options, name) for name in _OPTIONS},
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
    options: TrainingOptions, card: ModelCard, trained: Trained, content: Mapping[str, Any]
) -> TrainingDivergedError:
    """Keep the last good weights, and give the error that says so; the record says it, too."""
    path = options.out / f"{card.name}.safetensors"
    kept = "no weights were good before, so none are kept"
    if path.exists():
        kept = f"no weights were good before, and {path} is as it was"
    with staged(options.out) as stage:
        if trained.arrays is not None:
            kept = f"the last good weights, of epoch {trained.epoch}, are in {path}"
            _write_model(stage.path(path.name), card, trained.arrays, None)
            content = _replace(stage, content)
        message = f"{trained.stopped}, so the training was stopped; {kept}."
        record = {**content, "stopped": message}
        stage.path(RECORD).write_text(to_json(record), encoding="utf-8")
    return TrainingDivergedError(
        message,
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
    """Write the model, and last the record that says all is done."""
    if size is not None:
        card = replace(card, diameter_range_px=size.model.range_px)
    path = options.out / f"{card.name}.safetensors"
    if trained.history:
        write_curves(options.out, trained.history)
    with staged(options.out) as stage:
        temporary = stage.path(path.name)
        _write_model(temporary, card, arrays, size)
        record = {
            **_replace(stage, content),
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


def _replace(stage: Stage, content: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the weights that the new ones replace, and give the record without their names."""
    for name in content["replaced"]:
        stage.remove(name)
    return {**content, "replaced": []}


def try_to_draw(options: TrainingOptions, trained: Trained) -> str:
    """Draw the curves; give a sentence if that fails, since the model does not need them."""
    try:
        with suppress(MissingDependencyError):  # warned about at the beginning
            draw_curves(options.out, trained.history, trained.epoch)
    except Exception as error:  # noqa: BLE001 (fonts, memory, the disk: much can fail)
        _log.debug("curves.png", exc_info=True)
        return f"The picture {options.out / PICTURE} cannot be drawn: {error}. The model is whole."
    return ""


def _write_model(path: Path, card: ModelCard, arrays: Arrays, size: SizeFit | None) -> None:
    """Write the weights and wait until they are on the disk: the checkpoints are deleted next."""
    write_weights(path, card, arrays, size.model if size else None)
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _describe_size(size: SizeFit | None) -> dict[str, float | None] | None:
    if size is None:
        return None
    return {
        "ridge": size.ridge,
        "median_error_log": None if math.isnan(size.median_error) else size.median_error,
        "correlation_log": None if math.isnan(size.correlation) else size.correlation,
    }
