"""What can go wrong in training for a reason that the user can act on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from cellseg_engine.errors import CellSegError

NAMED = 5
"""So many names stand in a sentence."""


class TrainingDataError(CellSegError, ValueError):
    """The images or annotations cannot be trained on."""

    code: ClassVar[str] = "training-data"


class TrainingDivergedError(CellSegError, ArithmeticError):
    """The loss became NaN or infinite, so the training was stopped."""

    code: ClassVar[str] = "training-diverged"


def name_some(names: Sequence[str]) -> str:
    """Give names for a sentence, with how many more there are: ``a, b and 3 more``."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
