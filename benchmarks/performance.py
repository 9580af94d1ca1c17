"""Whole images: this engine beside cellpose 3.1.1.3 (the peer) on a CPU, without a GPU.

``python benchmarks/performance.py`` measures all parts, ``--part one-image`` a single one; each is
kept in benchmarks/results, those of processors with matrix units beside those of others.
``--write-docs`` writes docs/performance.md and its plot from what is there, and the agreement of
bf16 with fp32 into models.toml, for models whose weights are those it was measured on. Each program
runs in a process of its own after a warm-up: in ``one-image`` in turn, several rounds, of which
the page gives the median; in the other parts once.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _parts
import numpy as np
import tifffile
from _data import DATA, MODELS, Labelled, read_validation
from _performance_page import (
    AMX,
    FULL_SIDE,
    MANY,
    PLAIN,
    THRESHOLDS,
    describe,
    find_parts,
    write_page,
)
from _programs import (
    BF16,
    DIAMETER_PX,
    FP32,
    PEER,
    PEER_OFF,
    SMALL_SIDE,
    TORCH,
    Bench,
    Way,
    draw_cells,
)

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.core.metrics import pool_scores, score_image
from cellseg_engine.nets.choose_runtime import is_installed
from cellseg_engine.nets.processor import has_bf16_units
from cellseg_engine.zoo.store import find_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools.catalogue import note_agreement

SIDES = {"fp32": (512, 1024, 2048, 4096), "bf16": (512, 1024, 2048, 4096, 8192)}
PEER_SIDES = (512, 1024, 2048)
COUNTS = {"fp32": (10, 100, MANY), "bf16": (10, 100, MANY, 1000)}
PEER_COUNTS = (10, 60)


def one_image(bench: Bench) -> dict[str, Any]:
    """Measure one image of 2048 x 2048 px."""
    ways = [FP32, BF16, PEER, PEER_OFF, *([TORCH] if bench.with_torch else [])]
    path = bench.image(FULL_SIDE)
    answers: dict[str, list[dict[str, Any]]] = {way.name: [] for way in ways}
    ceilings = []
    for _ in range(bench.rounds):
        ceilings.append(bench.ceiling())
        for way in ways:
            answers[way.name].append(bench.run(way, [path]))
    return {"threads": bench.threads, "answers": answers, "ceilings": ceilings}


def sizes(bench: Bench) -> dict[str, Any]:
    """Measure how time and memory grow with the image."""
    seconds: dict[str, dict[int, float]] = {}
    peaks: dict[str, dict[int, float]] = {}
    for way in (FP32, BF16, PEER, PEER_OFF):
        for side in SIDES.get(way.precision, PEER_SIDES):
            answer = bench.run(way, [bench.image(side)])
            seconds.setdefault(way.name, {})[side] = answer["runs"][0]["whole"]
            peaks.setdefault(way.name, {})[side] = answer["peak"] / 1e9
    return {"seconds": seconds, "peaks": peaks}


def many(bench: Bench) -> dict[str, Any]:
    """Measure folders of small images through both command lines."""
    seconds = {
        way.name: {
            count: run_folder(bench, way, count) for count in COUNTS.get(way.precision, PEER_COUNTS)
        }
        for way in (FP32, BF16, PEER)
    }
    return {"seconds": seconds}


def run_folder(bench: Bench, way: Way, count: int) -> float:
    """Give the seconds of a folder of images."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as name:
        source = Path(name, "images")
        source.mkdir()
        for number in range(count):
            image = draw_cells(SMALL_SIDE, number)
            tifffile.imwrite(source / f"{number:04d}.tif", image, photometric="minisblack")
        if way.is_peer:
            command = [str(bench.python), "-m", "cellpose", "--dir", str(source), "--no_npy"]
            command += ["--pretrained_model", str(bench.weights), "--save_tif"]
            command += ["--diameter", f"{DIAMETER_PX:g}", "--chan", "0"]
        else:
            command = [sys.executable, "-m", "cellseg_engine", "segment", str(source)]
            command += ["--out", f"{name}/out", "--outputs", "labels", "--device", "cpu"]
            command += ["--diameter-px", f"{DIAMETER_PX:g}"]
            command += ["--precision", way.precision]
        start = time.perf_counter()
        bench.call(command, way.name)
        seconds = time.perf_counter() - start
        made = list(Path(name).rglob("*_labels.tif" if not way.is_peer else "*_cp_masks.tif"))
        if len(made) != count:
            raise RuntimeError(f"{way.name} made {len(made)} label images of {count}.")
    print(f"  {way.name}: {count} images {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


def precision(bench: Bench) -> dict[str, Any]:
    """Compare the objects of bf16, of fp32 and true ones."""
    found: dict[str, dict[str, Any]] = {
        name: {} for name in ("weights", "images", "scores", "agreement")
    }
    for model, kinds in MODELS.items():
        images = [image for kind in kinds for image in read_validation(bench.data, kind)]
        truth = [image.masks for image in images]
        full, half = (segment_all(model, name, images) for name in ("fp32", "bf16"))
        found["weights"][model] = list(find_model(model).sha256)
        found["images"][model] = len(images)
        scores = found["scores"][model] = {
            "bf16 against fp32": compare(full, half),
            "fp32 against the truth": compare(truth, full),
            "bf16 against the truth": compare(truth, half),
        }
        found["agreement"][model] = scores["bf16 against fp32"]["average_precision"][-1]
    return found


def compare(expected: Sequence[np.ndarray], given: Sequence[np.ndarray]) -> dict[str, Any]:
    """Give the pooled average precision at each threshold, and the number of objects."""
    scores = [score_image(*pair, THRESHOLDS) for pair in zip(expected, given, strict=True)]
    pooled = pool_scores(scores).pooled
    values = [float(value) for value in pooled.average_precision]
    return {"average_precision": values, "found": pooled.n_prediction}


def segment_all(model: str, precision: str, images: Sequence[Labelled]) -> list[np.ndarray]:
    """Give the objects of images at their true diameters, of stacks as volumes of cubic voxels."""
    segmenter = Segmenter(make_settings(model=model, device="cpu", precision=precision))
    labels = []
    for image in images:
        settings = make_settings(segmenter.settings, diameter_px=image.diameter_px)
        if image.axes == "ZYX":
            settings = make_settings(settings, volume_mode="fuse", anisotropy="1")
        labels.append(segmenter.segment(image.pixels, image.axes, settings=settings).labels)
    return labels


WITHOUT_PEER = ("precision",)
PARTS = {"one-image": one_image, "sizes": sizes, "many": many, "precision": precision}


def main() -> int:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, nargs="+", default=[], help="Only these.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--with-torch", action="store_true", help="Time ours on PyTorch too.")
    parser.add_argument("--peer-python", default="", help="Interpreter with cellpose 3.1.1.3.")
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with manifest.csv.")
    parser.add_argument("--write-docs", action="store_true", help="Write docs/performance.md.")
    parser.add_argument("--no-run", action="store_true", help="Only write the page.")
    options = parser.parse_args()
    parts = [] if options.no_run else options.part or list(PARTS)
    if parts and not is_installed():
        parser.error("needs OpenVINO: pip install 'cellseg-engine[openvino]'")
    if "precision" in parts and not (options.data / "manifest.csv").is_file():
        lacking = f"the part precision needs labelled images, which {options.data} does not have"
        if options.part:
            parser.error(f"{lacking}: give their folder with --data")
        print(f"Left out: {lacking}.", file=sys.stderr, flush=True)
        parts.remove("precision")
    holds = measure(parts, options) if parts else True
    if options.write_docs:
        contents = find_parts()
        write_page(contents)
        evidence = [each["figures"] for (name, _), each in contents.items() if name == "precision"]
        note_agreement(evidence)
    return 0 if holds else 1


def measure(parts: Sequence[str], options: argparse.Namespace) -> bool:
    """Measure parts, keep and print each at once; say whether all bounds hold."""
    processor = AMX if has_bf16_units() else PLAIN
    holds = True
    with tempfile.TemporaryDirectory(prefix="cellseg-performance-") as folder:
        bench = Bench(Path(folder), options)
        for name in parts:
            print(name, file=sys.stderr, flush=True)
            figures = PARTS[name](bench)
            peer = {} if name in WITHOUT_PEER else bench.peer_versions
            content = _parts.keep(f"performance-{name}{processor}", figures, peer)
            section = describe(name, processor, content)
            print(section.to_text(), flush=True)
            holds &= all(bound.holds for bound in section.bounds)
    return holds


if __name__ == "__main__":
    sys.exit(main())
