"""The size estimate measures the objects that the peer measures."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg_engine.core.labels import areas
from cellseg_engine.pipeline.size import MAX_REFINEMENTS, settle, solid_objects


def test_small_objects_are_dropped_before_their_holes_are_filled() -> None:
    """A ring of 14 px around a hole of 1 px once counted, and moved the median diameter."""
    labels = np.zeros((12, 20), np.int32)
    labels[1:4, 1:6] = 1
    labels[2, 3] = 0
    labels[5:9, 8:14] = 2
    labels[6, 10] = 0
    assert areas(labels)[1:].tolist() == [14, 23]
    assert areas(solid_objects(labels, 15))[1:].tolist() == [24]


@pytest.mark.parametrize(
    ("start", "found", "n_looks", "expected"),
    [
        (30.0, {30: 29}, 1, 29),
        (30.0, {30: 40, 40: 43}, 2, 43),
        (22.0, {22: 17, 17: 9, 9: 6.5, 6.5: 6.2}, 4, 6.2),
        (30.0, {30: 0}, 1, 0),
        (30.0, {30: 20, 20: 0}, 2, 20),
    ],
)
def test_a_diameter_counts_when_its_objects_confirm_it(
    start: float, found: dict[float, float], n_looks: int, expected: float
) -> None:
    looks: list[float] = []

    def look(diameter: float) -> float:
        looks.append(diameter)
        return found[diameter]

    assert settle(start, look) == expected
    assert len(looks) == n_looks


def test_fragments_that_shrink_with_every_look_do_not_count() -> None:
    looks: list[float] = []

    def look(diameter: float) -> float:
        looks.append(diameter)
        return diameter / 2

    assert settle(32.0, look) == 16
    assert len(looks) == MAX_REFINEMENTS
