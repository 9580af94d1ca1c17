"""Which planes are looked at again, and which result counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from cellseg_engine.core.axes import to_planes
from cellseg_engine.pipeline.prepare import Preparation
from cellseg_engine.pipeline.second_look import (
    Outcome,
    SecondLook,
    Story,
    plan_second_looks,
)
from cellseg_engine.settings import make_settings

PREPARATION = Preparation(make_settings(), False, (), 1, False)


class Planes:
    """The planes of a stack, which are their own samples."""

    def __init__(self, stack: np.ndarray) -> None:
        self._planes = list(to_planes(stack, "ZYX").planes())

    def pixels(self, index: int) -> np.ndarray:
        return self._planes[index]

    sample = pixels


def plan(stack: np.ndarray, labels: np.ndarray) -> dict[int, SecondLook]:
    planes: Any = Planes(stack)
    return plan_second_looks(planes, labels, PREPARATION)


def sparse_stack(n: int, sign: int = 1) -> np.ndarray:
    """Give noise, in which a disk of 80 px stands out."""
    stack = np.random.default_rng(0).normal(100, 3, (n, 120, 120))
    y, x = np.mgrid[:120, :120]
    stack[:, np.hypot(y - 50, x - 70) < 5] += sign * 400
    return stack


def test_each_plane_is_judged_by_itself() -> None:
    stack = sparse_stack(4)
    stack[1] = np.random.default_rng(1).normal(100, 3, stack[1].shape)
    labels = np.zeros(stack.shape, np.int32)
    labels[2, :40] = 1  # dense
    labels[3, 40:60, 60:80] = 1  # found
    looks = plan(stack, labels)
    assert list(looks) == [0]
    assert looks[0].places.size == np.count_nonzero(stack[0] > 300)
    assert looks[0].preparation.settings.percentile_low == 1
    shown = looks[0].preparation.settings.percentile_high
    assert np.percentile(stack[0], shown) > 400


def test_the_background_is_taken_to_be_bright_only_where_no_plane_shows_otherwise() -> None:
    stack = sparse_stack(2, sign=-1)
    labels = np.zeros(stack.shape, np.int32)
    looks = plan(stack, labels)
    assert [look.preparation.invert for look in looks.values()] == [True, True]
    labels[1, :40] = 1  # objects, seen as bright ones
    assert plan(stack, labels) == {}


def test_an_object_is_lost_when_most_of_it_is_in_none() -> None:
    first = np.zeros((20, 30), np.int32)
    first[2:8, 2:8], first[2:8, 12:18], first[12:18, 2:8] = 1, 2, 3
    second = np.zeros_like(first)
    look = SecondLook(PREPARATION, np.arange(20), np.arange(first.size))
    assert look.lost(first, second).tolist() == [36, 36, 36]
    second[1:9, 2:5] = 7  # half of the first
    second[2:8, 12:14] = 8  # a third of the second
    second[10:19, 1:9] = 9
    assert look.lost(first, second).tolist() == [36]
    assert not look.lost(second * 0, second).size


def test_an_object_of_noise_is_none_to_lose() -> None:
    first = np.zeros((20, 30), np.int32)
    first[2:8, 2:8], first[2:8, 12:18] = 1, 2
    bright = np.zeros(first.shape, bool)
    bright[2:5, 2:8] = bright[2:4, 12:18] = True  # half of one, a third of the other
    look = SecondLook(PREPARATION, np.arange(20), np.flatnonzero(bright))
    assert look.lost(first, np.zeros_like(first)).tolist() == [36]


def test_a_result_that_lacks_next_to_nothing_counts() -> None:
    look = SecondLook(PREPARATION, np.arange(20), np.arange(20))
    taken = [Outcome(0, look, 3, 3, share).is_taken for share in (0.0, 0.2, 0.3)]
    assert taken == [True, True, False]


def test_what_is_told_of_stacks() -> None:
    def outcome(index: int, high: float, lost: int) -> Outcome:
        settings = make_settings(percentile_high=high)
        preparation = Preparation(settings, False, (), 1, False)
        look = SecondLook(preparation, np.arange(20), np.arange(20))
        return Outcome(index, look, 4, lost, float(lost))

    story = Story([outcome(0, 99.5, 0), outcome(1, 99.75, 0), outcome(3, 99.25, 3)], 5, "planes")
    assert story.facts() == {
        "second_look": [
            {"plane": 0, "percentile_low": 1, "percentile_high": 99.5},
            {"plane": 1, "percentile_low": 1, "percentile_high": 99.75},
        ]
    }
    taken, refused = story.warnings()
    assert taken == (
        "The few bright pixels of 2 of 5 planes lie outside the percentiles 1 and 99 and were not "
        "found with them, so these planes were looked at again with percentile_high from 99.5 to "
        "99.75."
    )
    assert refused == (
        "The few bright pixels of 1 of 5 planes lie outside the percentiles 1 and 99 and were not "
        "found with them. With percentile_high = 99.25 they are, but 3 of the 4 objects found "
        "first are not, so those were kept."
    )
    (one,) = Story([outcome(0, 99.5, 0)], 5, "volumes").warnings()
    assert "so this volume was looked at again with percentile_high = 99.5." in one
