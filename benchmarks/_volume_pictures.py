"""The pictures of volumes in docs/."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _data import MODEL
from _report import DOCS
from _volumes import MODEL_3D, WAYS, Volume, classical, fixed_settings, precision

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.io.overlays import orthogonal_views, write_overlay

PICTURE = "volumes.png"
PICTURED = "volumes/train/1135_mini"
ENLARGEMENT = 3
METHODS_PICTURE = "volumes-methods.png"
OUTLINES = ("cyan", "magenta", "yellow", "lime", "orange", "deepskyblue", "red")
BEST = {"val/img3d": MODEL}
"""The model to show a volume with; elsewhere `nuclei3d`."""


def draw_pictures(volumes: list[Volume]) -> None:
    """Draw the pictures of the pages about volumes."""
    draw_views(volumes, DOCS / "images" / PICTURE)
    draw_methods(volumes, DOCS / "images" / METHODS_PICTURE)


def draw_views(volumes: list[Volume], path: Path) -> None:
    """Draw one volume from three sides, with what fuse finds at the true diameter."""
    (volume,) = (volume for volume in volumes if volume.name == PICTURED)
    diameter = round(volume.diameter_px, 1)
    settings = fixed_settings(model=MODEL, diameter_px=diameter, **WAYS["fuse"])
    found = Segmenter(settings).segment(volume.pixels, "ZYX").labels
    views = orthogonal_views(volume.pixels, found, 1.0)
    write_overlay(path, *(enlarge(view) for view in views))


def draw_methods(volumes: list[Volume], path: Path) -> None:
    """Draw the plane of each volume that most true objects lie in: truth and three methods."""
    from cellseg_engine.io.figures import figure_class

    figure = figure_class()(figsize=(10, 2.6 * len(volumes)), layout="constrained")
    rows = figure.subplots(len(volumes), 4)
    for axes, volume in zip(rows, volumes, strict=True):
        name = volume.name.partition("/")[2]
        model = BEST.get(name, MODEL_3D)
        settings = fixed_settings(model=model, diameter_px=round(volume.diameter_px, 1))
        segmenter = Segmenter(settings)
        found = {
            f"{way}, {model}": segmenter.segment(
                volume.pixels, "ZYX", settings=make_settings(settings, **changes)
            ).labels
            for way, changes in WAYS.items()
        }
        shown = {
            "truth": volume.masks,
            **found,
            "watershed": classical(volume.pixels, volume.diameter_px),
        }
        z = int(np.argmax([np.unique(plane).size for plane in volume.masks]))
        low, high = np.percentile(volume.pixels[z], (1, 99.5))
        for axis, (title, labels) in zip(axes, shown.items(), strict=True):
            axis.imshow(volume.pixels[z], cmap="gray", vmin=low, vmax=high)
            for label in np.unique(labels[z][labels[z] > 0]):
                colour = OUTLINES[label % len(OUTLINES)]
                axis.contour(labels[z] == label, [0.5], colors=[colour], linewidths=1)
            score = "" if title == "truth" else f": {precision(volume.masks, labels, 0.5):.2f}"
            axis.set_title(title + score, fontsize="small")
            axis.set(xticks=[], yticks=[])
        axes[0].set_ylabel(f"{name}, plane {z}", fontsize="small")
    figure.savefig(path, dpi=110)


def enlarge(view: np.ndarray) -> np.ndarray:
    """Give a picture with pixels that are easy to see."""
    return view.repeat(ENLARGEMENT, axis=0).repeat(ENLARGEMENT, axis=1)
