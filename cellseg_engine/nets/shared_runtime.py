"""One network for several threads: a batch at a time, of tiles from all that wait."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from cellseg_engine.nets.runtimes import Runtime, tiles_at_once


class SharedRuntime:
    """A runtime that several images use at the same time.

    Parameters
    ----------
    runtime
        What calculates. It is called by one thread at a time.

    Notes
    -----
    Who finds the network free takes along the tiles of those that wait, up to its ``best_batch``,
    where they have the same size; fewer of large ones. So small images fill a GPU together, while
    with a ``best_batch`` of 1, as on CPUs, every call is calculated by itself and its result cannot
    depend on others.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.device: str = runtime.device
        self.precision: str = runtime.precision
        self.best_batch: int = runtime.best_batch
        self.about: dict[str, Any] = runtime.about
        self.warnings: tuple[str, ...] = runtime.warnings
        self._calculating = threading.Lock()
        self._waiting: list[_Call] = []
        self._changing = threading.Lock()

    def run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give fields (N, 3, Y, X) and styles (N, 256), float32, for tiles (N, C, Y, X)."""
        call = _Call(tiles)
        with self._changing:
            self._waiting.append(call)
        try:
            with self._calculating:
                if call.result is None:
                    self._calculate(self._take_along(call))
        finally:
            with self._changing:
                if call in self._waiting:
                    self._waiting.remove(call)
        if call.result is None:
            raise AssertionError("a call that was calculated has a result")
        return call.result

    def _take_along(self, first: _Call) -> list[_Call]:
        """Give the call and others that wait and fit into its batch; they wait no longer."""
        with self._changing:
            calls = [first]
            room = tiles_at_once(self.best_batch, first.tiles.shape[2:]) - len(first.tiles)
            for call in self._waiting:
                fits = call.tiles.shape[1:] == first.tiles.shape[1:] and len(call.tiles) <= room
                if call is not first and fits:
                    calls.append(call)
                    room -= len(call.tiles)
            self._waiting = [call for call in self._waiting if call not in calls]
        return calls

    def _calculate(self, calls: list[_Call]) -> None:
        """Calculate calls together; who is not done by that (it failed) calculates by himself."""
        if len(calls) == 1:
            calls[0].result = self._runtime.run(calls[0].tiles)
            return
        try:
            fields, styles = self._runtime.run(np.concatenate([call.tiles for call in calls]))
        except RuntimeError:  # too much for the device's memory, perhaps
            self._calculate(calls[:1])
            return
        start = 0
        for call in calls:
            stop = start + len(call.tiles)
            call.result = fields[start:stop], styles[start:stop]
            start = stop


class _Call:
    """What one thread wants, and what it gets."""

    def __init__(self, tiles: np.ndarray) -> None:
        self.tiles = tiles
        self.result: tuple[np.ndarray, np.ndarray] | None = None
