"""Draw fields of crowded nuclei, of which there are few among the labelled images.

Nuclei stand on a bent lattice, round or long, close to each other, small and dim at the rim of the
tissue, with others out of focus behind them. See docs/decisions/0045-drawn-fields.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter, label
from scipy.spatial import cKDTree

SIDE_PX = 448
MIN_AREA_PX = 12


def draw_tissue(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one field.

    Returns
    -------
    image
        uint16 of shape (Y, X).
    labels
        uint16 of shape (Y, X): 1 to the number of nuclei, each in one part.
    """
    spacing = rng.uniform(9, 22)
    stretch = np.exp(rng.uniform(0, np.log(2.4))) if rng.random() < 0.6 else 1.0
    place, owner, depth = _nuclei(rng, spacing, stretch)
    tissue = _smooth(rng, rng.uniform(3, 8) * spacing)
    edge = np.clip((tissue - np.quantile(tissue, rng.uniform(0, 0.6))) / 0.35, -1, 1)
    inside = edge[tuple(np.clip(place, 0, SIDE_PX - 1).astype(int).T)]
    n_nuclei = len(place)
    size = rng.uniform(0.75, 1.0, n_nuclei) * np.clip(0.65 + 0.5 * inside, 0.55, 1)
    brightness = rng.lognormal(0, rng.uniform(0.1, 0.5), n_nuclei)
    brightness *= np.clip(0.3 + rng.uniform(0.5, 1.2) * inside, 0.2, 1)
    kept = (inside > 0) & (rng.random(n_nuclei) > rng.uniform(0, 0.25))
    radius = depth / np.maximum(size[owner], 1e-6)
    labels = _whole(np.where(kept[owner] & (radius < 1), owner + 1, 0))
    dome = np.sqrt(np.clip(1 - radius**2, 0, 1)) ** rng.uniform(0.2, 1)
    texture = 1 + rng.uniform(0, 0.4) * _smooth(rng, spacing / 6)
    sharp = np.where(labels > 0, brightness[owner] * dome * np.clip(texture, 0.2, None), 0)
    light = gaussian_filter(sharp, rng.uniform(0.04, 0.16) * spacing)
    behind = gaussian_filter(_behind(rng, spacing, stretch), rng.uniform(0.25, 0.6) * spacing)
    haze = gaussian_filter(sharp, rng.uniform(1, 3) * spacing)
    light = light + rng.uniform(0, 0.5) * behind * (edge > 0) + rng.uniform(0, 0.6) * haze
    light *= 1 + rng.uniform(0, 0.3) * _smooth(rng, SIDE_PX / 4)
    light = np.clip(light + rng.uniform(0.01, 0.15), 0, None)
    photons = np.exp(rng.uniform(np.log(40), np.log(2000)))
    image = rng.poisson(light * photons) / photons * rng.uniform(500, 8000)
    return np.clip(image, 0, 65535).astype(np.uint16), labels.astype(np.uint16)


def write_tissue(folder: Path, n_images: int, seed: int = 0) -> list[dict[str, str]]:
    """Write fields, and give their rows for a table of training images."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(n_images):
        image, labels = draw_tissue(np.random.default_rng([seed, number]))
        name = f"drawn_{number:03d}"
        tifffile.imwrite(folder / f"{name}_img.tif", image, compression="zlib")
        tifffile.imwrite(folder / f"{name}_masks.tif", labels, compression="zlib")
        rows.append(
            {
                "path": name,
                "image": str(folder / f"{name}_img.tif"),
                "labels": str(folder / f"{name}_masks.tif"),
                "role": "train",
                "kind": "drawn",
                "group": name,
                "axes": "YX",
                "channel": "",
            }
        )
    return rows


def _nuclei(
    rng: np.random.Generator, spacing: float, stretch: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the places of nuclei (N, 2), and of each pixel the nearest one and how deep in it."""
    bend = np.stack([_smooth(rng, rng.uniform(4, 9) * spacing) for _ in range(2)])
    bend *= rng.uniform(0.3, 2.0) * spacing
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    narrow = np.array([np.sqrt(stretch), 1 / np.sqrt(stretch)])
    at = np.stack(np.indices((SIDE_PX, SIDE_PX))).astype(float)
    lattice = np.einsum("ij,jyx->yxi", turn, at + bend) * narrow
    low, high = lattice.min((0, 1)) - spacing, lattice.max((0, 1)) + spacing
    rows = np.arange(low[0], high[0], spacing * np.sqrt(3) / 2)
    columns = np.arange(low[1], high[1], spacing)
    points = np.array([(y, x + spacing / 2 * (n % 2)) for n, y in enumerate(rows) for x in columns])
    points += rng.normal(0, rng.uniform(0.05, 0.2) * spacing, points.shape)
    distance, nearest = cKDTree(points).query(lattice, k=2)
    owner = nearest[..., 0]
    gap = rng.uniform(0.0, 0.16) * spacing
    reach = rng.uniform(0.42, 0.56) * spacing
    depth = distance[..., 0] / reach
    depth = np.where(distance[..., 1] - distance[..., 0] > gap, depth, np.inf)
    found, owner = np.unique(owner, return_inverse=True)
    owner = owner.reshape(lattice.shape[:2])
    counts = np.maximum(np.bincount(owner.ravel()), 1)
    place = [np.bincount(owner.ravel(), axis.ravel()) / counts for axis in at]
    return np.stack(place, -1)[: len(found)], owner, depth


def _behind(rng: np.random.Generator, spacing: float, stretch: float) -> np.ndarray:
    place, owner, depth = _nuclei(rng, spacing, stretch)
    return np.where((depth < 1) & (rng.random(len(place)) < rng.uniform(0, 0.8))[owner], 1.0, 0.0)


def _smooth(rng: np.random.Generator, length_px: float) -> np.ndarray:
    """Give a smooth random field of unit standard deviation."""
    field = gaussian_filter(rng.standard_normal((SIDE_PX, SIDE_PX)), length_px, mode="wrap")
    return np.asarray(field / field.std())


def _whole(labels: np.ndarray) -> np.ndarray:
    """Keep the largest part of each object, if it is large enough, and number them anew."""
    parts = np.zeros_like(labels)
    n_parts = 0
    for number in np.unique(labels[labels > 0]):
        ys, xs = np.nonzero(labels == number)
        box = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
        pieces, _ = label(labels[box] == number)
        areas = np.bincount(pieces.ravel())[1:]
        if areas.max() >= MIN_AREA_PX:
            n_parts += 1
            parts[box][pieces == areas.argmax() + 1] = n_parts
    return parts
