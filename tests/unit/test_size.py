"""The size estimate measures the objects that the peer measures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cellseg_engine.core.labels import areas
from cellseg_engine.errors import SettingsError
from cellseg_engine.pipeline import size
from cellseg_engine.pipeline.prepare import predict_at_scale
from cellseg_engine.pipeline.progress import Ticker
from cellseg_engine.pipeline.size import (
    MAX_REFINEMENTS,
    SizeEstimate,
    choose_planes,
    estimate_diameter,
    settle,
    solid_objects,
)
from cellseg_engine.settings import make_settings


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


@pytest.mark.parametrize(
    ("count", "first", "others"),
    [
        (1, [0], []),
        (2, [0, 1], []),
        (5, [0, 1, 2, 3, 4], []),
        (6, [0, 1, 2, 3, 4], [5]),
        (7, [1, 2, 3, 4, 5], [0, 6]),
        (100, [16, 33, 49, 66, 82], [0, 24, 50, 74, 99]),
    ],
)
def test_planes_of_stacks_are_spread(count: int, first: list[int], others: list[int]) -> None:
    chosen = choose_planes(count)
    assert chosen[:5] == first
    assert chosen[5:] == others


def estimate(monkeypatch: pytest.MonkeyPatch, diameters: list[float]) -> tuple[SizeEstimate, int]:
    """Estimate on planes whose objects have these diameters; also give how many were seen."""
    seen: list[float] = []

    def one(_model: Any, plane: Any, *_: Any) -> tuple[float, float]:
        seen.append(plane)
        return 30.0, plane

    size_model = SimpleNamespace(diam_mean_px=17.0, covers=lambda _: True)
    monkeypatch.setattr(size, "_estimate_plane", one)
    nobody = Ticker(None, None)
    model: Any = SimpleNamespace(size_model=size_model)
    planes: Any = iter(diameters)
    return estimate_diameter(model, planes, make_settings(), nobody), len(seen)


@pytest.mark.parametrize(
    ("diameters", "expected", "n_seen"),
    [
        ([0, 20], 20, 2),
        ([10, 0, 30, 20, 0, 50, 50], 20, 5),
        ([0, 0, 0, 0, 0, 0, 40, 50], 40, 7),
        ([0] * 10, 17, 10),
    ],
)
def test_further_planes_are_looked_at_while_none_shows_objects(
    monkeypatch: pytest.MonkeyPatch, diameters: list[float], expected: float, n_seen: int
) -> None:
    found, n = estimate(monkeypatch, diameters)
    assert (found.diameter_px, n) == (expected, n_seen)
    assert found.found_objects == any(diameters)


def test_an_image_that_is_too_narrow_is_not_blamed_on_a_diameter_that_was_not_given() -> None:
    model: Any = SimpleNamespace(card=SimpleNamespace(diam_mean_px=17.0))
    image, nobody = np.zeros((1, 1, 64), np.float32), Ticker(None, None)
    with pytest.raises(SettingsError) as caught:
        predict_at_scale(model, image, 0.7, make_settings(), nobody)
    assert str(caught.value) == (
        "The image of 1 x 64 px is too narrow to estimate the diameter of its objects. Give "
        "diameter_px."
    )
    with pytest.raises(SettingsError, match=r"diameter_px = 24\.2857 does not fit the image"):
        predict_at_scale(model, image, 0.7, make_settings(diameter_px=17 / 0.7), nobody)
