"""Progress and cancel, between the tiles of an image, and the time that each stage takes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cellseg_engine.errors import CancelledError

ProgressCallback = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """How far one image is.

    Attributes
    ----------
    stage
        ``size`` (estimating the diameter), ``network`` or ``labels``.
    plane, n_planes
        The plane at work, from 0, and how many there are.
    done, total
        Tiles of the stage.
    """

    stage: str
    plane: int
    n_planes: int
    done: int
    total: int


class Ticker:
    """Reports progress and stops the work when asked to.

    Parameters
    ----------
    report
        Called between tiles, or None.
    is_cancelled
        Asked between tiles, or None; when it says True, `CancelledError` is raised.
    """

    def __init__(
        self, report: ProgressCallback | None, is_cancelled: Callable[[], bool] | None
    ) -> None:
        self._report = report
        self._is_cancelled = is_cancelled
        self._stage = ""
        self._plane = 0
        self._n_planes = 1

    def start(self, stage: str, plane: int, n_planes: int) -> None:
        """Begin a stage of a plane."""
        self._stage, self._plane, self._n_planes = stage, plane, n_planes
        self.tiles(0, 1)

    def tiles(self, done: int, total: int) -> None:
        """Say how many tiles are done.

        Raises
        ------
        CancelledError
            The caller asked to stop.
        """
        if self._is_cancelled is not None and self._is_cancelled():
            raise CancelledError("The segmentation was cancelled.")
        if self._report is not None:
            self._report(Progress(self._stage, self._plane, self._n_planes, done, total))


class Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time spent inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start
