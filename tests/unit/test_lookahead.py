"""Several things at work at a time, in order; large ones alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cellseg_engine.batch.lookahead import Gate, in_order

WAIT_S = 20.0


def test_results_come_in_order_and_only_a_few_are_at_work() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02 * (number % 3))
        with lock:
            inside -= 1
        return number * number

    given = list(in_order(work, range(12), 3, threading.Event()))
    assert given == [number * number for number in range(12)]
    assert 2 <= most <= 3


def test_items_are_taken_only_as_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, items(), 2, threading.Event())
    assert next(results) == 0
    assert len(taken) == 3
    results.close()
    assert len(taken) == 3


def test_who_stops_early_ends_the_work_under_way() -> None:
    cancel, ended = threading.Event(), threading.Event()

    def work(number: int) -> int:
        if number == 1:
            assert cancel.wait(WAIT_S)
            ended.set()
        return number

    results = in_order(work, range(5), 2, cancel)
    assert next(results) == 0
    assert not cancel.is_set()
    results.close()
    assert ended.is_set()


def test_an_error_comes_in_its_turn_and_ends_everything() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise OSError("full")
        return number

    cancel = threading.Event()
    results = in_order(work, range(50), 2, cancel)
    assert next(results) == 0
    with pytest.raises(OSError, match="full"):
        next(results)
    assert cancel.is_set()
    assert len(begun) <= 4


def test_all_done_is_no_cancelling() -> None:
    cancel = threading.Event()
    assert list(in_order(abs, [-1, 2], 4, cancel)) == [1, 2]
    assert list(in_order(abs, [], 4, cancel)) == []
    assert not cancel.is_set()


def test_a_large_one_is_alone() -> None:
    gate, lock = Gate(), threading.Lock()
    events: list[str] = []

    def go(name: str, alone: bool) -> None:
        with gate.enter(alone=alone):
            with lock:
                events.append(f"{name} in")
            time.sleep(0.02)
            with lock:
                events.append(f"{name} out")

    for _ in range(10):
        events.clear()
        names = [("a", False), ("L", True), ("b", False), ("M", True)]
        threads = [threading.Thread(target=go, args=each) for each in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for large in ("L", "M"):
            place = events.index(f"{large} in")
            assert events[place + 1] == f"{large} out"
            before = events[:place]
            assert len([e for e in before if e.endswith("in")]) == len(
                [e for e in before if e.endswith("out")]
            )
