"""Clustering: pixels that come to rest at the same place are one object.

The end points are counted in a histogram of pixels; its peaks are the seeds, grown over
neighbouring bins where paths still end (Stringer et al. 2021, "Mask recovery from vector
flows"; the 5 x 5 peak window, more than 10 paths at a seed, 5 growth steps over bins with more
than 2 paths are Cellpose's constants).

Few bins are not empty: candidates for seeds are noted while counting, and only what lies around
them is looked at.
"""

from __future__ import annotations

import numpy as np
from numba import njit

MIN_SEED_COUNT = 10
MIN_GROWTH_COUNT = 2
PEAK_RADIUS = 2
GROWTH_STEPS = 5
_MARGIN = PEAK_RADIUS + GROWTH_STEPS


def cluster_points(
    starts: np.ndarray, ends: np.ndarray, shape: tuple[int, int], max_size_fraction: float = 0.4
) -> np.ndarray:
    """Give the label image of pixels grouped by where their paths end.

    Parameters
    ----------
    starts
        int of shape (2, N), y and x of the pixels, each pixel at most once.
    ends
        float32 of shape (2, N), where they come to rest, inside the image.
    shape
        (Y, X) of the image.
    max_size_fraction
        Objects that cover more than this share of the image are dropped.

    Returns
    -------
    int32 of shape (Y, X), ids 1, 2, ... without gaps. Where grown seeds meet, the stronger
    seed (more end points) keeps the bin; of equally strong ones the later, row by row.
    """
    starts = np.require(starts, np.int32, ["C", "W"])
    ends = np.require(ends, np.float32, ["C", "W"])
    histogram = np.zeros((shape[0] + 2 * _MARGIN, shape[1] + 2 * _MARGIN), np.int32)
    bins, candidates = _count_ends(ends, histogram)
    seeds = _find_peaks(histogram, np.sort(candidates))
    seeds = seeds[np.argsort(histogram.ravel()[seeds], kind="stable")]
    owners = _grow_seeds(histogram, seeds).ravel()
    max_size = shape[0] * shape[1] * max_size_fraction
    labels = np.zeros(shape, np.int32)
    _write_labels(starts, bins, owners, number_seeds(bins, owners, seeds.size, max_size), labels)
    return labels


@njit(cache=True, nogil=True)
def _count_ends(ends, histogram):  # type: ignore[no-untyped-def]
    """Fill the histogram; give each path's bin, and the bins that more than 10 paths reach."""
    width = histogram.shape[1]
    flat = histogram.ravel()
    bins = np.empty(ends.shape[1], np.uint32)
    candidates = np.empty(ends.shape[1] // (MIN_SEED_COUNT + 1), np.int64)
    n = 0
    for k in range(bins.size):
        place = (np.int64(ends[0, k]) + _MARGIN) * width + np.int64(ends[1, k]) + _MARGIN
        bins[k] = place
        flat[place] += 1
        if flat[place] == MIN_SEED_COUNT + 1:
            candidates[n] = place
            n += 1
    return bins, candidates[:n]


@njit(cache=True, nogil=True)
def _find_peaks(histogram, candidates):  # type: ignore[no-untyped-def]
    """Give the candidates that no bin of the 5 x 5 around exceeds, in their order."""
    peaks = np.empty_like(candidates)
    n = 0
    for place in candidates:
        y, x = divmod(place, histogram.shape[1])
        window = histogram[
            y - PEAK_RADIUS : y + PEAK_RADIUS + 1, x - PEAK_RADIUS : x + PEAK_RADIUS + 1
        ]
        if window.max() <= histogram[y, x]:
            peaks[n] = place
            n += 1
    return peaks[:n]


@njit(cache=True, nogil=True)
def _grow_seeds(histogram, seeds):  # type: ignore[no-untyped-def]
    """Give for each bin the number (from 1) of the last seed that grew over it, 0 for none."""
    owners = np.zeros(histogram.shape, np.int32)
    side = 2 * GROWTH_STEPS + 3
    middle = GROWTH_STEPS + 1
    grown = np.empty((side, side), np.bool_)
    wider = np.empty((side, side), np.bool_)
    for k in range(seeds.size):
        y0, x0 = divmod(seeds[k], histogram.shape[1])
        y0, x0 = y0 - middle, x0 - middle
        grown[:] = False
        grown[middle, middle] = True
        for step in range(1, GROWTH_STEPS + 1):
            wider[:] = False
            for y in range(middle - step, middle + step + 1):
                for x in range(middle - step, middle + step + 1):
                    if histogram[y0 + y, x0 + x] > MIN_GROWTH_COUNT:
                        wider[y, x] = grown[y - 1 : y + 2, x - 1 : x + 2].any()
            grown[:] = wider
        for y in range(1, side - 1):
            for x in range(1, side - 1):
                if grown[y, x]:
                    owners[y0 + y, x0 + x] = k + 1
    return owners


@njit(cache=True, nogil=True)
def number_seeds(bins, owners, n_seeds, max_size):  # type: ignore[no-untyped-def]
    """Give each seed an id, without gaps; seeds of no pixel or of more than allowed get 0."""
    sizes = np.zeros(n_seeds + 1, np.int64)
    for place in bins:
        sizes[owners[place]] += 1
    ids = np.zeros(n_seeds + 1, np.int32)
    n = 0
    for seed in range(1, n_seeds + 1):
        if 0 < sizes[seed] <= max_size:
            n += 1
            ids[seed] = n
    return ids


@njit(cache=True, nogil=True)
def _write_labels(starts, bins, owners, ids, labels):  # type: ignore[no-untyped-def]
    """Give the pixels of each seed its id."""
    for k in range(bins.size):
        labels[starts[0, k], starts[1, k]] = ids[owners[bins[k]]]
