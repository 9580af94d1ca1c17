"""What can go wrong in training for a reason that the user can act on."""

from __future__ import annotations

from typing import ClassVar

from cellseg_engine.errors import CellSegError


class TrainingDataError(CellSegError, ValueError):
    """The images or annotations cannot be trained on."""

    code: ClassVar[str] = "training-data"


class TrainingDivergedError(CellSegError, ArithmeticError):
    """The loss became NaN or infinite, so the training was stopped."""

    code: ClassVar[str] = "training-diverged"
