"""Linked planes: one id for an object through the stack, never two objects in one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cellseg_engine.core.stitching import linked_ids, stitch_planes
from tests.unit import plain

IDS_PER_PLANE = 4
THRESHOLDS = st.sampled_from([0.01, 0.2, 0.25, 1 / 3, 0.5, 0.75, 1.0])


@st.composite
def stacks(draw: st.DrawFn) -> np.ndarray:
    """Planes of a few objects of any shape, similar enough to overlap; no id in two planes."""
    shape = draw(arrays.array_shapes(min_dims=3, max_dims=3, max_side=6))
    ids = st.integers(0, IDS_PER_PLANE)
    labels = draw(arrays.arrays(np.int32, shape, elements=ids))
    for z in range(1, shape[0]):
        if draw(st.booleans()):
            changed = draw(arrays.arrays(np.bool_, shape[1:]))
            labels[z] = np.where(changed, labels[z], labels[z - 1])
    return apart(labels)


def apart(labels: np.ndarray) -> np.ndarray:
    """Give every plane ids of its own, larger than those of the planes before."""
    offsets = np.arange(len(labels))[:, None, None] * (labels.max(initial=0) + 1)
    return np.where(labels > 0, labels + offsets, 0).astype(np.int32)


def slow_stitch(labels: np.ndarray, threshold: float) -> np.ndarray:
    """Compare every object of a plane with every one of the next, exactly."""
    stitched = np.zeros(labels.shape, np.int32)
    count = 0
    above: dict[int, np.ndarray] = {}
    for plane, target in zip(labels, stitched, strict=True):
        found, first = np.unique(plane, return_index=True)
        masks = [plane == n for n in found[np.argsort(first)] if n > 0]
        pairs = []
        for number, upper in above.items():
            for place, lower in enumerate(masks):
                shared, union = np.sum(upper & lower), np.sum(upper | lower)
                if shared / union > threshold:
                    pairs.append((-Fraction(int(shared), int(union)), number, place))
        # In one plane, linked ids may come in another order than the first pixels.
        order = {number: np.flatnonzero(mask)[0] for number, mask in above.items()}
        owners: dict[int, int] = {}
        for _, number, place in sorted(pairs, key=lambda pair: (pair[0], order[pair[1]], pair[2])):
            if number not in owners.values() and place not in owners:
                owners[place] = number
        above = {}
        for place, mask in enumerate(masks):
            if place not in owners:
                count += 1
            above[owners.get(place, count)] = mask
            target[mask] = owners.get(place, count)
    return stitched


def disk(y: float, x: float, radius: float, size: int = 40) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


@settings(deadline=None)
@given(stacks(), THRESHOLDS)
def test_the_slow_definition_gives_the_same(labels: np.ndarray, threshold: float) -> None:
    np.testing.assert_array_equal(stitch_planes(labels, threshold), slow_stitch(labels, threshold))


@settings(deadline=None)
@given(stacks(), THRESHOLDS, st.randoms(use_true_random=False))
def test_names_of_objects_do_not_matter(
    labels: np.ndarray, threshold: float, random: object
) -> None:
    ids = np.arange(3 * (int(labels.max()) + 1))
    random.shuffle(ids[1:])  # type: ignore[attr-defined]
    np.testing.assert_array_equal(
        stitch_planes(ids[labels].astype(np.int32), threshold), stitch_planes(labels, threshold)
    )


@settings(deadline=None)
@given(stacks(), THRESHOLDS)
def test_an_object_has_one_part_in_each_of_its_planes_and_no_gap(
    labels: np.ndarray, threshold: float
) -> None:
    stitched = stitch_planes(labels, threshold)
    assert stitched.dtype == np.int32
    np.testing.assert_array_equal(stitched > 0, labels > 0)
    present = np.unique(stitched[stitched > 0])
    assert present.tolist() == list(range(1, len(present) + 1))
    for label in present:
        parts = [np.unique(labels[z][stitched[z] == label]) for z in range(len(labels))]
        assert max(map(len, parts)) == 1
        planes = np.flatnonzero([len(part) for part in parts])
        assert planes.tolist() == list(range(planes[0], planes[-1] + 1))
    first = np.unique(stitched[stitched > 0], return_index=True)[1]
    assert (np.diff(first) > 0).all(), "numbered in the order of the first voxels"


@settings(deadline=None)
@given(stacks())
def test_nothing_overlaps_by_more_than_all(labels: np.ndarray) -> None:
    assert stitch_planes(labels, 1.0).max() == len(np.unique(labels[labels > 0]))


def test_equal_planes_give_straight_columns() -> None:
    plane = plain.blobs(seed=3)
    stitched = stitch_planes(apart(np.stack([plane] * 6)), 0.99)
    assert stitched.max() == plane.max()
    np.testing.assert_array_equal(stitched, np.broadcast_to(stitched[0], stitched.shape))


def test_a_cylinder_stays_one_object_also_when_it_leans() -> None:
    straight = apart(np.stack([disk(20, 20, 8)] * 7).astype(np.int32))
    assert stitch_planes(straight, 0.9).max() == 1
    leaning = apart(np.stack([disk(20, 10 + 2 * z, 8) for z in range(9)]).astype(np.int32))
    assert stitch_planes(leaning, 0.5).max() == 1
    assert stitch_planes(leaning, 0.9).max() == 9


def test_objects_that_touch_in_a_plane_do_not_merge() -> None:
    labels = np.zeros((5, 40, 40), np.int32)
    for z, radius in enumerate((5, 7, 9, 7, 5)):
        labels[z][disk(20, 11, radius)] = 1
        labels[z][disk(20, 30, radius)] = 2
    labels[2][20, 20] = 1
    assert (np.diff(labels[2, 20]) == 1).any(), "they touch"
    assert stitch_planes(apart(labels), 0.3).max() == 2
    fused = labels.copy()
    fused[2] = labels[2] > 0
    stitched = stitch_planes(apart(fused), 0.2)
    assert stitched[0, 20, 11] != stitched[0, 20, 30]
    assert stitched[0, 20, 11] == stitched[2, 20, 11] == stitched[4, 20, 11], "one goes through"
    assert stitched[4, 20, 30] not in stitched[:3], "the other one ends and begins anew"


def test_of_equal_pairs_the_first_in_the_plane_is_taken() -> None:
    whole, halves = np.zeros((4, 6), int), np.zeros((4, 6), int)
    whole[1:3] = 1
    halves[1:3, :3], halves[1:3, 3:] = 2, 1
    for stack in ((whole, halves), (halves, whole)):
        stitched = stitch_planes(apart(np.stack(stack)), 0.4)
        assert stitched[0, 1, 0] == stitched[1, 1, 0] == 1
        assert stitched.max() == 2
    assert stitch_planes(apart(np.stack([whole, halves])), 0.5).max() == 3, "0.5 is not above 0.5"


def test_a_slightly_better_pair_is_taken_before_one_that_comes_first() -> None:
    upper, lower = np.ones((1, 99), int), np.array([[1] * 49 + [2] * 50])
    np.testing.assert_array_equal(
        stitch_planes(apart(np.stack([upper, lower])), 0.4)[1], [[2] * 49 + [1] * 50]
    )


def test_an_object_may_have_its_second_best() -> None:
    upper = np.array([[1] * 10 + [2] * 10])
    lower = np.array([[1] * 3 + [2] * 17])
    assert stitch_planes(apart(np.stack([upper, lower])), 0.2).max() == 2
    np.testing.assert_array_equal(
        stitch_planes(apart(np.stack([upper, lower])), 0.2), np.stack([upper, lower])
    )


def test_a_missing_plane_ends_an_object() -> None:
    labels = apart(np.stack([disk(20, 20, 8)] * 5).astype(np.int32))
    labels[2] = 0
    assert stitch_planes(labels, 0.1).max() == 2


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 4, 5), (0, 4, 5), (2, 1, 1)])
def test_no_objects_stay_no_objects(shape: tuple[int, ...]) -> None:
    stitched = stitch_planes(np.zeros(shape, np.int32), 0.5)
    assert stitched.shape == shape
    assert not stitched.any()


def test_the_ids_of_objects_are_given_by_the_old_ones() -> None:
    labels = np.zeros((2, 3, 3), np.int32)
    labels[0, :2], labels[1, :2], labels[1, 2] = 7, 4, 2
    assert linked_ids(labels, 0.5).tolist() == [0, 0, 2, 0, 1, 0, 0, 1]


def test_what_cannot_be_linked_is_said() -> None:
    stack = np.zeros((2, 3, 3), np.int32)
    with pytest.raises(ValueError, match=r"2 dimensions \(3, 3\); a stack has three"):
        stitch_planes(stack[0], 0.5)
    for threshold in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="must be above 0 and at most 1"):
            stitch_planes(stack, threshold)
    stack[:, 1] = 5
    with pytest.raises(ValueError, match="has the id 5 in two planes"):
        stitch_planes(stack, 0.5)
