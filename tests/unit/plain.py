"""The slow, obvious definitions that the fast kernels are compared with."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

from cellseg_engine.core.flow_variants import VARIANTS


def blobs(n: int = 96, pitch: int = 24, seed: int = 0) -> np.ndarray:
    """Touching objects of irregular shape; int32 of shape (n, n)."""
    rng = np.random.default_rng(seed)
    centres = [
        (y + rng.uniform(-4, 4), x + rng.uniform(-4, 4))
        for y in range(pitch // 2, n, pitch)
        for x in range(pitch // 2, n, pitch)
    ]
    yy, xx = np.mgrid[:n, :n]
    distance = np.stack(
        [
            np.hypot(yy - y, (xx - x) * rng.uniform(0.7, 1.3))
            / rng.uniform(0.4 * pitch, 0.62 * pitch)
            for y, x in centres
        ]
    )
    labels = distance.argmin(0) + 1
    labels[distance.min(0) > 1] = 0
    _, labels = np.unique(labels, return_inverse=True)
    return labels.reshape(n, n).astype(np.int32)


def flows(labels: np.ndarray, variant: str) -> np.ndarray:
    """Heat released at the centre, 3 x 3 means over the object, gradient, unit length."""
    recipe = VARIANTS[variant]
    field = np.zeros((2, *labels.shape))
    for label in np.unique(labels[labels > 0]):
        inside = np.pad(labels == label, 1)
        ys, xs = np.nonzero(inside)
        middle = np.median if recipe.centre_is_median else np.mean
        nearest = np.argmin((ys - middle(ys)) ** 2 + (xs - middle(xs)) ** 2)
        heat = np.zeros(inside.shape)
        extent = np.ptp(ys) + 1 + np.ptp(xs) + 1 + recipe.extent_extra
        for _ in range(2 * extent):
            heat[ys[nearest], xs[nearest]] += 1
            mean = sum(np.roll(heat, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
            heat = np.where(inside, mean / 9, 0)
        if recipe.logarithm:
            heat = np.log(1 + heat)
        dy = heat[ys + 1, xs] - heat[ys - 1, xs]
        dx = heat[ys, xs + 1] - heat[ys, xs - 1]
        norm = recipe.epsilon + np.hypot(dy, dx)
        field[:, ys - 1, xs - 1] = dy / norm, dx / norm
    return field


def follow(field: np.ndarray, mask: np.ndarray, iterations: int, linear: bool) -> np.ndarray:
    """Euler steps of all points at once, without any early stop; float32, of any dimensions."""
    field = np.where(mask, field, 0).astype(np.float32)
    last = np.array(mask.shape)[:, None] - 1
    points = np.stack(np.nonzero(mask)).astype(np.float32)
    for _ in range(iterations):
        points = np.clip(points + flow_at(field, points, linear), 0, last).astype(np.float32)
    return points


def flow_at(field: np.ndarray, points: np.ndarray, linear: bool) -> np.ndarray:
    """The flow at points: of the pixel that they are in, or the mean of those around."""
    if not linear:
        return field[:, *points.astype(int)]
    last = np.array(field.shape[1:])[:, None] - 1
    near = points.astype(int)
    far = np.minimum(near + 1, last)
    fraction = points - near.astype(np.float32)
    flow = np.zeros_like(points)
    for is_far in itertools.product((False, True), repeat=len(points)):
        corner = [far[axis] if is_far[axis] else near[axis] for axis in range(len(points))]
        weight = np.ones_like(points[0])
        for axis in range(len(points)):
            weight *= fraction[axis] if is_far[axis] else 1 - fraction[axis]
        flow += field[:, *corner] * weight
    return flow


def cluster(
    starts: np.ndarray, ends: np.ndarray, shape: tuple[int, int], max_size_fraction: float
) -> np.ndarray:
    """Peaks of the histogram of end points, grown five times; weaker seeds first."""
    histogram = np.zeros(shape, int)
    rows, columns = ends.astype(int)
    np.add.at(histogram, (rows, columns), 1)
    seeds = []
    for y, x in np.ndindex(shape):
        window = histogram[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        if histogram[y, x] > 10 and window.max() <= histogram[y, x]:
            seeds.append((histogram[y, x], y, x))
    owners = np.zeros(shape, int)
    for number, (_, y, x) in enumerate(sorted(seeds, key=lambda seed: seed[0]), start=1):
        grown = np.zeros(shape, bool)
        grown[y, x] = True
        for _ in range(5):
            padded = np.pad(grown, 1)
            wider = np.zeros(shape, bool)
            for dy in range(3):
                for dx in range(3):
                    wider |= padded[dy : dy + shape[0], dx : dx + shape[1]]
            grown = wider & (histogram > 2)
        owners[grown] = number
    labels = np.zeros(shape, int)
    labels[tuple(starts)] = owners[rows, columns]
    for label in np.unique(labels[labels > 0]):
        if (labels == label).sum() > max_size_fraction * labels.size:
            labels[labels == label] = 0
    kept = np.unique(labels[labels > 0])
    return np.where(labels > 0, np.searchsorted(kept, labels) + 1, 0)


def cluster_volume(
    starts: np.ndarray,
    bins: np.ndarray,
    shape: tuple[int, int, int],
    n_bins: tuple[int, int, int],
    max_size_fraction: float,
) -> np.ndarray:
    """The same in volumes, with bins that are counted already."""
    histogram = np.zeros(n_bins, int)
    np.add.at(histogram, tuple(bins), 1)
    highest = ndimage.maximum_filter(histogram, 5, mode="constant", cval=0)
    peaks = np.argwhere((histogram > 10) & (histogram == highest))
    owners = np.zeros(n_bins, int)
    cube = np.ones((3, 3, 3), bool)
    for number, peak in enumerate(sorted(peaks, key=lambda p: histogram[tuple(p)]), start=1):
        grown = np.zeros(n_bins, bool)
        grown[tuple(peak)] = True
        for _ in range(5):
            grown = ndimage.binary_dilation(grown, cube) & (histogram > 2)
        owners[grown] = number
    labels = np.zeros(shape, int)
    labels[tuple(starts)] = owners[tuple(bins)]
    sizes = np.bincount(labels.ravel())
    labels[(sizes > max_size_fraction * labels.size)[labels]] = 0
    kept = np.unique(labels[labels > 0])
    return np.where(labels > 0, np.searchsorted(kept, labels) + 1, 0)


def fill_holes(labels: np.ndarray) -> np.ndarray:
    """Background that 4-connected paths cannot lead out of an object becomes the object's."""
    filled = labels.copy()
    for label in np.unique(labels[labels > 0]):
        filled[ndimage.binary_fill_holes(labels == label) & (labels == 0)] = label
    return filled
