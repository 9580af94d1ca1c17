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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _data import DATA, MODEL, export_model
from _peer import Peer, find_peer_python
from _report import Bound, Section, finish
from _synthetic import make_large_volume
from _volume_pictures import METHODS_PICTURE, draw_pictures
from _volumes import (
    LINK_ABOVE,
    MODEL_3D,
    WAYS,
    Volume,
    classical,
    fixed_settings,
    precision,
    read_volumes,
)

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.core.metrics import score_image
from cellseg_engine.core.volume_flows import volume_flows
from cellseg_engine.errors import CellSegError
from cellseg_engine.pipeline.volume_fields import VolumeFields
from cellseg_engine.pipeline.volume_masks import Tracing, trace_volume
from cellseg_engine.settings import Settings
from cellseg_engine.zoo.store import find_model

THRESHOLDS = (0.5, 0.75, 0.9)
BOUND_FOR = {MODEL: ("val/img3d",), MODEL_3D: ("val/img3d", "train/1135_mini")}
"""The volumes that a model has to find better than the watershed: for `nuclei` the clean one, for
`nuclei3d` those that it was not trained on; the second of them chose between its epochs."""
TURNS = {"Z": (1, 2), "Y": (0, 2), "X": (0, 1)}
"""The axes that a quarter turn about an axis exchanges."""
STYLE = np.ones(256, np.float32)
FLOW_SCALE = 5.0
NOISES = (0.0, 0.15)
CORNER = np.s_[:16, :96, :96]
"""A part of a volume that is segmented before the time is taken."""


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


def compare_synthetic(peer: Peer, noises: Sequence[float]) -> Section:
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
        find(np.ascontiguousarray(fields[:, *CORNER]), fuse)  # to warm up
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


def compare_real(volumes: list[Volume], models: list[str]) -> Section:
    """Find the nuclei of real volumes in three ways, at the true diameter and an estimated one."""
    section = Section(
        "Real volumes of nuclei",
        f"`{MODEL}` was trained on planes of other images, `{MODEL_3D}` also on slices of "
        "`1136_mini`; `1135_mini` only chose between its epochs. *fuse*: `volume_mode` fuse; "
        f"*linked*: planes linked above an IoU of {LINK_ABOVE:g}; both with the other settings as "
        "they are, at the median diameter of the true objects and at the estimated one, "
        "after a small part to warm up. "
        "*watershed*: Otsu's threshold of the smoothed volume, watershed of the distance "
        "transform from its maxima, which are half a true diameter apart at least. Scores are "
        "average precision, TP / (TP + FP + FN). How far flows may err was chosen on the two of "
        "`train`. `1137_mini` is left out, since its image shows noise only (its grey values "
        "overflowed).\n\n"
        "![One plane of each volume: truth and three methods, with AP@0.5]"
        f"(images/{METHODS_PICTURE})",
        ("volume", "method", "diameter", "AP@0.5", "AP@0.75", "AP@0.9", "found / true", "s"),
    )
    segmenters = {model: Segmenter(fixed_settings(model=model)) for model in models}
    for segmenter in segmenters.values():
        for settings in WAYS.values():
            segmenter.segment(
                volumes[0].pixels[CORNER],
                "ZYX",
                settings=make_settings(segmenter.settings, **settings),
            )
    for volume in volumes:
        name = volume.name.partition("/")[2]
        cases = [("watershed", "", volume.diameter_px)]
        cases += [
            (method, model, px)
            for model in models
            for px in (volume.diameter_px, 0.0)
            for method in WAYS
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
                    **WAYS[method],
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
    return section


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
        segmenter = Segmenter(fixed_settings(model=model, volume_mode="fuse"))
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
    segmenter = Segmenter(fixed_settings(model=MODEL))
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
                        segmenter.settings, volume_mode=mode, tiling=tiling, diameter_px=diameter
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


def main() -> int:
    """Run what is asked for; 1 when a bound fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--only", choices=("synthetic", "real", "picture"), default=None)
    parser.add_argument("--noise", type=float, nargs="+", default=NOISES, metavar="STD")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--no-cache", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    options = parser.parse_args()
    if options.write_docs and (options.only or tuple(options.noise) != NOISES):
        parser.error("--write-docs needs all of it: leave out --only and --noise")
    try:
        models = [find_model(name).name for name in (MODEL, MODEL_3D)]
    except CellSegError as error:
        sys.exit(str(error))
    if options.only == "picture":
        draw_pictures(read_volumes(options.data))
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
        volumes = read_volumes(options.data)
        sections.append(compare_real(volumes, models))
        sections.append(compare_turned(volumes, models))
        if peer is not None:
            sections.append(compare_peer(peer, volumes))
        if options.write_docs:
            draw_pictures(volumes)
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
