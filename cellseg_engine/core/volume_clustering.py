"""Clustering in volumes: voxels that come to rest at the same place are one object.

The same as `cellseg_engine.core.clustering`, with one more axis: peaks of a histogram in windows
of 5 x 5 x 5 bins with more than 10 paths, grown 5 times over bins with more than 2.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cellseg_engine.core.clustering import (
    GROWTH_STEPS,
    MIN_GROWTH_COUNT,
    MIN_SEED_COUNT,
    PEAK_RADIUS,
    number_seeds,
)

_MARGIN = PEAK_RADIUS + GROWTH_STEPS


def cluster_voxels(
    starts: np.ndarray,
    bins: np.ndarray,
    shape: tuple[int, int, int],
    n_bins: tuple[int, int, int],
    max_size_fraction: float = 0.4,
) -> np.ndarray:
    """Give the label volume of voxels grouped by where their paths end.

    Parameters
    ----------
    starts
        int of shape (3, N): z, y and x of the voxels, each voxel at most once.
    bins
        int of shape (3, N): the bin in which each path comes to rest. Bins are cubes, so where
        voxels are deeper than wide there are more bins than planes.
    shape
        (Z, Y, X) of the volume.
    n_bins
        Of bins, along Z, Y and X.
    max_size_fraction
        Objects that cover more than this share of the volume are dropped.

    Returns
    -------
    int32 of shape (Z, Y, X), ids 1, 2, ... without gaps. Where grown seeds meet, the stronger
    seed (more paths) keeps the bin; of equally strong ones the later (Z, then Y, then X).
    """
    starts = np.require(starts, np.int32, ["C", "W"])
    bins = np.require(bins, np.int32, ["C", "W"])
    depth, height, width = (n + 2 * _MARGIN for n in n_bins)
    histogram = np.zeros((depth, height, width), np.int32)
    places, candidates = _count_paths(bins, histogram)
    seeds = _find_peaks(histogram, np.sort(candidates))
    seeds = seeds[np.argsort(histogram.ravel()[seeds], kind="stable")]
    owners = _grow_seeds(histogram, seeds).ravel()
    max_size = shape[0] * shape[1] * shape[2] * max_size_fraction
    labels = np.zeros(shape, np.int32)
    ids = number_seeds(places, owners, seeds.size, max_size)
    _write_labels(starts, places, owners, ids, labels)
    return labels


@njit(cache=True, nogil=True)
def _count_paths(bins, histogram):  # type: ignore[no-untyped-def]
    """Fill the histogram; give each path's bin, and the bins that more than 10 paths reach."""
    height, width = histogram.shape[1:]
    flat = histogram.ravel()
    places = np.empty(bins.shape[1], np.int64)
    candidates = np.empty(bins.shape[1] // (MIN_SEED_COUNT + 1), np.int64)
    n = 0
    for k in range(places.size):
        place = np.int64(bins[0, k]) + _MARGIN
        place = place * height + bins[1, k] + _MARGIN
        place = place * width + bins[2, k] + _MARGIN
        places[k] = place
        flat[place] += 1
        if flat[place] == MIN_SEED_COUNT + 1:
            candidates[n] = place
            n += 1
    return places, candidates[:n]


@njit(cache=True, nogil=True)
def _find_peaks(histogram, candidates):  # type: ignore[no-untyped-def]
    """Give the candidates that no bin of the 5 x 5 x 5 around exceeds, in their order."""
    peaks = np.empty_like(candidates)
    n = 0
    for place in candidates:
        z, rest = divmod(place, histogram.shape[1] * histogram.shape[2])
        y, x = divmod(rest, histogram.shape[2])
        highest = histogram[z, y, x]
        is_peak = True
        for dz in range(-PEAK_RADIUS, PEAK_RADIUS + 1):
            for dy in range(-PEAK_RADIUS, PEAK_RADIUS + 1):
                for dx in range(-PEAK_RADIUS, PEAK_RADIUS + 1):
                    is_peak &= histogram[z + dz, y + dy, x + dx] <= highest
        if is_peak:
            peaks[n] = place
            n += 1
    return peaks[:n]


@njit(cache=True, nogil=True)
def _grow_seeds(histogram, seeds):  # type: ignore[no-untyped-def]
    """Give for each bin the number (from 1) of the last seed that grew over it, 0 for none."""
    owners = np.zeros(histogram.shape, np.int32)
    side = 2 * GROWTH_STEPS + 3
    middle = GROWTH_STEPS + 1
    grown = np.empty((side, side, side), np.bool_)
    wider = np.empty((side, side, side), np.bool_)
    for k in range(seeds.size):
        z0, rest = divmod(seeds[k], histogram.shape[1] * histogram.shape[2])
        y0, x0 = divmod(rest, histogram.shape[2])
        z0, y0, x0 = z0 - middle, y0 - middle, x0 - middle
        grown[:] = False
        grown[middle, middle, middle] = True
        for step in range(1, GROWTH_STEPS + 1):
            wider[:] = False
            for z in range(middle - step, middle + step + 1):
                for y in range(middle - step, middle + step + 1):
                    for x in range(middle - step, middle + step + 1):
                        if histogram[z0 + z, y0 + y, x0 + x] > MIN_GROWTH_COUNT:
                            wider[z, y, x] = _has_any_around(grown, z, y, x)
            grown[:] = wider
        for z in range(1, side - 1):
            for y in range(1, side - 1):
                for x in range(1, side - 1):
                    if grown[z, y, x]:
                        owners[z0 + z, y0 + y, x0 + x] = k + 1
    return owners


@njit(cache=True, nogil=True)
def _has_any_around(grown, z, y, x):  # type: ignore[no-untyped-def]
    """Say whether one of the 27 bins around is set."""
    for dz in range(-1, 2):
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if grown[z + dz, y + dy, x + dx]:
                    return True
    return False


@njit(cache=True, nogil=True)
def _write_labels(starts, places, owners, ids, labels):  # type: ignore[no-untyped-def]
    """Give the voxels of each seed its id."""
    for k in range(places.size):
        labels[starts[0, k], starts[1, k], starts[2, k]] = ids[owners[places[k]]]
