"""Images for tests of IdentifyCells: disks at known places, and crops of the examples."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tifffile

FIELD = (128, 140)
DISK_PX = 24.0
PLACES = ((4, 30), (28, 34), (60, 70), (60, 117), (92, 62), (64, 30), (110, 110))
"""Two touching ones, one of them at the image's border; the others apart."""


def draw_disks(
    places: Iterable[tuple[float, float]],
    shape: tuple[int, int] = FIELD,
    diameter_px: float = DISK_PX,
    seed: int = 0,
) -> np.ndarray:
    """Give soft bright disks on a noisy background; uint16 of up to 12 bits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 200 + rng.normal(0, 10, shape)
    for cy, cx in places:
        image += 3000 * np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / (diameter_px / 2) ** 2) ** 4))
    return np.clip(image, 0, 4095).astype(np.uint16)


def write(folder: Path, images: dict[str, np.ndarray]) -> Path:
    """Write images as TIFF files and give their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        photometric = "rgb" if image.shape[-1] == 3 else "minisblack"
        tifffile.imwrite(folder / f"{name}.tif", image, photometric=photometric)
    return folder
