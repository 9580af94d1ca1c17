"""Outlines: rim pixels, and loops that fill to exactly the pixels they were traced from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import label as components

from cellseg_engine.core.outlines import (
    outline_mask,
    signed_area,
    split_at_pinches,
    trace_outlines,
)

LABELS = arrays(
    np.int32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)
)


def fill(loops: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Give the winding number of every pixel: each downward edge counts for pixels right of it."""
    winding = np.zeros(shape, int)
    for loop in loops:
        for (y0, x0), (y1, x1) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
            assert (y0 == y1) != (x0 == x1), "edges run along pixel edges and are not empty"
            if x0 == x1:
                winding[min(y0, y1) : max(y0, y1), x0:] += 1 if y1 < y0 else -1
    return winding


def corners_are_turns(loop: np.ndarray) -> bool:
    steps = np.roll(loop, -1, axis=0) - loop
    return bool(np.all((steps * np.roll(steps, 1, axis=0)).sum(axis=1) == 0))


@settings(deadline=None)
@given(LABELS, st.sampled_from([1, 2]))
def test_filled_loops_give_the_pixels(labels: np.ndarray, connectivity: int) -> None:
    outlines = trace_outlines(labels, connectivity=connectivity)
    assert list(outlines) == [label for label in np.unique(labels) if label]
    for label, loops in outlines.items():
        mask = labels == label
        assert np.array_equal(fill(loops, labels.shape), mask)
        assert all(loop.dtype == np.int32 and corners_are_turns(loop) for loop in loops)
        assert sum(signed_area(loop) for loop in loops) == mask.sum()
        assert signed_area(loops[0]) > 0


@settings(deadline=None)
@given(LABELS)
def test_outer_loops_join_8_connected_pixels_and_holes_are_4_connected(labels: np.ndarray) -> None:
    for label, loops in trace_outlines(labels).items():
        mask = np.pad(labels == label, 1)
        parts = components(mask, np.ones((3, 3)))[1]
        holes = components(~mask)[1] - 1
        areas = [signed_area(loop) for loop in loops]
        assert sum(area > 0 for area in areas) == parts
        assert sum(area < 0 for area in areas) == holes


@settings(deadline=None)
@given(LABELS, st.sampled_from([1, 2]))
def test_split_loops_are_simple_and_fill_the_same(labels: np.ndarray, connectivity: int) -> None:
    for label, loops in trace_outlines(labels, connectivity=connectivity).items():
        pieces = [piece for loop in loops for piece in split_at_pinches(loop)]
        assert all(len(np.unique(piece, axis=0)) == len(piece) for piece in pieces)
        assert np.array_equal(fill(pieces, labels.shape), labels == label)


@settings(deadline=None)
@given(LABELS)
def test_connectivity_1_gives_one_outer_ring_per_4_connected_part(labels: np.ndarray) -> None:
    for label, loops in trace_outlines(labels, connectivity=1).items():
        pieces = [piece for loop in loops for piece in split_at_pinches(loop)]
        parts = components(labels == label)[1]
        assert sum(signed_area(piece) > 0 for piece in pieces) == parts


def test_one_pixel_is_a_clockwise_square() -> None:
    labels = np.zeros((4, 5), np.uint16)
    labels[1, 2] = 7
    [loop] = trace_outlines(labels)[7]
    assert loop.tolist() == [[1, 3], [2, 3], [2, 2], [1, 2]]


def test_ring_has_an_outer_loop_then_a_hole_of_the_other_orientation() -> None:
    labels = np.ones((3, 3), int)
    labels[1, 1] = 0
    outer, hole = trace_outlines(labels)[1]
    assert (signed_area(outer), signed_area(hole)) == (9, -1)


def test_diagonal_pixels_make_one_loop_that_splits_in_two() -> None:
    diagonal = np.eye(2, dtype=int)
    [loop] = trace_outlines(diagonal)[1]
    assert len(loop) == 8
    assert [signed_area(piece) for piece in split_at_pinches(loop)] == [1, 1]
    assert len(trace_outlines(diagonal, connectivity=1)[1]) == 2


def test_no_objects_no_outlines() -> None:
    assert trace_outlines(np.zeros((3, 4), np.int32)) == {}
    assert trace_outlines(np.zeros((0, 4), np.int32)) == {}


@settings(deadline=None)
@given(LABELS)
def test_outline_mask_is_where_a_neighbour_differs(labels: np.ndarray) -> None:
    padded = np.pad(labels, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    expected = (centre != 0) & np.any([centre != other for other in around], axis=0)
    assert np.array_equal(outline_mask(labels), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, ">u2"])
def test_any_integer_type_gives_the_same(dtype: str) -> None:
    labels = np.array([[1, 1, 0], [2, 2, 0]])
    expected = trace_outlines(labels)
    got = trace_outlines(labels.astype(dtype))
    assert {k: [v.tolist() for v in loops] for k, loops in got.items()} == {
        k: [v.tolist() for v in loops] for k, loops in expected.items()
    }
