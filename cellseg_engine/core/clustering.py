"""Clustering: pixels that come to rest at the same place are one object.

The end points are counted in a histogram of pixels; its peaks are the seeds, grown over
neighbouring bins where paths still end (Stringer et al. 2021, "Mask recovery from vector
flows"; the 5 x 5 peak window, more than 10 paths at a seed, 5 growth steps over bins with more
than 2 paths are Cellpose's constants).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cellseg_engine.core.labels import areas, keep_labels

MIN_SEED_COUNT = 10
MIN_GROWTH_COUNT = 2
PEAK_RADIUS = 2
GROWTH_STEPS = 5


def cluster_points(
    starts: np.ndarray, ends: np.ndarray, shape: tuple[int, int], max_size_fraction: float = 0.4
) -> np.ndarray:
    """Give the label image of pixels grouped by where their paths end.

    Parameters
    ----------
    starts
        int of shape (2, N), y and x of the pixels.
    ends
        float32 of shape (2, N), where they come to rest, inside the image.
    shape
        (Y, X) of the image.
    max_size_fraction
        Objects that cover more than this share of the image are dropped.

    Returns
    -------
    int32 of shape (Y, X), ids 1, 2, ... without gaps. Where grown seeds meet, the stronger
    seed (more end points) keeps the bin.
    """
    rows, columns = ends.astype(np.int64)
    histogram = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
    margin = PEAK_RADIUS + GROWTH_STEPS
    padded = np.zeros((shape[0] + 2 * margin, shape[1] + 2 * margin), np.int32)
    padded[margin:-margin, margin:-margin] = histogram.reshape(shape)
    seeds = _find_seeds(padded, margin)
    seeds = seeds[np.argsort(padded[seeds[:, 0], seeds[:, 1]], kind="stable")]
    owners = _grow_seeds(padded, seeds)[margin:-margin, margin:-margin]
    labels = np.zeros(shape, np.int32)
    labels[starts[0], starts[1]] = owners[rows, columns]
    counts = areas(labels)
    return keep_labels(labels, (counts > 0) & (counts <= labels.size * max_size_fraction))


@njit(cache=True)
def _find_seeds(histogram, margin):  # type: ignore[no-untyped-def]
    """Give (row, column) of bins over 10 that no bin of the 5 x 5 around exceeds, row by row."""
    seeds = []
    for y in range(margin, histogram.shape[0] - margin):
        for x in range(margin, histogram.shape[1] - margin):
            count = histogram[y, x]
            if count > MIN_SEED_COUNT:
                window = histogram[
                    y - PEAK_RADIUS : y + PEAK_RADIUS + 1, x - PEAK_RADIUS : x + PEAK_RADIUS + 1
                ]
                if window.max() <= count:
                    seeds.append((y, x))
    found = np.empty((len(seeds), 2), np.int64)
    for k in range(len(seeds)):
        found[k, 0], found[k, 1] = seeds[k]
    return found


@njit(cache=True)
def _grow_seeds(histogram, seeds):  # type: ignore[no-untyped-def]
    """Give for each bin the number (from 1) of the last seed that grew over it, 0 for none."""
    owners = np.zeros(histogram.shape, np.int32)
    side = 2 * GROWTH_STEPS + 3
    middle = GROWTH_STEPS + 1
    grown = np.empty((side, side), np.bool_)
    wider = np.empty((side, side), np.bool_)
    for k in range(len(seeds)):
        y0, x0 = seeds[k, 0] - middle, seeds[k, 1] - middle
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
