"""What a training is told, what it tells, and what it gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellseg_engine.train.recipes import Recipe

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class LoopOptions:
    """How a network is trained.

    Attributes
    ----------
    recipe
        Epochs, optimiser, learning rates, batches, precision.
    weights
        Share of each kind of image; empty for every image alike.
    seed
        Of the order of images and their views.
    crop_px
        Side of the square that the network sees.
    validate_every
        Epochs between two scores of the held-out images; the last epoch always has one.
    device
        As in the settings.
    checkpoint_every_s
        Seconds between two checkpoints; 0 writes one after every step.
    fingerprint
        Of data and settings; a checkpoint with another one is not continued.
    threads
        Of torch on the CPU; another number changes the last digits.
    """

    recipe: Recipe
    weights: Mapping[str, float]
    seed: int
    crop_px: int
    validate_every: int
    device: str
    checkpoint_every_s: float
    fingerprint: str
    threads: int


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is.

    Attributes
    ----------
    stage
        ``reading``, ``styles``, ``training``, ``scoring`` or ``size model``.
    done, total
        Steps of the whole training, or images of the stage.
    epoch, n_epochs
        From 1; 0 outside of the training.
    loss
        Sum of both losses of the last step; NaN outside of the training.
    score
        Best score of the held-out images so far; NaN before the first.
    """

    stage: str
    done: int
    total: int
    epoch: int = 0
    n_epochs: int = 0
    loss: float = math.nan
    score: float = math.nan


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes
    ----------
    arrays
        The chosen weights by their official names, or None where the training stopped before any
        were good.
    epoch
        How many epochs these have been trained for.
    validation
        Scores and losses of the held-out images with them; empty without held-out images.
    history
        One row per epoch, for the curves.
    stopped
        Why the training ended early, or empty.
    """

    arrays: Arrays | None
    epoch: int
    validation: dict[str, float]
    history: list[dict[str, Any]]
    stopped: str = ""
