"""What the benchmarks work on: labelled validation images, and weights as official files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellseg_engine.io.images import read_image, read_labels

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools.manifest import DATA, read_rows  # noqa: F401 (benchmarks import them here)

MODEL = "nuclei"
MODELS = {
    "nuclei": ("fluo", "histology"),
    "generalist": ("fluo", "phase"),
    "phase": ("phase",),
    "nuclei3d": ("volume", "fluo"),
}
"""The models that are shipped, and kinds of validation images that each is for."""
FIRST_MODEL = "nuclei-provisional"
"""Of the peer's own trainer; the parity of both programs is measured on it."""


@dataclass(frozen=True)
class Labelled:
    """An image and the truth about it.

    Attributes
    ----------
    name
        As in the manifest, without the folder.
    pixels
        The image as stored.
    masks
        True objects, int32.
    diameter_px
        Median diameter of the true objects.
    axes
        Of the image, one letter for each dimension.
    """

    name: str
    pixels: np.ndarray
    masks: np.ndarray
    diameter_px: float
    axes: str


def ball_diameter(masks: np.ndarray) -> float:
    """Give the median diameter of the objects of a volume, as balls, in px."""
    sizes = np.bincount(masks.ravel())[1:]
    return float(np.cbrt(np.median(sizes[sizes > 0]) * 6 / np.pi))


def true_diameter(row: dict[str, str], masks: np.ndarray) -> float:
    """Give the median diameter of the true objects in px: of planes as in the manifest."""
    return ball_diameter(masks) if masks.ndim == 3 else float(row["median_diameter_px"])


def read_validation(data: Path, kind: str, count: int = 0) -> list[Labelled]:
    """Read the validation images of a kind, sorted by name; the first ``count``."""
    rows = [row for row in read_rows(data, "val") if row["kind"] == kind]
    images = []
    for row in sorted(rows, key=lambda row: row["path"])[: count or None]:
        axes = row["axes"]
        pixels = read_image(data / f"{row['path']}_img.tif", axes=axes).pixels
        masks = read_labels(data / f"{row['path']}_masks.tif", axes=axes.removesuffix("S"))[0]
        name = row["path"].rpartition("/")[2]
        images.append(Labelled(name, pixels, masks, true_diameter(row, masks), axes))
    return images


def export_model(folder: Path, name: str) -> Path:
    """Export a network and its size model under the names by which the peer finds both.

    The peer looks for the size model at the weights' path with ``_size.npy`` appended.
    """
    from cellseg_engine.nets.size_model import write_official_size_model
    from cellseg_engine.nets.weights import export_official
    from cellseg_engine.zoo.store import read_model

    path = folder / name
    if not path.is_file():
        (weights,) = read_model(name)
        export_official(path, weights)
        if weights.size_model is not None:
            write_official_size_model(Path(f"{path}_size.npy"), weights.size_model)
    return path


def write_random_network(folder: Path) -> Path:
    """Write a network of random weights whose batch normalisation is far from neutral."""
    import torch

    from cellseg_engine.nets.unet import ResidualUNet

    path = folder / "random-weights"
    torch.manual_seed(0)
    net = ResidualUNet(2)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.2)
            norm.momentum = None
        net.train()
        for _ in range(2):
            net(torch.rand(2, 2, 64, 64) * torch.tensor([1.0, 0.4])[:, None, None])
        for norm in norms:
            norm.running_mean.add_(torch.randn_like(norm.running_mean) * 0.1)
            norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.5, 2))
    torch.save(net.eval().state_dict(), path)
    return path
