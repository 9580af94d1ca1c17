"""Overlapping objects become a label image by the rule of the Cellpose 2.0 paper."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellseg_engine.core.overlaps import Region, settle_overlaps

SHAPE = (40, 50)


def box(top: int, left: int, height: int, width: int) -> Region:
    return Region(top, left, np.ones((height, width), bool))


def test_a_shared_pixel_goes_to_the_nearest_centroid() -> None:
    settled = settle_overlaps([box(0, 0, 4, 10), box(0, 6, 4, 20)], SHAPE)
    # centroids at x = 4.5 and 15.5: all of 6 to 9 is nearer to the first
    assert (settled.labels[:4, :10] == 1).all() and (settled.labels[:4, 10:26] == 2).all()
    assert (settled.removed, settled.n_shared_px) == ((), 16)
    apart = settle_overlaps([box(0, 0, 4, 10), box(0, 6, 4, 10)], SHAPE)  # 4.5 and 10.5
    assert (apart.labels[:4, 7] == 1).all() and (apart.labels[:4, 8] == 2).all()


def test_a_pixel_between_two_centroids_stays_with_the_first() -> None:
    labels = settle_overlaps([box(0, 0, 1, 3), box(0, 2, 1, 3)], SHAPE).labels
    assert labels[0, :5].tolist() == [1, 1, 1, 2, 2]


def test_more_than_three_quarters_covered_is_removed_and_three_quarters_are_not() -> None:
    large = box(0, 0, 10, 10)
    assert settle_overlaps([large, box(1, 7, 1, 4)], SHAPE).removed == ()  # 3 of 4
    settled = settle_overlaps([box(1, 6, 1, 5), large], SHAPE)  # 4 of 5
    assert settled.removed == (0,)
    assert (settled.labels[:10, :10] == 2).all() and settled.n_shared_px == 0
    assert np.count_nonzero(settled.labels) == 100


def test_of_equal_regions_one_stays() -> None:
    settled = settle_overlaps([box(3, 3, 5, 5)] * 4, SHAPE)
    assert settled.removed == (1, 2, 3)
    assert np.count_nonzero(settled.labels == 1) == 25


def test_a_region_whose_cover_is_removed_stays() -> None:
    # The middle one is wholly under the other two, which then are free.
    settled = settle_overlaps([box(0, 0, 1, 5), box(0, 1, 1, 8), box(0, 5, 1, 5)], SHAPE)
    assert settled.removed == (1,)
    assert settled.labels[0, :11].tolist() == [1] * 5 + [3] * 5 + [0]


@given(st.data())
def test_regions_that_do_not_overlap_stay_as_they_are_and_all_pixels_are_kept(
    data: st.DataObject,
) -> None:
    regions = []
    for _ in range(data.draw(st.integers(1, 6))):
        height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
        top = data.draw(st.integers(0, SHAPE[0] - height))
        regions.append(box(top, data.draw(st.integers(0, SHAPE[1] - width)), height, width))
    settled = settle_overlaps(regions, SHAPE)
    kept = [n for n in range(len(regions)) if n not in settled.removed]
    union = np.zeros(SHAPE, int)
    for n in kept:
        union[regions[n].window] += 1
    np.testing.assert_array_equal(settled.labels > 0, union > 0)
    assert settled.n_shared_px == np.count_nonzero(union > 1)
    for n in kept:
        own = settled.labels == n + 1
        alone = np.zeros(SHAPE, bool)
        alone[regions[n].window] = union[regions[n].window] == 1
        assert own[alone].all() and own.any()
        outside = np.ones(SHAPE, bool)
        outside[regions[n].window] = False
        assert not own[outside].any()
