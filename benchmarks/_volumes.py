"""Real volumes, and the ways to find what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from _data import ball_diameter, read_rows
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from cellseg_engine import make_settings
from cellseg_engine.core.metrics import score_image
from cellseg_engine.settings import Settings

LINK_ABOVE = 0.25
WAYS: dict[str, dict[str, Any]] = {
    "fuse": {"volume_mode": "fuse"},
    "linked": {"stitch_threshold": LINK_ABOVE},
}
"""Settings of the two ways to find a volume."""
MODEL_3D = "nuclei3d"


@dataclass(frozen=True)
class Volume:
    """A real volume and the truth about it."""

    name: str
    kind: str
    pixels: np.ndarray
    masks: np.ndarray

    @property
    def diameter_px(self) -> float:
        """Median diameter of its objects, as balls."""
        return ball_diameter(self.masks)


def read_volumes(data: Path) -> list[Volume]:
    """Read the volumes of nuclei."""
    rows = [*read_rows(data, "train"), *read_rows(data, "val")]
    return [
        Volume(
            row["path"],
            row["kind"],
            tifffile.imread(data / f"{row['path']}_img.tif"),
            tifffile.imread(data / f"{row['path']}_masks.tif").astype(np.int32),
        )
        for row in rows
        if row["kind"] == "volume"
    ]


def fixed_settings(**changes: Any) -> Settings:
    """Give settings that calculate alike on every machine."""
    return make_settings(device="cpu", precision="fp32", anisotropy="1", **changes)


def classical(pixels: np.ndarray, diameter_px: float) -> np.ndarray:
    """Give the objects of a watershed of the distance transform; int32."""
    smooth = ndimage.gaussian_filter(pixels.astype(np.float32), 1.0)
    mask = smooth > threshold_otsu(smooth)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.0)
    peaks = peak_local_max(
        distance, min_distance=max(1, round(diameter_px / 2)), labels=mask, exclude_border=False
    )
    seeds = np.zeros(pixels.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-distance, seeds, mask=mask), np.int32)


def precision(truth: np.ndarray, found: np.ndarray, threshold: float) -> float:
    """Give the average precision at one threshold."""
    return float(score_image(truth, found, (threshold,)).average_precision[0])
