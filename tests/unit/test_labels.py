"""Label images: the small tools keep objects apart and lose none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cellseg_engine.core import labels as tools
from tests.unit import plain

label_images = arrays.arrays(
    np.int32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 6)
)


@settings(deadline=None)  # kernels may have to be compiled first
@given(label_images)
def test_boxes_areas_and_means_equal_the_definition(labels: np.ndarray) -> None:
    boxes, areas = tools.bounding_boxes(labels), tools.areas(labels)
    centres, edge = tools.centroids(labels), tools.touches_edge(labels)
    values = np.arange(labels.size, dtype=float).reshape(labels.shape)
    means = tools.mean_inside(labels, values)
    for label in range(1, labels.max() + 1):
        mask = labels == label
        assert areas[label] == mask.sum()
        if not mask.any():
            assert not boxes[label].any()
            continue
        ys, xs = np.nonzero(mask)
        assert boxes[label].tolist() == [ys.min(), ys.max() + 1, xs.min(), xs.max() + 1]
        np.testing.assert_allclose(centres[label], (ys.mean(), xs.mean()))
        assert means[label] == pytest.approx(values[mask].mean())
        inner = mask[1:-1, 1:-1].sum()
        assert edge[label] == (inner < mask.sum())


@settings(deadline=None)  # kernels may have to be compiled first
@given(label_images)
def test_keeping_objects_numbers_them_in_order(labels: np.ndarray) -> None:
    found = tools.keep_labels(labels, tools.areas(labels) > 0)
    present = np.unique(labels[labels > 0])
    assert np.unique(found[found > 0]).tolist() == list(range(1, len(present) + 1))
    for number, label in enumerate(present, start=1):
        np.testing.assert_array_equal(found == number, labels == label)


@settings(deadline=None)  # kernels may have to be compiled first
@given(label_images)
def test_filling_holes_equals_the_definition(labels: np.ndarray) -> None:
    np.testing.assert_array_equal(tools.fill_holes(labels), plain.fill_holes(labels))


@settings(deadline=None)  # kernels may have to be compiled first
@given(arrays.arrays(np.int32, (9, 9), elements=st.integers(0, 2)))
def test_filling_holes_of_large_crowded_objects(labels: np.ndarray) -> None:
    np.testing.assert_array_equal(tools.fill_holes(labels), plain.fill_holes(labels))


@settings(deadline=None)  # kernels may have to be compiled first
@given(label_images)
def test_filling_holes_never_changes_an_object_pixel(labels: np.ndarray) -> None:
    filled = tools.fill_holes(labels)
    np.testing.assert_array_equal(filled[labels > 0], labels[labels > 0])
    np.testing.assert_array_equal(tools.fill_holes(filled), filled)


def test_holes_are_filled_but_objects_inside_them_stay() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[1:8, 1:8] = 1
    labels[2:7, 2:7] = 0
    labels[4, 4] = 2
    filled = tools.fill_holes(labels)
    assert filled[4, 4] == 2
    assert (filled == 1).sum() == 48
    labels[1, 4] = 0
    assert (tools.fill_holes(labels) == 0).sum() == (labels == 0).sum()


def test_a_gap_between_two_objects_is_not_a_hole() -> None:
    labels = np.zeros((5, 7), np.int32)
    labels[1:4, 1:3] = 1
    labels[1:4, 4:6] = 2
    labels[1, 3] = 1
    labels[3, 3] = 2
    assert tools.fill_holes(labels)[2, 3] == 0


def test_median_diameter_is_that_of_a_disk_of_equal_area() -> None:
    y, x = np.mgrid[:64, :64]
    labels = ((y - 32) ** 2 + (x - 32) ** 2 <= 20**2).astype(np.int32)
    assert tools.median_diameter(labels) == pytest.approx(40, rel=0.01)
    assert tools.median_diameter(np.zeros((4, 4), np.int32)) == 0


def test_keeping_nothing_gives_background() -> None:
    labels = plain.blobs()
    assert not tools.keep_labels(labels, np.zeros(labels.max() + 1, bool)).any()
    assert tools.touches_edge(np.zeros((3, 3), np.int32)).tolist() == [False]
