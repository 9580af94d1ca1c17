"""Views of other brightness: what changes, and what must not."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg_engine.train import intensity
from cellseg_engine.train.intensity import vary_intensity
from cellseg_engine.train.recipes import load_recipe, recipe_names
from tests.unit.plain import blobs

LABELS = blobs(96, 32, seed=3)
PIXELS = np.zeros((2, 96, 96), np.float32)
PIXELS[0] = (LABELS > 0) * 0.9 + 0.05


def views(count: int) -> list[np.ndarray]:
    return [vary_intensity(np.random.default_rng(n), PIXELS, LABELS) for n in range(count)]


def test_empty_channels_stay_empty_and_all_is_finite() -> None:
    for view in views(60):
        assert view.dtype == np.float32
        assert view.shape == PIXELS.shape
        assert np.isfinite(view).all()
        assert not view[1].any()


def test_the_same_view_looks_the_same_and_others_differ() -> None:
    first, again = views(12), views(12)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    changed = [not np.array_equal(view, PIXELS) for view in first]
    assert 6 < sum(changed) <= 12


def test_without_chance_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intensity, "CHANCE", 0.0)
    monkeypatch.setattr(intensity, "COARSE_CHANCE", 0.0)
    assert all(np.array_equal(view, PIXELS) for view in views(5))


def test_objects_are_dimmed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnlyObjects:
        def __init__(self) -> None:
            self.rng = np.random.default_rng(0)

        def random(self, count: int) -> np.ndarray:
            return np.array([0.0, *[1.0] * (count - 1)])

        def uniform(self, low: float, high: float, count: int) -> np.ndarray:
            return self.rng.uniform(low, high, count)

    view = vary_intensity(OnlyObjects(), PIXELS, LABELS)  # type: ignore[arg-type]
    means = [view[0][label == LABELS].mean() for label in range(1, LABELS.max() + 1)]
    assert max(means) < 0.96
    assert min(means) < 0.5
    assert np.ptp(means) > 0.3


def test_some_views_are_coarse() -> None:
    edges = np.abs(np.diff(intensity._coarsen(PIXELS, 3.0)[0])).max()
    assert edges < 0.7 * np.abs(np.diff(PIXELS[0])).max()
    assert np.allclose(intensity._coarsen(PIXELS, 3.0).mean(), PIXELS.mean(), rtol=0.05)


def test_only_our_own_recipe_changes_brightness() -> None:
    changing = {name for name in recipe_names() if load_recipe(name).vary_intensity}
    assert changing == {"shipped"}
