"""The part of a plane that the size estimate looks at."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellseg_engine.pipeline.size import densest_window


def test_it_holds_the_objects() -> None:
    mask = np.zeros((200, 300), bool)
    mask[120:150, 40:90] = True
    window = densest_window(mask, (200, 300), 80)
    assert mask[window].sum() == mask.sum()
    assert mask[window].shape == (80, 80)


def test_the_mask_may_be_of_another_scale() -> None:
    mask = np.zeros((100, 150), bool)
    mask[60:75, 20:45] = True
    rows, columns = densest_window(mask, (400, 600), 160)
    assert rows.start <= 240 and rows.stop >= 300
    assert columns.start <= 80 and columns.stop >= 180


def test_without_objects_it_is_the_middle() -> None:
    assert densest_window(np.zeros((50, 50), bool), (100, 100), 20) == (
        slice(40, 60),
        slice(40, 60),
    )


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    factor=st.floats(0.3, 4),
    side=st.integers(0, 80),
    seed=st.integers(0, 9),
)
def test_it_lies_in_the_plane(height: int, width: int, factor: float, side: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.2
    shape = (max(1, round(height * factor)), max(1, round(width * factor)))
    for window, length in zip(densest_window(mask, shape, side), shape, strict=True):
        assert 0 <= window.start < window.stop <= length
        assert window.stop - window.start == min(max(side, 1), length)
