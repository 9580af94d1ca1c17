"""Calls of several threads share batches, and everyone gets what is his."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from cellseg_engine.nets.shared_runtime import SharedRuntime

WAIT_S = 20.0


class Doubling:
    """Gives twice the first channel; the first call waits until it may go on."""

    def __init__(self, best_batch: int, limit: int = 100) -> None:
        self.device, self.precision = "gpu", "fp16"
        self.about: dict[str, Any] = {"name": "doubling"}
        self.warnings: tuple[str, ...] = ()
        self.best_batch, self.limit = best_batch, limit
        self.batches: list[int] = []
        self.may_go_on, self.began = threading.Event(), threading.Event()
        self._inside = threading.Lock()

    def run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._inside.acquire(blocking=False), "two threads at a time"
        try:
            self.batches.append(len(tiles))
            self.began.set()
            assert self.may_go_on.wait(WAIT_S)
            if len(tiles) > self.limit:
                raise RuntimeError("out of memory")
            if (tiles < 0).any():
                raise ValueError("negative")
            styles = np.repeat(tiles[:, :1, 0, 0], 256, axis=1)
            return np.repeat(tiles[:, :1] * 2, 3, axis=1), styles
        finally:
            self._inside.release()


def tile(value: float, n: int = 1, side: int = 8) -> np.ndarray:
    return np.full((n, 2, side, side), value, np.float32)


def run_all(runtime: Doubling, calls: list[np.ndarray]) -> list[Any]:
    """Let the first call begin, the others wait, and then go on."""
    shared = SharedRuntime(runtime)
    with ThreadPoolExecutor(len(calls)) as pool:
        first = pool.submit(shared.run, calls[0])
        assert runtime.began.wait(WAIT_S)
        rest = [pool.submit(shared.run, call) for call in calls[1:]]
        deadline = threading.Event()
        while len(shared._waiting) < len(rest):
            deadline.wait(0.001)
        runtime.may_go_on.set()
        return [future.exception() or future.result() for future in (first, *rest)]


def check(found: list[Any], calls: list[np.ndarray]) -> None:
    for (fields, styles), call in zip(found, calls, strict=True):
        np.testing.assert_array_equal(fields, np.repeat(call[:, :1] * 2, 3, axis=1))
        assert styles.shape == (len(call), 256)
        np.testing.assert_array_equal(styles[:, 0], call[:, 0, 0, 0])


def test_those_that_wait_share_a_batch() -> None:
    runtime = Doubling(best_batch=8)
    calls = [tile(k, n) for k, n in enumerate((1, 2, 1, 3), start=1)]
    check(run_all(runtime, calls), calls)
    assert runtime.batches[0] == 1
    assert sorted(runtime.batches[1:]) == [6]


def test_a_batch_is_not_larger_than_the_best_one_unless_one_call_is() -> None:
    runtime = Doubling(best_batch=4)
    calls = [tile(k, n) for k, n in enumerate((1, 3, 3, 7, 1), start=1)]
    check(run_all(runtime, calls), calls)
    assert sum(runtime.batches) == 15
    assert max(size for size in runtime.batches if size != 7) <= 4


def test_tiles_of_another_size_go_by_themselves() -> None:
    runtime = Doubling(best_batch=8)
    calls = [tile(1), tile(2), tile(3, side=16), tile(4)]
    check(run_all(runtime, calls), calls)
    assert sorted(runtime.batches) == [1, 1, 2]


def test_fewer_large_tiles_share_a_batch() -> None:
    runtime = Doubling(best_batch=8)
    run_all(runtime, [tile(n, side=448) for n in range(5)])
    assert sorted(runtime.batches) == [1, 2, 2]  # 448 px: four times the pixels of 224


def test_a_best_batch_of_one_keeps_calls_apart() -> None:
    runtime = Doubling(best_batch=1)
    calls = [tile(k) for k in range(5)]
    check(run_all(runtime, calls), calls)
    assert runtime.batches == [1] * 5


def test_what_does_not_fit_together_is_calculated_one_by_one() -> None:
    runtime = Doubling(best_batch=8, limit=2)
    calls = [tile(k, 2) for k in range(4)]
    check(run_all(runtime, calls), calls)
    assert max(runtime.batches) == 6


def test_an_error_belongs_to_who_made_it() -> None:
    runtime = Doubling(best_batch=1)
    found = run_all(runtime, [tile(1), tile(-1), tile(2)])
    assert isinstance(found[1], ValueError)
    check([found[0], found[2]], [tile(1), tile(2)])


def test_it_says_what_the_runtime_says() -> None:
    shared = SharedRuntime(Doubling(best_batch=3))
    assert (shared.device, shared.precision, shared.best_batch) == ("gpu", "fp16", 3)
    assert shared.about == {"name": "doubling"}


def test_a_call_that_failed_waits_no_longer() -> None:
    runtime = Doubling(best_batch=8)
    runtime.may_go_on.set()
    shared = SharedRuntime(runtime)
    with pytest.raises(ValueError, match="negative"):
        shared.run(tile(-1))
    check([shared.run(tile(5))], [tile(5)])
    assert runtime.batches == [1, 1]
