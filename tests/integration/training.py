"""Help for tests of training: a small network, images of disks, quick options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from cellseg_engine.nets import unet
from cellseg_engine.train.options import TrainingOptions
from cellseg_engine.train.recipes import load_recipe

WIDTHS = (8, 16, 32, 256)
"""A sixteenth of the network's work; the style keeps its length, which size models need."""


@contextmanager
def small_network(threads: int = 1) -> Iterator[None]:
    """Let networks be small, here and where they are read again.

    More threads than one make tiny layers slower, by far where other work runs beside.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "WIDTHS", WIDTHS)
        yield
    torch.set_num_threads(before)


def disks(side: int = 96, seed: int = 0, radius: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Give an image of bright disks that do not touch, and their labels; both uint16."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint16)
    image = rng.normal(200, 20, (side, side))
    for _ in range(200):
        centre_y, centre_x = rng.uniform(0, side, 2)
        size = radius * rng.uniform(0.75, 1.25)
        distance = np.hypot(y - centre_y, x - centre_x)
        if (distance < size).any() and not labels[distance < size + 1.5].any():
            labels[distance < size] = labels.max() + 1
            image[distance < size] += rng.uniform(400, 900)
    return image.astype(np.uint16), labels


def draw_pairs(folder: Path, n: int = 3, side: int = 64, first: int = 0) -> Path:
    """Write pairs NAME_img.tif and NAME_masks.tif; give the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + n):
        image, labels = disks(side, number)
        tifffile.imwrite(folder / f"{number}_img.tif", image)
        tifffile.imwrite(folder / f"{number}_masks.tif", labels)
    return folder


def quick_options(folder: Path, out: Path, **changes: Any) -> TrainingOptions:
    """Give a training of seconds: 3 epochs of 2 steps of 2 crops of 32 px."""
    values = {"epochs": 3, "images_per_epoch": 4, "batch_size": 2, "precision": "fp32"}
    names = {*values, "learning_rate", "weight_decay", "optimizer", "min_objects", "start"}
    names |= {"average_decay"}
    recipe = {name: changes.pop(name) for name in names & changes.keys()}
    options: dict[str, Any] = {
        "n_channels": 1,
        "crop_px": 32,
        "diam_mean_px": 16.0,
        "size_model": False,
        "checkpoint_every_s": 0.0,
        "validate_every": 1,
        **changes,
    }
    return TrainingOptions([folder], out, load_recipe("quick", **(values | recipe)), **options)
