"""Deterministic synthetic cells: 2048 x 2048 px, about 1764 of them, many touching.

The measured figures of this project were made with the generator of the shared benchmarks; where
it lies beside the repository it is used, so that the image is the same. Elsewhere the
generator below makes an image of the same kind.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

SHARED = Path(__file__).resolve().parents[2] / "shared" / "peers" / "synth.py"


def make_labels(side: int = 2048, seed: int = 0) -> tuple[np.ndarray, str]:
    """Give the label image, int32 of shape (side, side), and the name of its generator."""
    if SHARED.is_file():
        spec = importlib.util.spec_from_file_location("synth", SHARED)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.labels2d(side, seed=seed), "shared/peers/synth.py"
    return scatter_cells(side, seed), "benchmarks/_synthetic.py"


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
