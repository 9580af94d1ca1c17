"""Stacks as volumes: exact fields, the peer's masks from the same fields, real volumes.

``python benchmarks/volumes.py --write-docs``. Real volumes are found in three ways: by fusing
views, by linking the objects of planes, and by a watershed of the distance transform.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from _data import DATA, MODEL, ball_diameter, export_model, read_rows
from _peer import Peer, find_peer_python
from _report import DOCS, Bound, Section, finish
from _synthetic import make_large_volume
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.core.metrics import score_image
from cellseg_engine.core.volume_flows import volume_flows
from cellseg_engine.io.overlays import orthogonal_views, write_overlay
from cellseg_engine.pipeline.volume_fields import VolumeFields
from cellseg_engine.pipeline.volume_masks import Tracing, trace_volume
from cellseg_engine.settings import Settings
from cellseg_engine.zoo.store import list_models

THRESHOLDS = (0.5, 0.75, 0.9)
LINK_ABOVE = 0.25
MODEL_3D = "nuclei3d"
BOUND_FOR = {MODEL: ("val/img3d",), MODEL_3D: ("val/img3d", "train/1135_mini")}
"""The volumes that a model has to find better than the watershed: for `nuclei` the clean one, for
`nuclei3d` those that it was not trained on; the second of them chose between its epochs."""
TURNS = {"Z": (1, 2), "Y": (0, 2), "X": (0, 1)}
"""The axes that a quarter turn about an axis exchanges."""
STYLE = np.ones(256, np.float32)
FLOW_SCALE = 5.0
PICTURE = "volumes.png"
PICTURED = "volumes/train/1135_mini"
ENLARGEMENT = 3
METHODS_PICTURE = "volumes-methods.png"
OUTLINES = ("cyan", "magenta", "yellow", "lime", "orange", "deepskyblue", "red")
BEST = {"val/img3d": MODEL}
"""The model to show a volume with; elsewhere `nuclei3d`."""


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


def exact_fields(labels: np.ndarray, noise: float) -> np.ndarray:
    """Give the fused fields (4, Z, Y, X) of a network without error, and then with noise."""
    fields = np.empty((4, *labels.shape), np.float32)
    fields[:3] = volume_flows(labels)
    if noise:
        fields[:3] += np.random.default_rng(0).normal(0, noise, fields[:3].shape)
    fields[3] = np.where(labels > 0, 6, -6)
    return fields


def find(fields: np.ndarray, settings: Settings, max_voxels: int = 10**9) -> np.ndarray:
    """Give the labels of fused fields."""
    shape = (fields.shape[1], fields.shape[2], fields.shape[3])
    objects, _ = trace_volume(
        VolumeFields(fields, shape, STYLE),
        Tracing(settings, 1.0, 200, "v3"),
        diameter_px=28,
        max_voxels=max_voxels,
    )
    return objects.labels


def compare_synthetic(peer: Peer, noises: list[float]) -> Section:
    """Exact and noisy fields of the synthetic volume: truth, blocks, and the peer."""
    labels = make_large_volume()
    section = Section(
        "Synthetic volume, 64 x 512 x 512, exact fields",
        f"{labels.max()} blobs of about 28 voxels. The fields are those that a network without "
        "error would give for the slices of three views, and these with Gaussian noise. "
        "`fuse` is compared with the truth and with itself in blocks, `cellpose3` with the peer's "
        "`compute_masks(do_3D=True)` from the same fields.",
        ("fields", "AP@0.75 fuse, truth", "AP@0.9 blocks, whole", "AP@0.9 cellpose3, peer", "s"),
    )
    for noise in noises:
        name = f"noise of {noise:g}" if noise else "exact"
        fields = exact_fields(labels, noise)
        fuse = make_settings(volume_mode="fuse", iterations=200)
        start = time.perf_counter()
        whole = find(fields, fuse)
        seconds = time.perf_counter() - start
        blocks = find(fields, fuse, 192**3)
        summed = fields.copy()
        summed[:3] *= 2
        ours = find(summed, make_settings(volume_mode="cellpose3", iterations=200))
        arrays = {"flows": summed[:3] * np.float32(FLOW_SCALE), "logit": summed[3]}
        theirs = peer.run("volume_masks", arrays, iterations=200)["masks"]
        to_truth = precision(labels, whole, 0.75)
        to_whole, to_peer = precision(whole, blocks, 0.9), precision(theirs, ours, 0.9)
        section.rows.append((name, to_truth, to_whole, to_peer, seconds))
        section.bounds += [
            Bound(f"AP@0.9 of blocks against the whole, {name}", to_whole, ">=", 0.99),
            Bound(f"AP@0.9 of cellpose3 against the peer, {name}", to_peer, ">=", 0.99),
        ]
        if not noise:
            section.bounds.append(Bound("AP@0.75 against the truth, exact", to_truth, ">=", 1.0))
    return section


def precision(truth: np.ndarray, found: np.ndarray, threshold: float) -> float:
    """Give the average precision at one threshold."""
    return float(score_image(truth, found, (threshold,)).average_precision[0])


def compare_real(volumes: list[Volume], models: list[str], picture: Path | None) -> Section:
    """Find the nuclei of real volumes in three ways, at the true diameter and an estimated one."""
    section = Section(
        "Real volumes of nuclei",
        f"`{MODEL}` was trained on planes of other images, `{MODEL_3D}` also on slices of "
        "`1136_mini`; `1135_mini` only chose between its epochs. *fuse*: `volume_mode` fuse; "
        f"*linked*: planes linked above an IoU of {LINK_ABOVE:g}; both with the other settings as "
        "they are, at the median diameter of the true objects and at the estimated one. "
        "*watershed*: Otsu's threshold of the smoothed volume, watershed of the distance "
        "transform from its maxima, which are half a true diameter apart at least. Scores are "
        "average precision, TP / (TP + FP + FN). How far flows may err was chosen on the two of "
        "`train`. `1137_mini` is left out, since its image shows noise only (its grey values "
        "overflowed).\n\n"
        "![One plane of each volume: truth and three methods, with AP@0.5]"
        f"(images/{METHODS_PICTURE})",
        ("volume", "method", "diameter", "AP@0.5", "AP@0.75", "AP@0.9", "found / true", "s"),
    )
    segmenters = {model: Segmenter(make_settings(model=model)) for model in models}
    for volume in volumes:
        name = volume.name.partition("/")[2]
        cases = [("watershed", "", volume.diameter_px)]
        cases += [
            (method, model, px)
            for model in models
            for px in (volume.diameter_px, 0.0)
            for method in ("fuse", "linked")
        ]
        baseline = 0.0
        for method, model, diameter in cases:
            start = time.perf_counter()
            if method == "watershed":
                found, used = classical(volume.pixels, diameter), diameter
            else:
                settings = make_settings(
                    segmenters[model].settings,
                    diameter_px=round(diameter, 1),
                    volume_mode="fuse" if method == "fuse" else "planes",
                    anisotropy="1",
                    stitch_threshold=LINK_ABOVE,
                )
                result = segmenters[model].segment(volume.pixels, "ZYX", settings=settings)
                found, used = result.labels, result.diameter_px
            seconds = time.perf_counter() - start
            score = score_image(volume.masks, found, THRESHOLDS)
            scores = [float(ap) for ap in score.average_precision]
            how = "true" if diameter else "estimated"
            section.rows.append(
                (
                    name,
                    f"{method} {model}".strip(),
                    f"{used:.1f} px, {how}",
                    *scores,
                    f"{score.n_prediction} / {score.n_truth}",
                    seconds,
                )
            )
            if method == "watershed":
                baseline = scores[0]
            elif method == "fuse" and diameter and name in BOUND_FOR[model]:
                section.bounds.append(
                    Bound(
                        f"AP@0.5 of fuse with {model} less that of the watershed, {name}",
                        scores[0] - baseline,
                        ">=",
                        0.0,
                    )
                )
            if picture and volume.name == PICTURED and cases[1] == (method, model, diameter):
                views = orthogonal_views(volume.pixels, found, 1.0)
                write_overlay(picture, *(enlarge(view) for view in views))
    return section


def draw_methods(volumes: list[Volume], path: Path) -> None:
    """Draw the plane of each volume that most true objects lie in: truth and three methods."""
    from cellseg_engine.io.figures import figure_class

    figure = figure_class()(figsize=(10, 2.6 * len(volumes)), layout="constrained")
    rows = figure.subplots(len(volumes), 4)
    for axes, volume in zip(rows, volumes, strict=True):
        name = volume.name.partition("/")[2]
        model = BEST.get(name, MODEL_3D)
        settings = make_settings(
            model=model, diameter_px=round(volume.diameter_px, 1), anisotropy="1"
        )
        segmenter = Segmenter(settings)
        fused = make_settings(settings, volume_mode="fuse")
        linked = make_settings(settings, stitch_threshold=LINK_ABOVE)
        shown = {
            "truth": volume.masks,
            f"fuse, {model}": segmenter.segment(volume.pixels, "ZYX", settings=fused).labels,
            f"linked, {model}": segmenter.segment(volume.pixels, "ZYX", settings=linked).labels,
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


def compare_turned(volumes: list[Volume], models: list[str]) -> Section:
    """Find the nuclei of volumes that were turned by 90 degrees, and turn them back."""
    section = Section(
        "Volumes turned by 90 degrees",
        "The same voxels, turned about one axis before they are segmented, and the labels turned "
        "back: how well they agree with those of the volume as it is (`volume_mode` fuse, true "
        "diameter). Exact fields give the identical partition "
        "(`tests/unit/test_volumes.py`); a network sees a turned picture as another one.",
        ("volume", "model", *(f"AP@0.75, about {axis}" for axis in TURNS)),
    )
    for model in models:
        segmenter = Segmenter(make_settings(model=model, volume_mode="fuse", anisotropy="1"))
        for volume in volumes:
            settings = make_settings(segmenter.settings, diameter_px=round(volume.diameter_px, 1))
            upright = segmenter.segment(volume.pixels, "ZYX", settings=settings).labels
            agreement = []
            for axes in TURNS.values():
                turned = np.ascontiguousarray(np.rot90(volume.pixels, 1, axes))
                labels = segmenter.segment(turned, "ZYX", settings=settings).labels
                agreement.append(precision(upright, np.rot90(labels, -1, axes), 0.75))
            section.rows.append((volume.name.partition("/")[2], model, *agreement))
    return section


def compare_peer(peer: Peer, volumes: list[Volume]) -> Section:
    """The same weights on the same volumes, from image to masks, at the true diameter."""
    section = Section(
        "The peer on the same volumes",
        "The same weights in both, image to masks, at the true diameter: `eval(do_3D=True)` of the "
        "peer, `volume_mode` cellpose3, and fuse, which averages and checks flows.",
        ("volume", "AP@0.5 peer", "AP@0.5 cellpose3", "AP@0.5 fuse", "AP@0.9 cellpose3, peer"),
    )
    segmenter = Segmenter(make_settings())
    with tempfile.TemporaryDirectory() as folder:
        weights = str(export_model(Path(folder), MODEL))
        for volume in volumes:
            diameter = round(volume.diameter_px, 1)
            arrays = {"image": volume.pixels}
            theirs = peer.run("volume", arrays, weights=weights, diameter=diameter)["masks"]
            found = {
                mode: segmenter.segment(
                    volume.pixels,
                    "ZYX",
                    settings=make_settings(
                        volume_mode=mode, tiling=tiling, diameter_px=diameter, anisotropy="1"
                    ),
                ).labels
                for mode, tiling in (("cellpose3", "cellpose"), ("fuse", "fewest"))
            }
            scores = [
                precision(volume.masks, labels, 0.5)
                for labels in (theirs, found["cellpose3"], found["fuse"])
            ]
            name = volume.name.partition("/")[2]
            agreement = precision(theirs, found["cellpose3"], 0.9)
            section.rows.append((name, *scores, agreement))
            section.bounds.append(
                Bound(f"AP@0.9 of cellpose3 against the peer, {name}", agreement, ">=", 0.99)
            )
    return section


def enlarge(view: np.ndarray) -> np.ndarray:
    """Give a picture with pixels that are easy to see."""
    return view.repeat(ENLARGEMENT, axis=0).repeat(ENLARGEMENT, axis=1)


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


def main() -> int:
    """Run what is asked for; 1 when a bound fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--only", choices=("synthetic", "real", "picture"), default=None)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.15], metavar="STD")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--no-cache", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args()
    if options.only == "picture":
        draw_methods(read_volumes(options.data), DOCS / "images" / METHODS_PICTURE)
        return 0
    sections: list[Section] = []
    versions: dict[str, str] = {}
    peer: Peer | None = None
    if options.only != "real":
        peer = Peer(
            find_peer_python(options.peer_python), os.cpu_count() or 1, not options.no_cache
        )
        versions = peer.versions
        sections.append(compare_synthetic(peer, options.noise))
        print(sections[-1].to_text(), file=sys.stderr, flush=True)
    if options.only != "synthetic":
        picture = DOCS / "images" / PICTURE if options.write_docs else None
        volumes = read_volumes(options.data)
        if options.write_docs:
            draw_methods(volumes, DOCS / "images" / METHODS_PICTURE)
        known = {entry.name for entry in list_models()}
        models = [model for model in (MODEL, MODEL_3D) if model in known]
        sections.append(compare_real(volumes, models, picture))
        sections.append(compare_turned(volumes, models))
        if peer is not None:
            sections.append(compare_peer(peer, volumes))
    return finish(
        sections,
        page="volumes-accuracy.md",
        title="How well volumes are found",
        introduction="Stacks segmented as one volume ([volumes.md](volumes.md)).",
        command=" ".join(["python benchmarks/volumes.py", *sys.argv[1:]]),
        peer_versions=versions,
        json_path=options.json,
        write_docs=options.write_docs,
    )


if __name__ == "__main__":
    sys.exit(main())
