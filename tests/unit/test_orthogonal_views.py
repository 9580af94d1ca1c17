"""Three views of a volume in one picture."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg_engine.io.overlays import orthogonal_views, render_overlay

GAP = 6


def test_views_are_the_slices_with_most_of_the_objects() -> None:
    rng = np.random.default_rng(0)
    volume = rng.random((4, 9, 11)).astype(np.float32)
    labels = np.zeros(volume.shape, np.int32)
    labels[1:3, 1:4, 5:9] = 1
    labels[2, 2, 7] = 2
    labels[2, 8, 7] = 3
    picture, ids = orthogonal_views(volume, labels, 2.0)
    assert picture.shape == ids.shape == (9 + GAP + 8, 11 + GAP + 8)
    planes = np.repeat(np.arange(4), 2)
    for shown, whole in ((picture, volume), (ids, labels)):
        np.testing.assert_array_equal(shown[:9, :11], whole[2])
        np.testing.assert_array_equal(shown[9 + GAP :, :11], whole[planes, 3])
        np.testing.assert_array_equal(shown[:9, 11 + GAP :], whole[planes, :, 7].T)
    assert np.isnan(picture[9 : 9 + GAP]).all()
    assert not ids[9 : 9 + GAP].any()
    assert not ids[9:, 11:].any()


def test_without_objects_they_go_through_the_middle() -> None:
    volume = np.arange(5 * 7 * 9, dtype=np.float32).reshape(5, 7, 9)
    picture, _ = orthogonal_views(volume, np.zeros(volume.shape, np.int32), 1.0)
    np.testing.assert_array_equal(picture[:7, :9], volume[2])


@pytest.mark.parametrize("samples", [(), (3,)])
def test_the_picture_can_be_drawn(samples: tuple[int, ...]) -> None:
    labels = np.zeros((4, 20, 20), np.int32)
    labels[1:3, 5:15, 5:15] = 1
    volume = np.random.default_rng(0).random((4, 20, 20, *samples)).astype(np.float32)
    drawn = render_overlay(*orthogonal_views(volume, labels, 3.0))
    assert drawn.shape == (20 + GAP + 12, 20 + GAP + 12, 3)
    assert not drawn[20 : 20 + GAP].any()
    assert (drawn[5, 5:15] == drawn[5, 5]).all()
