"""Deterministic synthetic cells: 2048 x 2048 px, about 1764 of them, many touching.

The measured figures of this project were made with the generator of the shared benchmarks; where
it lies beside the repository it is used, so that the image is the same. Elsewhere the
generator below makes an image of the same kind.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

SHARED = Path(__file__).resolve().parents[2] / "shared" / "peers" / "synth.py"


def make_labels(side: int = 2048, seed: int = 0) -> tuple[np.ndarray, str]:
    """Give the label image, int32 of shape (side, side), and the name of its generator."""
    module = _load_shared()
    if module is not None:
        return module.labels2d(side, seed=seed), "shared/peers/synth.py"
    return scatter_cells(side, seed), "benchmarks/_synthetic.py"


def make_large_volume() -> np.ndarray:
    """Give blobs of about 28 voxels, many touching; int32 of shape (64, 512, 512)."""
    module = _load_shared()
    return make_volume((64, 512, 512)) if module is None else np.asarray(module.labels3d())


def _load_shared() -> Any:
    """Give the generator of the shared benchmarks as a module, or None."""
    spec = importlib.util.spec_from_file_location("synth", SHARED)
    if not SHARED.is_file() or spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scatter_cells(side: int, seed: int, pitch: int = 48, radius: float = 15.0) -> np.ndarray:
    """Give wobbly disks on a jittered grid; a pixel in two of them goes to the nearer centre.

    Parameters
    ----------
    pitch
        Distance of the grid's points in px.
    radius
        Mean radius in px; its standard deviation is a sixth of it.
    """
    rng = np.random.default_rng(seed)
    count = side // pitch
    grid = (np.arange(count) + 0.5) * pitch + (side - count * pitch) / 2
    labels = np.zeros((side, side), np.int32)
    nearest = np.full((side, side), np.inf)
    for label, (y, x) in enumerate(((y, x) for y in grid for x in grid), start=1):
        y, x = y + rng.uniform(-10, 10), x + rng.uniform(-10, 10)
        size = np.clip(rng.normal(radius, radius / 6), radius / 2, radius * 1.6)
        waves = rng.uniform(0, 0.18, 3)
        phases = rng.uniform(0, 2 * np.pi, 3)
        reach = int(size * 1.6) + 1
        rows = np.arange(max(0, int(y) - reach), min(side, int(y) + reach + 1))
        columns = np.arange(max(0, int(x) - reach), min(side, int(x) + reach + 1))
        dy, dx = rows[:, None] - y, columns[None, :] - x
        angle = np.arctan2(dy, dx)
        edge = size * (1 + sum(waves[k] * np.cos((k + 2) * angle + phases[k]) for k in range(3)))
        distance = np.hypot(dy, dx) / edge
        window = np.ix_(rows, columns)
        mine = (distance < 1) & (distance < nearest[window])
        labels[window] = np.where(mine, label, labels[window])
        nearest[window] = np.where(mine, distance, nearest[window])
    present = np.unique(labels[labels > 0])
    numbers = np.zeros(labels.max() + 1, np.int32)
    numbers[present] = np.arange(1, present.size + 1)
    return numbers[labels]


def perturb_flows(flows: np.ndarray, std: float = 0.15, seed: int = 0) -> np.ndarray:
    """Give unit flows (2, Y, X) with Gaussian noise added; float32."""
    noise = np.random.default_rng(seed).normal(0, std, flows.shape)
    return (flows + noise).astype(np.float32)


def make_volume(shape: tuple[int, int, int], seed: int = 1, pitch: int = 34) -> np.ndarray:
    """Give ellipsoids of about 27 voxels on a jittered grid; int32 of that shape, ids 1 to n.

    Parameters
    ----------
    pitch
        Distance of the grid's points.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    counts = [max(1, extent // pitch) for extent in shape]
    for label, place in enumerate(np.ndindex(*counts), start=1):
        middles = [
            (k + 0.5) * extent / count
            for k, extent, count in zip(place, shape, counts, strict=True)
        ]
        centre = middles + rng.uniform(-4, 4, 3)
        radii = np.clip(rng.normal(13.5, 2, 3), 7, 20)
        low = np.maximum(np.floor(centre - radii), 0).astype(int)
        high = np.minimum(np.ceil(centre + radii) + 1, shape).astype(int)
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = np.ogrid[window]
        distance = sum(((axes[k] - centre[k]) / radii[k]) ** 2 for k in range(3))
        labels[window][(distance < 1) & (labels[window] == 0)] = label
    _, numbers = np.unique(labels, return_inverse=True)
    return numbers.reshape(shape).astype(np.int32)


def sum_slice_flows(labels: np.ndarray) -> np.ndarray:
    """Give the sum of the flows of all slices in three directions, of length 1; (3, Z, Y, X)."""
    from cellseg_engine.core.volume_flows import volume_flows

    flows = volume_flows(labels)
    flows /= np.maximum(np.sqrt((flows**2).sum(axis=0)), np.float32(1e-20))
    return flows
