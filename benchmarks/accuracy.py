"""Accuracy on real nuclei, diameter estimated: the engine, cellpose 3.1.1.3 and a classical method.

``python benchmarks/accuracy.py``; the peer gets an environment of its own (see README.md). The
validation images are for scoring; docs/models.md says how often, and what was learned from it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from _data import DATA, FIRST_MODEL, MODEL, Labelled, export_model, read_validation
from _peer import Peer, find_peer_python, number
from _report import Bound, Section, finish
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

from cellseg_engine import Segmentation, Segmenter, make_settings
from cellseg_engine.core.metrics import ImageScore, PooledScore, pool_scores, score_image

THRESHOLDS = (0.5, 0.75, 0.9)
ALLOWED_LOSS = 0.005
SMOOTHING_PX = 1.0
MIN_DISTANCE_PX = 5
MIN_AREA_PX = 15
COLUMNS = (
    "method",
    *(f"AP@{t:g} {how}" for t in THRESHOLDS for how in ("pooled", "mean per image")),
    "F1@0.5 pooled",
    "F1@0.5 mean per image",
    "objects",
)
INTRODUCTION = (
    "Average precision (AP) is TP / (TP + FP + FN) at a threshold on the intersection over union: "
    "*pooled* over all objects, and as *mean per image*. Images: `nuclei/val` (BBBC038v1, CC0), "
    "used for scoring ([how often](models.md)); groups of like images were never split between "
    "training and validation. Weights: `nuclei`, for the peer exported as an official file with "
    "its size model, so both run the same network; and `nuclei-provisional`, which the peer's own "
    "trainer made of the same fluorescence images in 65 CPU minutes, run by the peer. The "
    "diameter of each image is estimated."
)


def segment_classically(image: np.ndarray) -> np.ndarray:
    """Give labels by Otsu's threshold and a watershed of the distance to the background.

    Gaussian smoothing of 1 px, seeds at least 5 px apart, objects below 15 px dropped: textbook
    values, fixed before any image was scored.
    """
    smooth = gaussian(image, SMOOTHING_PX, preserve_range=True)
    mask = ndimage.binary_fill_holes(smooth > threshold_otsu(smooth))
    distance = gaussian(ndimage.distance_transform_edt(mask), SMOOTHING_PX, preserve_range=True)
    parts, _ = ndimage.label(mask)
    peaks = peak_local_max(distance, min_distance=MIN_DISTANCE_PX, labels=parts)
    seeds = np.zeros(image.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels: np.ndarray = watershed(-distance, seeds, mask=mask)
    counts = np.bincount(labels.ravel())
    labels[counts[labels] < MIN_AREA_PX] = 0
    return labels


def compare_methods(
    images: list[Labelled],
    ours: list[Segmentation],
    peer: dict[str, np.ndarray],
    peer_first: dict[str, np.ndarray],
) -> tuple[Section, Section]:
    """Score the four methods on fluorescence, and list where ours and the peer differ."""
    section = Section(
        "Fluorescence",
        f"{len(images)} images, {sum(image.masks.max() for image in images)} nuclei, diameters 9 "
        "to 52 px. Ours with the default settings; the peer with `SizeModel.eval` and then "
        "`CellposeModel.eval` at that diameter, otherwise defaults; the classical method is "
        "Otsu's threshold and a watershed of the distance transform (scikit-image), its parameters "
        "fixed beforehand. Ours cuts an image into fewer and larger tiles, refines the diameter "
        "and looks a second time at images with next to no objects; [parity.md](parity.md) "
        "compares without these.",
        COLUMNS,
    )
    results = {
        "ours": [found.labels for found in ours],
        "cellpose 3.1.1.3, same weights": [peer[f"masks_{k}"] for k in range(len(images))],
        "cellpose 3.1.1.3, its own training": [
            peer_first[f"masks_{k}"] for k in range(len(images))
        ],
        "Otsu + watershed": [segment_classically(image.pixels) for image in images],
    }
    scores = {
        name: [
            score_image(image.masks, labels, THRESHOLDS)
            for image, labels in zip(images, found, strict=True)
        ]
        for name, found in results.items()
    }
    pooled = {name: pool_scores(found) for name, found in scores.items()}
    section.rows = [score_row(name, score) for name, score in pooled.items()]
    mine, theirs, _, _ = pooled.values()
    for how, own, other in (
        ("pooled", mine.pooled, theirs.pooled),
        ("mean per image", mine.mean_per_image, theirs.mean_per_image),
    ):
        loss = float(other.average_precision[0] - own.average_precision[0])
        section.bounds.append(
            Bound(f"the peer's AP@0.5 less ours, {how}", loss, "<=", ALLOWED_LOSS)
        )
    inverted = sum(bool(found.provenance["inverted"]) for found in ours)
    section.notes.append(f"`invert: auto` inverted {inverted} of the images.")
    own_scores, peer_scores, _, _ = scores.values()
    return section, compare_images(images, own_scores, peer_scores)


def compare_images(
    images: list[Labelled], ours: list[ImageScore], peer: list[ImageScore]
) -> Section:
    """List the images on which the peer's counts differ from ours."""
    rows = []
    for image, own, other in zip(images, ours, peer, strict=True):
        if (own.tp != other.tp).any() or own.n_prediction != other.n_prediction:
            counts = [(one.n_prediction, "/".join(map(str, one.tp))) for one in (own, other)]
            rows.append((image.name, own.n_truth, *counts[0], *counts[1]))
    matched = f"matched at {'/'.join(f'{t:g}' for t in THRESHOLDS)}"
    section = Section(
        "Images on which they differ",
        f"Ours and the peer with the same weights: other counts on {len(rows)} of {len(images)} "
        "images.",
        ("image", "true", "ours", f"ours, {matched}", "peer", f"peer, {matched}"),
    )
    section.rows.extend(rows)
    return section


def compare_diameters(
    images: list[Labelled], ours: list[Segmentation], peer: dict[str, np.ndarray]
) -> Section:
    """Compare the estimated diameters with the true ones."""
    section = Section(
        "Estimated diameters",
        "Against the median diameter of the true nuclei: ratio estimate / truth, error as the "
        "absolute natural logarithm of the ratio, correlation of the logarithms. *Style* is the "
        "regression alone, *final* after the first segmentation.",
        ("estimate", "median ratio", "median error", "largest error", "correlation"),
    )
    truth = np.log([image.diameter_px for image in images])
    numbers = range(len(images))
    estimates = {
        "ours, style": [found.provenance["style_diameter_px"] for found in ours],
        "peer, style": [float(peer[f"style_diameter_{k}"]) for k in numbers],
        "ours, final": [found.diameter_px for found in ours],
        "peer, final": [float(peer[f"diameter_{k}"]) for k in numbers],
    }
    for name, values in estimates.items():
        difference = np.log(values) - truth
        error = np.abs(difference)
        section.rows.append(
            (
                name,
                float(np.exp(np.median(difference))),
                float(np.median(error)),
                float(error.max()),
                float(np.corrcoef(np.log(values), truth)[0, 1]),
            )
        )
    for step in ("style", "final"):
        ratio = np.log(estimates[f"ours, {step}"]) - np.log(estimates[f"peer, {step}"])
        worst = int(np.abs(ratio).argmax())
        section.notes.append(
            f"Largest ratio between ours and the peer's, {step}: "
            f"{np.exp(np.abs(ratio[worst])):.6f} ({images[worst].name})."
        )
    return section


def score_histology(segmenter: Segmenter, images: list[Labelled]) -> Section:
    """Score the stained-tissue images."""
    section = Section(
        "Histology",
        f"{len(images)} RGB images of stained tissue, {sum(i.masks.max() for i in images)} nuclei; "
        "intervals are in docs/models.md.",
        COLUMNS,
    )
    for name, channel in (("gray, inverted by auto", "auto"), ("hematoxylin", "hematoxylin")):
        settings = segmenter.settings.model_copy(update={"channel": channel})
        found = [segmenter.segment(image.pixels, "YXS", settings=settings) for image in images]
        scores = [
            score_image(image.masks, result.labels, THRESHOLDS)
            for image, result in zip(images, found, strict=True)
        ]
        section.rows.append(score_row(f"ours, {name}", pool_scores(scores)))
    return section


def score_row(name: str, score: PooledScore) -> tuple[object, ...]:
    """Give the row of `COLUMNS` for one method."""
    both = (score.pooled, score.mean_per_image)
    precisions = [float(s.average_precision[k]) for k in range(len(THRESHOLDS)) for s in both]
    return (name, *precisions, *(float(s.f1[0]) for s in both), score.pooled.n_prediction)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with manifest.csv.")
    parser.add_argument("--peer-python", default="", help="Interpreter with cellpose 3.1.1.3.")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="Of the peer.")
    parser.add_argument("--no-cache", action="store_true", help="Run the peer again.")
    parser.add_argument("--json", type=Path, help="Write the report to this file too.")
    parser.add_argument("--write-docs", action="store_true", help="Write docs/accuracy.md.")
    options = parser.parse_args()
    peer = Peer(find_peer_python(options.peer_python), options.threads, not options.no_cache)
    images = read_validation(options.data, "fluo")
    with tempfile.TemporaryDirectory(prefix="cellseg-accuracy-") as folder:
        numbered = number("image", [image.pixels for image in images])
        theirs, theirs_first = (
            peer.run(
                "segment",
                numbered,
                weights=str(export_model(Path(folder), name)),
                size_model=True,
            )
            for name in (MODEL, FIRST_MODEL)
        )
    segmenter = Segmenter(make_settings(device="cpu", precision="fp32"))
    ours = [segmenter.segment(image.pixels, "YX") for image in images]
    sections = [
        *compare_methods(images, ours, theirs, theirs_first),
        compare_diameters(images, ours, theirs),
        score_histology(segmenter, read_validation(options.data, "histology")),
    ]
    return finish(
        sections,
        page="accuracy.md",
        title="Accuracy",
        introduction=INTRODUCTION,
        command="python benchmarks/accuracy.py --write-docs",
        peer_versions=peer.versions,
        json_path=options.json,
        write_docs=options.write_docs,
    )


if __name__ == "__main__":
    sys.exit(main())
