"""Parity with cellpose 3.1.1.3: the same weights and images must give the same fields and masks.

``python benchmarks/parity.py``; the peer gets an environment of its own (see README.md). Tables
go to standard error, JSON to standard output; the exit code is 1 when a bound fails.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _compare import (
    average_precision,
    cosine,
    explain_difference,
    relative_rms,
    share_alike,
)
from _data import DATA, FIRST_MODEL, export_model, read_validation, write_random_network
from _peer import Arrays, Peer, find_peer_python, number
from _report import Bound, Section, finish
from _synthetic import make_labels, perturb_flows

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.dynamics import follow_flows
from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.core.metrics import pool_scores, score_image
from cellseg_engine.core.resize import resize_bilinear, resize_nearest
from cellseg_engine.pipeline.masks import fields_to_labels

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "tests" / "unit" / "golden" / "resize_cv2.npz"
ITERATIONS = 200
N_IMAGES = 20
SHAPES = ((512, 512), (300, 411), (180, 200))
RESIZES = (
    ((24, 18), (37, 27)),
    ((37, 27), (24, 18)),
    ((20, 25), (10, 12)),
    ((13, 17), (31, 40)),
    ((1, 7), (3, 15)),
    ((15, 11), (15, 22)),
    ((42, 28), (54, 36)),
    ((520, 696), (331, 443)),
    ((331, 443), (520, 696)),
    ((256, 256), (1023, 1023)),
    ((1311, 645), (1449, 813)),
)
N_GOLDEN = 7
INTRODUCTION = (
    "The engine against cellpose 3.1.1.3 (the peer), each in its own environment, on the CPU in "
    "fp32: fields from the same weights, masks from the same fields, and both together on real "
    "images. *Relative rms* is the rms of the difference over the rms of the peer's values."
)


@dataclass(frozen=True)
class Work:
    """What the checks share: the peer, a folder for weights, the data."""

    peer: Peer
    folder: Path
    data: Path


def check_fields(work: Work) -> Section:
    """Blended fields and style of the same network on the same image."""
    section = Section(
        "Blended fields",
        "Normalised two-channel images through `FlowUNet.predict` (batches of 8) and `run_net`, "
        "with the peer's oneDNN path (`mkldnn=True`, its default) and without; *flips* is "
        "test-time augmentation. Error is the relative rms over flows and logit.",
        ("network", "image", "augmentation", "peer's mkldnn", "error", "1 - cosine of the styles"),
    )
    images = [_textured_image()[:, : shape[0], : shape[1]] for shape in SHAPES]
    for name, path in (
        ("random", write_random_network(work.folder)),
        (FIRST_MODEL, export_model(work.folder, FIRST_MODEL)),
    ):
        model = Segmenter(_settings(model=str(path))).model
        own = {
            (index, augmentation): model.predict(
                image, augmentation=augmentation, tiling="cellpose", batch_size=8
            )
            for index, image in enumerate(images)
            for augmentation in ("none", "flips")
        }
        worst = 0.0
        for mkldnn in (False, True):
            peer = work.peer.run(
                "fields", number("image", images), weights=str(path), mkldnn=mkldnn
            )
            for (index, augmentation), fields in own.items():
                theirs = peer[f"fields_{index}_{augmentation}"]
                error = relative_rms(np.concatenate((fields.flows * 5, fields.logit[None])), theirs)
                angle = 1 - cosine(fields.style, peer[f"style_{index}_{augmentation}"])
                size = " x ".join(map(str, SHAPES[index]))
                section.rows.append((name, size, augmentation, str(mkldnn), error, angle))
                worst = max(worst, error)
        section.bounds.append(Bound(f"largest error, {name}", worst, "<", 1e-5))
    return section


def check_masks(work: Work) -> Section:
    """Masks, flow targets and end points from the same fields."""
    labels, generator = make_labels()
    section = Section(
        "Masks from the same fields",
        f"The synthetic image of 2048 x 2048 px with {labels.max()} cells ({generator}); fields "
        "are the peer's flow targets (*exact*), and these with Gaussian noise of standard "
        "deviation 0.15 added (*perturbed*); logit +-6, 200 steps, flow threshold 0.4, smallest "
        "area 15 px. AP is between the peer's masks and ours.",
        (
            "fields",
            "peer's objects",
            "our objects",
            "AP@0.5",
            "AP@0.9",
            "pixels alike",
            "end points in the same bin",
            "largest distance of end points, px",
        ),
    )
    targets = work.peer.run("targets", {"labels": labels})["flows"]
    difference = float(np.abs(labels_to_flows(labels, "v3") - targets).max())
    section.bounds.append(Bound("largest difference of flow targets (v3)", difference, "<", 1e-5))
    logit = np.where(labels > 0, np.float32(6), np.float32(-6))
    exact = targets.astype(np.float32)
    for name, flows, sense, limit in (
        ("exact", exact, "=", 1.0),
        ("perturbed", perturb_flows(exact), ">=", 0.99),
    ):
        scaled = flows * np.float32(5)
        peer = work.peer.run("masks", {"flows": scaled, "logit": logit}, iterations=ITERATIONS)
        fields = Fields(scaled / np.float32(5), logit, np.zeros(256, np.float32))
        own = fields_to_labels(fields, _settings(), ITERATIONS, "v3").labels
        _, ends = follow_flows(fields.flows, logit > 0, ITERATIONS)
        same_bin = (ends.astype(int) == peer["ends"].astype(int)).all(axis=0)
        distance = float(np.hypot(*(ends - peer["ends"])).max())
        strict = average_precision(peer["masks"], own, 0.9)
        section.rows.append(
            (
                name,
                int(peer["masks"].max()),
                int(own.max()),
                average_precision(peer["masks"], own, 0.5),
                strict,
                share_alike(peer["masks"], own),
                float(same_bin.mean()),
                distance,
            )
        )
        section.bounds.append(Bound(f"AP@0.9, {name} fields", strict, sense, limit))
        if name == "exact":
            share = float(same_bin.mean())
            section.bounds.append(Bound("end points in the same bin, exact", share, "=", 1.0))
    section.notes.append(
        "In the perturbed fields about a quarter of the points are still on an orbit at the last "
        "step; there the last digits of the arithmetic decide where on it they stop, and so in "
        "which bin. Points that came to rest agree."
    )
    return section


def check_end_to_end(work: Work) -> Section:
    """Masks of real images at a given diameter."""
    section = Section(
        "End to end on real images",
        f"The first {N_IMAGES} fluorescence images (by name) of `nuclei/val`, the network exported "
        "as an official file, the diameter given (the median of the true objects'), otherwise "
        "defaults; ours with `invert: no`, `tiling: cellpose`, and without the second look at "
        "images with next to no objects, which the peer has not "
        "([0029](decisions/0029-a-second-look-at-images-with-next-to-no-objects.md)). *Fields* is "
        "the relative rms of flows and logit at the image's scale.",
        (
            "image",
            "diameter, px",
            "peer's objects",
            "our objects",
            "AP@0.9",
            "pixels alike",
            "fields",
        ),
    )
    path = export_model(work.folder, FIRST_MODEL)
    images = read_validation(work.data, "fluo", N_IMAGES)
    arrays = number("image", [image.pixels for image in images])
    arrays["diameters"] = np.array([image.diameter_px for image in images])
    peer = work.peer.run("segment", arrays, weights=str(path), diagnose=True)
    segmenter = Segmenter(_settings(model=str(path)))
    scores = []
    for index, image in enumerate(images):
        settings = _settings(model=str(path), diameter_px=image.diameter_px)
        own = segmenter.segment(image.pixels, "YX", settings=settings)
        theirs = peer[f"masks_{index}"]
        precision = average_precision(theirs, own.labels, 0.9)
        fields = np.concatenate((own.flows * 5, own.logits[None]))
        section.rows.append(
            (
                image.name,
                image.diameter_px,
                int(theirs.max()),
                own.n_objects,
                precision,
                share_alike(theirs, own.labels),
                relative_rms(fields, peer[f"fields_{index}"]),
            )
        )
        scores.append(score_image(theirs, own.labels, (0.9,)))
        if precision < 1:
            reason = explain_difference(peer, index, own.labels, segmenter.model, image.diameter_px)
            section.notes.append(f"{image.name}: {reason}")
    pooled = pool_scores(scores).pooled.average_precision[0]
    section.bounds.append(Bound("AP@0.9, pooled", float(pooled), ">=", 0.99))
    return section


def check_threads_and_batches(work: Work) -> Section:
    """Neither the number of threads nor the batch size may change what comes out."""
    section = Section(
        "Threads and batch size",
        "Labels of the perturbed synthetic fields and of four real images (diameter estimated), in "
        "processes with 1, 2 and 4 threads; fields of the 512 x 512 image in batches of 1, 3, 8.",
        ("what", "setting", "difference from the first"),
    )
    labels, _ = make_labels()
    flows = perturb_flows(labels_to_flows(labels, "v3"))
    logit = np.where(labels > 0, np.float32(6), np.float32(-6))
    images = [image.pixels for image in read_validation(work.data, "fluo", 4)]
    arrays = {"flows": flows, "logit": logit, **number("image", images)}
    runs = {threads: _run_worker(work.folder, arrays, threads) for threads in (1, 2, 4)}
    different = 0
    for threads, results in runs.items():
        pixels = sum(
            int((results[name] != runs[1][name]).sum())
            for name in results
            if name.startswith("labels")
        )
        error = max(
            relative_rms(results[name], runs[1][name])
            for name in results
            if name.startswith("flows")
        )
        section.rows.append(("labels", f"threads: {threads}", f"{pixels} pixels"))
        section.rows.append(("network's flows", f"threads: {threads}", error))
        different += pixels
    section.bounds.append(Bound("pixels that differ between numbers of threads", different, "=", 0))
    model = Segmenter(_settings()).model
    image = _textured_image()
    fields = {
        size: _stacked(model.predict(image, tiling="cellpose", batch_size=size))
        for size in (1, 3, 8)
    }
    errors = [relative_rms(fields[size], fields[1]) for size in fields]
    section.rows += [("fields", f"batch: {s}", e) for s, e in zip(fields, errors, strict=True)]
    section.bounds.append(Bound("largest error over batch sizes", max(errors), "<", 1e-5))
    return section


def check_resize(work: Work) -> Section:
    """Bilinear and nearest resizing against OpenCV's."""
    section = Section(
        "Resizing",
        "`resize_bilinear` and `resize_nearest` against `cv2.resize` (`INTER_LINEAR`, "
        "`INTER_NEAREST`) as the peer calls it; differences relative to the range of the values.",
        ("from", "to", "bilinear", "pixels that differ, nearest"),
    )
    arrays, shapes = _resize_inputs(RESIZES)
    peer = work.peer.run("resize", arrays, shapes=shapes)
    worst, unlike = 0.0, 0
    for index, (old, new) in enumerate(RESIZES):
        image, labels = arrays[f"image_{index}"], arrays[f"labels_{index}"]
        error = float(np.abs(resize_bilinear(image, new) - peer[f"linear_{index}"]).max())
        error /= float(np.ptp(image))
        pixels = int((resize_nearest(labels, new) != peer[f"nearest_{index}"]).sum())
        section.rows.append((f"{old[0]} x {old[1]}", f"{new[0]} x {new[1]}", error, pixels))
        worst, unlike = max(worst, error), unlike + pixels
    section.bounds.append(Bound("largest difference, bilinear", worst, "<", 1e-5))
    section.bounds.append(Bound("pixels that differ, nearest", unlike, "=", 0))
    return section


def write_golden(work: Work) -> None:
    """Write OpenCV's answers for the small sizes, for the unit tests."""
    arrays, shapes = _resize_inputs(RESIZES[:N_GOLDEN])
    peer = work.peer.run("resize", arrays, shapes=shapes)
    version = np.array(work.peer.versions["opencv-python-headless"])
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(GOLDEN, opencv_version=version, **arrays, **peer)


def _settings(**values: object):  # type: ignore[no-untyped-def]
    fixed = {
        "device": "cpu",
        "precision": "fp32",
        "invert": "no",
        "tiling": "cellpose",
        "percentile_high": math.nextafter(99, 100),  # not the default: so no second look
    }
    return make_settings({**fixed, **values})


def _textured_image(side: int = 512) -> np.ndarray:
    """Give bright noisy cells on a dark background, and a channel of noise; (2, side, side)."""
    labels, _ = make_labels(side, seed=3)
    rng = np.random.default_rng(3)
    levels = np.append(0.05, rng.uniform(0.4, 1.0, labels.max()))
    cells = levels[labels] + rng.normal(0, 0.05, labels.shape)
    return np.stack((cells, rng.normal(0, 0.05, labels.shape))).astype(np.float32)


def _resize_inputs(sizes: tuple) -> tuple[Arrays, list]:  # type: ignore[type-arg]
    rng = np.random.default_rng(1)
    arrays: Arrays = {}
    for index, (old, _) in enumerate(sizes):
        arrays[f"image_{index}"] = rng.normal(0, 1, old).astype(np.float32)
        arrays[f"labels_{index}"] = rng.integers(0, 250, old).astype(np.uint8)
    return arrays, [list(new) for _, new in sizes]


def _run_worker(folder: Path, arrays: Arrays, threads: int) -> Arrays:
    source, target = folder / "worker-input.npz", folder / f"worker-{threads}.npz"
    np.savez(source, **arrays)
    paths = (str(HERE.parent), os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "NUMBA_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    command = [sys.executable, str(HERE / "_threads_worker.py"), str(source), str(target)]
    subprocess.run(command, env=environment, check=True)
    with np.load(target) as file:
        return {name: file[name] for name in file.files}


def _stacked(fields: Fields) -> np.ndarray:
    return np.concatenate((fields.flows, fields.logit[None]))


CHECKS: dict[str, Callable[[Work], Section]] = {
    "fields": check_fields,
    "masks": check_masks,
    "end-to-end": check_end_to_end,
    "threads": check_threads_and_batches,
    "resize": check_resize,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with manifest.csv.")
    parser.add_argument("--peer-python", default="", help="Interpreter with cellpose 3.1.1.3.")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="Of the peer.")
    parser.add_argument("--no-cache", action="store_true", help="Run the peer again.")
    parser.add_argument("--json", type=Path, help="Write the report to this file too.")
    parser.add_argument("--write-docs", action="store_true", help="Write docs/parity.md.")
    parser.add_argument("--write-golden", action="store_true", help="Write the tests' cv2 outputs.")
    options = parser.parse_args()
    if options.write_docs and set(options.only) != set(CHECKS):
        parser.error("--write-docs needs all checks: leave out --only")
    peer = Peer(find_peer_python(options.peer_python), options.threads, not options.no_cache)
    with tempfile.TemporaryDirectory(prefix="cellseg-parity-") as folder:
        work = Work(peer, Path(folder), options.data)
        if options.write_golden:
            write_golden(work)
        sections = [CHECKS[name](work) for name in options.only]
    return finish(
        sections,
        page="parity.md",
        title="Parity with cellpose 3.1.1.3",
        introduction=INTRODUCTION,
        command="python benchmarks/parity.py --write-docs",
        peer_versions=peer.versions,
        json_path=options.json,
        write_docs=options.write_docs,
    )


if __name__ == "__main__":
    sys.exit(main())
