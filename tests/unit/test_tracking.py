"""Tracks: one id for an object through time, also over gaps, whatever ids it had."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cellseg_engine.core.stitching import linked_ids
from cellseg_engine.core.tracking import Tracks, track_objects

IDS_PER_FRAME = 4
THRESHOLDS = st.sampled_from([0.01, 0.2, 1 / 3, 0.5, 0.75, 1.0])
GAPS = st.integers(0, 3)


@st.composite
def movies(draw: st.DrawFn) -> np.ndarray:
    """Frames of a few objects of any shape; some frames resemble the one or two before."""
    dims = draw(st.sampled_from([3, 4]))
    shape = draw(arrays.array_shapes(min_dims=dims, max_dims=dims, max_side=5))
    labels = draw(arrays.arrays(np.int32, shape, elements=st.integers(0, IDS_PER_FRAME)))
    for t in range(1, shape[0]):
        back = draw(st.integers(0, min(t, 2)))
        if back:
            changed = draw(arrays.arrays(np.bool_, shape[1:]))
            labels[t] = np.where(changed, labels[t], labels[t - back])
    return apart(labels)


def apart(labels: np.ndarray) -> np.ndarray:
    """Give every frame ids of its own."""
    offsets = np.arange(len(labels)) * (labels.max(initial=0) + 1)
    offsets = offsets.reshape(-1, *[1] * (labels.ndim - 1))
    return np.where(labels > 0, labels + offsets, 0).astype(np.int32)


def followed(labels: np.ndarray, threshold: float, max_gap: int = 0) -> np.ndarray:
    return np.asarray(track_objects(labels, threshold, max_gap).ids[labels])


def objects_of(frame: np.ndarray) -> list[np.ndarray]:
    """The masks of a frame's objects, in the order of their first pixels."""
    found, first = np.unique(frame, return_index=True)
    return [frame == n for n in found[np.argsort(first)] if n > 0]


def slow_tracks(labels: np.ndarray, threshold: float, max_gap: int) -> tuple[np.ndarray, list[int]]:
    """Keep a list of tracks, each with all its objects, and compare masks exactly."""
    tracks: list[list[tuple[int, int, np.ndarray]]] = []
    for t, frame in enumerate(labels):
        free = dict(enumerate(objects_of(frame)))
        for back in range(1, max_gap + 2):
            pairs = []
            for track in tracks:
                seen, place, mask = track[-1]
                for number, other in free.items() if seen == t - back else ():
                    iou = Fraction(int(np.sum(mask & other)), int(np.sum(mask | other)))
                    if float(iou) > threshold:
                        pairs.append((-iou, place, number, track))
            for _, _, number, track in sorted(pairs, key=lambda pair: pair[:3]):
                if number in free and track[-1][0] == t - back:
                    track.append((t, number, free.pop(number)))
        tracks += [[(t, number, mask)] for number, mask in free.items()]
    tracks.sort(key=lambda track: track[0][:2])
    ids = np.zeros(labels.shape, np.int32)
    parents = [0]
    for number, track in enumerate(tracks, start=1):
        for t, _, mask in track:
            ids[t][mask] = number
        start, _, mask = track[0]
        mothers = [
            n
            for n, other in enumerate(tracks, start=1)
            for t, _, there in other
            if t == start - 1 and 2 * np.sum(mask & there) > np.sum(mask)
        ]
        assert len(mothers) <= 1
        parents.append(sum(mothers))
    return ids, parents


@settings(deadline=None)
@given(movies(), THRESHOLDS, GAPS)
def test_the_slow_definition_gives_the_same(
    labels: np.ndarray, threshold: float, max_gap: int
) -> None:
    ids, parents = slow_tracks(labels, threshold, max_gap)
    tracks = track_objects(labels, threshold, max_gap)
    np.testing.assert_array_equal(tracks.ids[labels], ids)
    assert tracks.parents.tolist() == parents


@settings(deadline=None)
@given(movies(), THRESHOLDS, GAPS, st.randoms(use_true_random=False))
def test_names_of_objects_do_not_matter(
    labels: np.ndarray, threshold: float, max_gap: int, random: object
) -> None:
    names = np.arange(3 * (int(labels.max()) + 1))
    random.shuffle(names[1:])  # type: ignore[attr-defined]
    renamed = names[labels].astype(np.int32)
    one, other = (track_objects(movie, threshold, max_gap) for movie in (labels, renamed))
    np.testing.assert_array_equal(one.ids[labels], other.ids[renamed])
    np.testing.assert_array_equal(one.parents, other.parents)


@settings(deadline=None)
@given(movies(), THRESHOLDS, GAPS)
def test_a_track_has_one_object_in_a_frame_and_no_longer_gap(
    labels: np.ndarray, threshold: float, max_gap: int
) -> None:
    ids = followed(labels, threshold, max_gap)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids > 0, labels > 0)
    present, first = np.unique(ids[ids > 0], return_index=True)
    assert present.tolist() == list(range(1, len(present) + 1))
    assert (np.diff(first) > 0).all(), "numbered in the order of the first pixels"
    for track in present:
        parts = [np.unique(labels[t][ids[t] == track]) for t in range(len(labels))]
        assert max(map(len, parts)) == 1
        frames = np.flatnonzero([len(part) for part in parts])
        assert (np.diff(frames) <= max_gap + 1).all()


@settings(deadline=None)
@given(movies(), THRESHOLDS)
def test_without_gaps_frames_are_linked_as_planes_are(labels: np.ndarray, threshold: float) -> None:
    flat = labels.reshape(len(labels), -1, labels.shape[-1])
    np.testing.assert_array_equal(track_objects(labels, threshold).ids, linked_ids(flat, threshold))


def block(start: int, stop: int, length: int = 12) -> np.ndarray:
    line = np.zeros((2, length), np.int32)
    line[:, start:stop] = 1
    return line


def test_a_gap_is_closed_when_it_is_short_enough() -> None:
    there, gone = block(2, 8), block(0, 0)
    movie = apart(np.stack([there, gone, gone, block(3, 9), there]))
    assert [np.unique(frame).tolist() for frame in followed(movie, 0.5, 2)] == [
        [0, 1], [0], [0], [0, 1], [0, 1],
    ]  # fmt: skip
    assert followed(movie, 0.5, 1).max() == 2
    assert track_objects(movie, 0.5, 1).parents.tolist() == [0, 0, 0]


def test_the_frame_before_comes_first_even_where_an_older_object_fits_better() -> None:
    old, moved, now = block(0, 6), block(3, 9), block(1, 7)
    new = 2 * now
    movie = apart(np.stack([old, np.where(moved, 3, 0).astype(np.int32), new]))
    assert followed(movie, 0.4, 1).max() == 2, "the first does not reach the second"
    ids = followed(movie, 0.4, 1)
    assert ids[2].max() == ids[1].max() == 2, "of two partners the one of the frame before"


def test_a_division_begins_a_track_that_knows_where_it_comes_from() -> None:
    mother, daughters = block(0, 10), block(0, 6) + 2 * block(6, 10)
    tracks = track_objects(apart(np.stack([mother, daughters, daughters])), 0.3)
    assert tracks.parents.tolist() == [0, 0, 1]
    ids = tracks.ids[apart(np.stack([mother, daughters, daughters]))]
    assert ids[:, 0, 2].tolist() == [1, 1, 1], "the larger part goes on"
    assert ids[:, 0, 8].tolist() == [1, 2, 2]


def test_no_objects_and_no_frames() -> None:
    for shape in ((0, 4, 4), (3, 4, 4), (2, 1, 4, 4)):
        empty = track_objects(np.zeros(shape, np.int32), 0.5)
        assert isinstance(empty, Tracks)
        assert (empty.ids.tolist(), empty.parents.tolist()) == ([0], [0])


@pytest.mark.parametrize(
    ("shape", "threshold", "gap", "message"),
    [
        ((4, 4), 0.5, 0, r"has 2 dimensions \(4, 4\); a time series has three or four"),
        ((2, 4, 4), 0, 0, "`threshold` is 0; it must be above 0"),
        ((2, 4, 4), 1.5, 0, "`threshold` is 1.5; it must be above 0 and at most 1"),
        ((2, 4, 4), 0.5, -1, "`max_gap` is -1; it must be 0 or more"),
    ],
)
def test_what_cannot_be_followed(
    shape: tuple[int, ...], threshold: float, gap: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        track_objects(np.zeros(shape, np.int32), threshold, gap)


def test_an_id_in_two_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="has the id 1 in two"):
        track_objects(np.stack([block(0, 3)] * 2), 0.5)
