"""Tracks: objects of a time series followed from frame to frame by their overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array

from cellseg_engine.core.chains import chain_ids


@dataclass(frozen=True)
class Tracks:
    """Which object belongs to which track.

    Attributes
    ----------
    ids
        int32 of shape (largest id + 1,): the track of every id, 1 to n in the order of the first
        pixels (T, then Z, Y, X); 0 for ids that do not occur.
    parents
        int32 of shape (n + 1,): for every track the one that it comes out of, 0 for none. It is
        the track that has, one frame before, more than half of the pixels of this one's first
        object: after a division, or where the segmentation cut an object in two.
    """

    ids: np.ndarray
    parents: np.ndarray


def track_objects(labels: np.ndarray, threshold: float, max_gap: int = 0) -> Tracks:
    """Follow objects through time.

    An object continues the track whose last object it overlaps with, best IoU (intersection
    over union) first, each once. First come the tracks that were there one frame before, then,
    for objects that continue none, those that were last seen two frames before, and so on.
    `cellseg_engine.core.chains.chain_ids` has the rule in full. When an object divides, the
    part with the larger IoU continues the track and the other begins one.

    Parameters
    ----------
    labels
        int32 of shape (T, Y, X) or (T, Z, Y, X), 0 is background, no id in two frames.
    threshold
        Above 0, at most 1: the IoU that must be exceeded. Nothing exceeds 1.
    max_gap
        Frames that an object may be missing in and keep its track, at least 0.

    Raises
    ------
    ValueError
        Another number of dimensions, a number out of range, or an id in two frames.
    """
    if labels.ndim not in (3, 4):
        raise ValueError(
            f"`labels` has {labels.ndim} dimensions {labels.shape}; a time series has three or "
            "four, (T, Y, X) or (T, Z, Y, X)."
        )
    if max_gap < 0:
        raise ValueError(f"`max_gap` is {max_gap}; it must be 0 or more.")
    frames = labels.reshape(len(labels), math.prod(labels.shape[1:-1]), labels.shape[-1])
    ids = chain_ids(frames, threshold, max_gap)
    return Tracks(ids, _find_parents(frames, ids))


def _find_parents(frames: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Give the parent of every track, see `Tracks`."""
    n_tracks = int(ids.max(initial=0))
    parents = np.zeros(n_tracks + 1, np.int32)
    is_known = np.zeros(n_tracks + 1, bool)
    for number, frame in enumerate(frames):
        areas = np.bincount(ids[frame].ravel(), minlength=n_tracks + 1)
        present = np.flatnonzero(areas[1:]) + 1
        begins = np.zeros(n_tracks + 1, bool)
        begins[present] = ~is_known[present]
        is_known[present] = True
        if number == 0:
            continue
        children = ids[frame]
        inside = begins[children] & (frames[number - 1] > 0)
        pairs = (children[inside], ids[frames[number - 1][inside]])
        ones = np.ones(pairs[0].size, np.int64)
        shared = coo_array((ones, pairs), (n_tracks + 1, n_tracks + 1)).tocsr().tocoo()
        is_most = 2 * shared.data > areas[shared.row]
        parents[shared.row[is_most]] = shared.col[is_most]
    return parents
