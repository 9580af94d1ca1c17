"""Subsets of annotated images by their number of objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.core.labels import median_diameter
from cellseg_engine.train.dataset import TrainingImage
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.flow_cache import FlowCache
from cellseg_engine.train.subsets import Piece, cut_image, draw_subset


def grid_image(name: str, rows: int = 4, columns: int = 6) -> TrainingImage:
    """Give an image with a square of 6 px in each field of 10 px."""
    labels = np.zeros((10 * rows, 10 * columns), np.int32)
    for n in range(rows * columns):
        y, x = 10 * (n // columns) + 2, 10 * (n % columns) + 2
        labels[y : y + 6, x : x + 6] = n + 1
    pixels = np.random.default_rng(rows).random((2, *labels.shape)).astype(np.float32)
    flows = np.zeros((2, *labels.shape), np.float32)
    n_objects, diameter = rows * columns, median_diameter(labels)
    return TrainingImage(name, "k", name, pixels, labels, flows, diameter, n_objects, name)


IMAGES = [grid_image("a"), grid_image("b", 3, 3), grid_image("c", 5, 5)]
N_OBJECTS = sum(image.n_objects for image in IMAGES)


def covers(large: Piece, small: Piece) -> bool:
    top, bottom, left, right = large.window
    small_top, small_bottom, small_left, small_right = small.window
    return (
        top <= small_top and bottom >= small_bottom and left <= small_left and right >= small_right
    )


@settings(deadline=None)  # kernels may have to be compiled first
@given(
    st.integers(1, N_OBJECTS),
    st.integers(1, N_OBJECTS),
    st.integers(0, 99),
    st.integers(1, 9),
)
def test_subsets_reach_their_number_and_lie_in_one_another(
    first: int, second: int, seed: int, subset: int
) -> None:
    small, large = (
        draw_subset(IMAGES, n, min_objects=5, seed=seed, subset=subset)
        for n in sorted((first, second))
    )
    for n, pieces in zip(sorted((first, second)), (small, large), strict=True):
        counts = [piece.n_objects for piece in pieces]
        assert sum(counts) >= n
        assert sum(counts[:-1]) < n
        assert all(count >= 5 for count in counts)
        # All but the last are whole images, each of them once.
        for piece in pieces[:-1]:
            assert piece.n_objects == IMAGES[piece.index].n_objects
        assert len({piece.index for piece in pieces}) == len(pieces)
        # A square that is one pixel larger on each side reaches a row and a column of fields more.
        assert sum(counts) < max(n, 5) + 12
    by_index = {piece.index: piece for piece in large}
    assert all(covers(by_index[piece.index], piece) for piece in small)


def test_other_subsets_and_seeds_are_others() -> None:
    drawn = {
        tuple(draw_subset(IMAGES, 7, min_objects=5, seed=seed, subset=subset))
        for seed in range(2)
        for subset in range(1, 5)
    }
    assert len(drawn) > 4


def test_objects_of_several_parts_stay_one_if_they_were_read_so(tmp_path: Path) -> None:
    image = grid_image("a")
    parts = np.array([0, *(1 + n // 2 for n in range(24))], np.int32)  # two squares each
    image = replace(image, labels=parts[image.labels], n_objects=12)
    cut = Piece(0, (0, 39, 0, 60), 12)
    counts = [
        cut_image(image, cut, FlowCache(tmp_path), "v3", disjoint).n_objects
        for disjoint in ("keep", "split")
    ]
    assert counts == [12, 24]
    for subset in range(1, 9):
        (kept,) = draw_subset([image], 6, min_objects=5, seed=0, subset=subset, disjoint="keep")
        top, bottom, left, right = kept.window
        there = np.unique(image.labels[top:bottom, left:right])
        assert kept.n_objects == np.count_nonzero(there) >= 6


def test_more_than_there_are() -> None:
    with pytest.raises(TrainingDataError, match=f"more than the {N_OBJECTS} of the 3 images"):
        draw_subset(IMAGES, N_OBJECTS + 1, min_objects=5, seed=0, subset=1)


def test_a_piece_is_an_image_of_its_own(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path)
    image = IMAGES[0]
    # The window cuts the objects of its first row and leaves those of the second whole.
    piece = Piece(0, (5, 20, 0, 30), 6)
    cut = cut_image(image, piece, cache, "v3")
    np.testing.assert_array_equal(cut.pixels, image.pixels[:, 5:20, :30])
    assert cut.n_objects == 6
    np.testing.assert_array_equal(cut.labels > 0, image.labels[5:20, :30] > 0)
    np.testing.assert_array_equal(cut.flows, labels_to_flows(cut.labels, "v3"))
    assert cut.diameter_px == pytest.approx(image.diameter_px)
    assert cut.sha256 != image.sha256
    assert cut.name == "a y 5 to 20, x 0 to 30"
    whole = cut_image(image, Piece(0, (0, 40, 0, 60), 24), cache, "v2")
    assert whole.sha256 == image.sha256
    np.testing.assert_array_equal(whole.flows, labels_to_flows(image.labels, "v2"))
