"""The training loop: steps, epochs, held-out scores, checkpoints."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from cellseg_engine.errors import DeviceError, SettingsError
from cellseg_engine.nets.card import ModelCard
from cellseg_engine.nets.runtimes import choose_device, reuse_freed_memory
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.train.arithmetic import arithmetic, deterministic, make_optimizer
from cellseg_engine.train.averaging import RunningAverage
from cellseg_engine.train.batches import Batch, BatchMaker
from cellseg_engine.train.checkpoint import CheckpointFolder
from cellseg_engine.train.dataset import TrainingImage
from cellseg_engine.train.faults import TrainingDivergedError
from cellseg_engine.train.losses import losses
from cellseg_engine.train.sampling import epoch_order
from cellseg_engine.train.state import Arrays, LoopOptions, Trained, TrainingProgress
from cellseg_engine.train.validate import validate

_log = logging.getLogger(__name__)


@dataclass
class _State:
    """What a checkpoint keeps beside network and optimiser."""

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0


class Trainer:
    """Trains one network.

    Parameters
    ----------
    net
        With its first weights; it is trained in place.
    card
        Of the model; channels, diameters and flow variant are used.
    training, held_out
        Images to train on, and to choose the best weights by; without the latter the last
        weights are taken.
    options
        How.
    checkpoints
        Where to keep the state, and to find it again.
    report
        Called after every step.
    on_epoch
        Called after every epoch with all rows of the curves so far.

    Raises
    ------
    DeviceError
        The device is not there, or cannot do the precision.
    """

    def __init__(
        self,
        net: ResidualUNet,
        card: ModelCard,
        training: Sequence[TrainingImage],
        held_out: Sequence[TrainingImage],
        options: LoopOptions,
        checkpoints: CheckpointFolder,
        report: Callable[[TrainingProgress], None],
        on_epoch: Callable[[Sequence[Mapping[str, Any]]], None],
    ) -> None:
        self._card, self._training, self._held_out = card, training, held_out
        self._options, self._checkpoints = options, checkpoints
        self._report, self._on_epoch = report, on_epoch
        recipe = options.recipe
        self._device = choose_device(options.device)
        if self._device.type != "cuda" and recipe.precision == "fp16":
            raise DeviceError(
                "Training in fp16 needs an NVIDIA GPU.", hint="Use --precision fp32 or bf16."
            )
        if self._device.type == "cpu":
            reuse_freed_memory()
        is_mps = self._device.type == "mps"
        self._layout = torch.contiguous_format if is_mps else torch.channels_last
        self._net = net.to(self._device).to(memory_format=self._layout)
        self._net.requires_grad_(True)
        for fixed in (self._net.diam_mean, self._net.diam_labels):
            fixed.requires_grad_(False)
        self._optimizer = make_optimizer(self._net, recipe)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=recipe.precision == "fp16")
        self._maker = BatchMaker(
            training,
            card.n_channels,
            card.diam_mean_px,
            options.crop_px,
            recipe.batch_size,
            options.seed,
            recipe.vary_intensity,
        )
        self._average = RunningAverage(recipe.average_decay) if recipe.average_decay else None
        self._state = _State()
        self._best: dict[str, torch.Tensor] | None = None
        self._good: dict[str, torch.Tensor] | None = None  # after the last whole epoch
        self._saved_at = time.monotonic()

    def run(self) -> Trained:
        """Train to the end, from the newest checkpoint if there is one.

        Raises
        ------
        SettingsError
            The checkpoint belongs to other data or settings.
        WriteError
            A checkpoint cannot be written; the ones before stay.
        """
        self._resume()
        self._net.train()
        stopped = ""
        with deterministic(self._device):
            while self._state.epoch < self._options.recipe.epochs and not stopped:
                if self._state.epoch and self._state.step == 0:
                    self._good = self._weights()
                stopped = self._run_epoch()
        arrays = self._best or (self._good if stopped else self._weights())
        return Trained(
            arrays=None if arrays is None else _to_arrays(arrays),
            epoch=self._state.best_epoch or self._state.epoch,
            validation=self._state.best,
            history=self._state.history,
            stopped=stopped,
        )

    def _run_epoch(self) -> str:
        """Do the rest of an epoch; give the reason why the training cannot go on, or nothing."""
        recipe, state = self._options.recipe, self._state
        # Kernels of numba, called for flows and scores, set the number of threads for torch too.
        torch.set_num_threads(self._options.threads)
        order = epoch_order(
            self._training,
            self._options.weights,
            n_wanted=recipe.images_wanted(len(self._training)),
            seed=self._options.seed,
            epoch=state.epoch,
        )
        n_steps = len(order) // recipe.batch_size
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.rate(state.epoch)
        batches = self._maker.batches(order, state.epoch, state.step)
        with contextlib.closing(batches):
            for batch in batches:
                values = self._step(batch)
                if not np.isfinite(values).all():
                    return self._diverged(f"step {state.step + 1} of epoch {state.epoch + 1}")
                state.sums = [
                    total + value for total, value in zip(state.sums, values, strict=True)
                ]
                state.step += 1
                self._tell(n_steps, sum(values))
                self._save(force=False)
        if not self._is_finite():
            return self._diverged(f"the last step of epoch {state.epoch + 1}")
        return self._end_epoch(n_steps)

    def _is_finite(self) -> bool:
        return all(bool(value.isfinite().all()) for value in self._net.state_dict().values())

    def _diverged(self, when: str) -> str:
        return f"The loss became infinite or NaN in {when}"

    def _step(self, batch: Batch) -> list[float]:
        """Do one step, unless the loss is not finite; give both losses."""
        pixels = torch.from_numpy(batch.pixels).to(self._device)
        targets = torch.from_numpy(batch.targets).to(self._device)
        annotated = None
        if batch.annotated is not None:
            annotated = torch.from_numpy(batch.annotated).to(self._device)
        with arithmetic(self._device, self._options.recipe.precision):
            fields, _ = self._net(pixels.contiguous(memory_format=self._layout))
            both = losses(fields, targets, annotated)
            values: list[float] = both.tolist()
            if np.isfinite(values).all():
                self._optimizer.zero_grad(set_to_none=True)
                self._scaler.scale(both.sum()).backward()  # type: ignore[no-untyped-call]
                self._scaler.step(self._optimizer)
                self._scaler.update()
                if self._average:
                    self._average.add(self._net)
        return values

    def _end_epoch(self, n_steps: int) -> str:
        """Score, and keep what an epoch gave; give what `_run_epoch` gives."""
        recipe, state = self._options.recipe, self._state
        number = state.epoch + 1
        flow, probability = (total / n_steps for total in state.sums)
        row: dict[str, Any] = {
            "epoch": number,
            "learning_rate": recipe.rate(state.epoch),
            "flow_loss": flow,
            "probability_loss": probability,
        }
        is_due = number % self._options.validate_every == 0 or number == recipe.epochs
        validated = bool(self._held_out) and is_due
        if validated:
            try:
                row |= self._validate(number)
            except TrainingDivergedError:
                return self._diverged(f"the scores of epoch {number}")
        state.history.append(row)
        state.epoch, state.step, state.sums = number, 0, [0.0, 0.0]
        self._on_epoch(state.history)
        self._save(force=validated or number == recipe.epochs)
        return ""

    def _validate(self, number: int) -> dict[str, float]:
        done = number * self._n_steps()
        total = self._options.recipe.epochs * self._n_steps()
        self._report(TrainingProgress("scoring", done, total, number, self._options.recipe.epochs))
        average = self._average
        with average.shown_by(self._net) if average else contextlib.nullcontext():
            found = validate(
                self._net,
                self._held_out,
                self._card,
                crop_px=self._options.crop_px,
                device=str(self._device),
                precision=self._options.recipe.precision,
            )
        values = found.as_columns()
        if found.selection_score >= self._state.best.get("held_out_ap_mean", -1.0):
            self._state.best, self._state.best_epoch = values, number
            self._best = self._weights()
        return values

    def _n_steps(self) -> int:
        recipe = self._options.recipe
        return recipe.images_wanted(len(self._training)) // recipe.batch_size

    def _tell(self, n_steps: int, loss: float) -> None:
        state, n_epochs = self._state, self._options.recipe.epochs
        self._report(
            TrainingProgress(
                "training",
                state.epoch * n_steps + state.step,
                n_epochs * n_steps,
                state.epoch + 1,
                n_epochs,
                loss,
                state.best.get("held_out_ap_mean", math.nan),
            )
        )

    def _weights(self) -> dict[str, torch.Tensor]:
        """Give a copy of the weights that would be kept now."""
        if self._average and (weights := self._average.weights()):
            return weights
        return {name: value.detach().clone() for name, value in self._net.state_dict().items()}

    def _save(self, *, force: bool) -> None:
        now = time.monotonic()
        if not force and now - self._saved_at < self._options.checkpoint_every_s:
            return
        if not self._is_finite():
            return
        is_needed = self._state.step > 0 and self._best is None
        self._checkpoints.write(
            {
                "fingerprint": self._options.fingerprint,
                "threads": self._options.threads,
                "state": asdict(self._state),
                "best": self._best,
                "good": self._good if is_needed else None,
                "net": self._net.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "scaler": self._scaler.state_dict(),
                "average": self._average.state() if self._average else None,
            }
        )
        self._saved_at = time.monotonic()

    def _resume(self) -> None:
        content = self._checkpoints.read()
        if content is None:
            return
        if content["fingerprint"] != self._options.fingerprint:
            raise SettingsError(
                "The training in this folder was begun with other images or settings.",
                hint="Give another --out, or begin anew with --overwrite.",
            )
        if content["threads"] != self._options.threads:
            _log.warning(
                "The training was begun with %d threads and goes on with %d: its last digits can "
                "differ from those of an uninterrupted one.",
                content["threads"],
                self._options.threads,
            )
        self._state = _State(**content["state"])
        self._net.load_state_dict(content["net"])
        self._optimizer.load_state_dict(content["optimizer"])
        self._scaler.load_state_dict(content["scaler"])
        if self._average:
            self._average.load(content["average"], self._device)
        self._best = self._on_device(content["best"])
        self._good = self._on_device(content.get("good"))  # older checkpoints have none
        self._on_epoch(self._state.history)

    def _on_device(
        self, weights: Mapping[str, torch.Tensor] | None
    ) -> dict[str, torch.Tensor] | None:
        if weights is None:
            return None
        return {name: value.to(self._device) for name, value in weights.items()}


def _to_arrays(weights: Mapping[str, torch.Tensor]) -> Arrays:
    fixed = ("diam_mean", "diam_labels")  # the card has them
    return {
        name: value.cpu().contiguous().numpy()
        for name, value in weights.items()
        if name not in fixed
    }
