"""Whole images: this engine beside cellpose 3.1.1.3 (the peer) on a CPU, without a GPU.

``python benchmarks/performance.py`` measures all parts, ``--part one-image`` a single one; each is
kept in benchmarks/results, those of processors with matrix units beside those of others.
``--write-docs`` writes docs/performance.md and its plot from what is there. Programs run in turn,
each round in a process of its own after a warm-up; tables give medians of the rounds.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
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
from _report import DOCS, Bound, Section

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.core.metrics import pool_scores, score_image
from cellseg_engine.core.tiling import TILE_PX, plan_tiles
from cellseg_engine.nets.choose_runtime import is_installed
from cellseg_engine.nets.processor import has_bf16_units

FULL_SIDE = 2048
SIDES = {"fp32": (512, 1024, 2048, 4096), "bf16": (512, 1024, 2048, 4096, 8192)}
PEER_SIDES = (512, 1024, 2048)
COUNTS = {"fp32": (10, 100, 500), "bf16": (10, 100, 500, 1000)}
PEER_COUNTS = (10, 60)
MANY = 500
THRESHOLDS = (0.5, 0.75, 0.9)
INTRODUCTION = (
    "How long whole images take on a CPU, and how much memory: this engine beside cellpose 3.1.1.3 "
    "(the peer), with the same weights (`nuclei`, for the peer as an official file), the same "
    "synthetic images (touching cells of 17 px, the network's own scale), the same diameter "
    "given and the same number of threads. *Peer* is cellpose as installed; *peer, mkldnn off* is "
    "its other way to calculate on a CPU (`mkldnn=False`), which a user has to know of. It sees "
    "144 tiles of 224 px in an image of 2048 x 2048 px, this engine 16 of 552 px "
    "([0031](decisions/0031-fewer-larger-tiles.md)); the peer's Python interface can be told to "
    "take larger ones (`bsize`), its command line and window cannot. Ratios are how many times "
    "faster this engine is."
)


def one_image(bench: Bench) -> tuple[Section, dict[str, Any]]:
    """Give the times of one image of 2048 x 2048 px."""
    ways = [FP32, BF16, PEER, PEER_OFF, *([TORCH] if bench.with_torch else [])]
    path = bench.image(FULL_SIDE)
    answers: dict[str, list[dict[str, Any]]] = {way.name: [] for way in ways}
    ceilings = []
    for _ in range(bench.rounds):
        ceilings.append(bench.ceiling())
        for way in ways:
            answers[way.name].append(bench.run(way, [path]))

    def median(way: Way, what: str) -> float:
        return statistics.median(answer["runs"][0][what] for answer in answers[way.name])

    def ratio(way: Way, other: Way, what: str) -> float:
        return median(other, what) / median(way, what)

    rows = []
    for way in ways:
        peak = max(answer["peak"] for answer in answers[way.name])
        row: list[Any] = [way.name]
        row += [f"{median(way, what):.2f}" for what in ("network", "labels", "whole")]
        for other in (PEER, PEER_OFF):
            parts = [f"{ratio(way, other, what):.1f}" for what in ("network", "whole")]
            row.append("" if way.is_peer else " / ".join(parts))
        row += [f"{peak / 1e9:.2f}", int(median(way, "objects"))]
        rows.append(row)
    peaks = {name: max(one["peak"] for one in each) for name, each in answers.items()}
    bounds = [
        Bound("network, fp32, ratio to the peer", ratio(FP32, PEER, "network"), ">=", 3.5),
        Bound("network, fp32, mkldnn off", ratio(FP32, PEER_OFF, "network"), ">=", 2.3),
        Bound("whole image, fp32, ratio to the peer", ratio(FP32, PEER, "whole"), ">=", 4),
        Bound("network, bf16, ratio to the peer", ratio(BF16, PEER, "network"), ">=", 14),
        Bound("network, bf16, mkldnn off", ratio(BF16, PEER_OFF, "network"), ">=", 10),
        Bound("whole image, bf16, ratio to the peer", ratio(BF16, PEER, "whole"), ">=", 10),
        Bound(
            "peak memory, the peer's / ours",
            min(peaks[PEER.name], peaks[PEER_OFF.name]) / max(peaks[FP32.name], peaks[BF16.name]),
            ">=",
            1,
        ),
    ]
    section = Section(
        "One image of 2048 x 2048 px",
        f"Medians of {bench.rounds} rounds, the programs in turn, models loaded and warm; "
        f"{bench.threads} threads. Labels: everything but the network. Memory: the largest "
        "resident set of the whole process.",
        (
            "program",
            "network, s",
            "labels, s",
            "whole, s",
            "ratio to peer (network / whole)",
            "mkldnn off",
            "peak, GB",
            "objects",
        ),
        rows,
        bounds,
        [
            f"bf16 here: {answers[BF16.name][0]['runtime']['kernels']}.",
            explain_bound(ceilings, median(PEER, "network"), median(PEER, "whole")),
        ],
    )
    return section, {"answers": answers, "ceilings": ceilings}


def explain_bound(ceilings: Sequence[dict[str, float]], network: float, whole: float) -> str:
    """Say what this processor allows at most, given the peer's seconds."""
    tile = ceilings[0]["tile"]
    ours, theirs = (
        tile * len(plan.tiles) * math.prod(plan.tile_shape) / TILE_PX**2
        for plan in (plan_tiles((FULL_SIDE,) * 2, tiling=name) for name in ("fewest", "cellpose"))
    )
    amounts = f"{theirs / 1000:.2f} TFLOP ({tile:.1f} GFLOP for each of 224 x 224 px, counted)"
    bound = (
        f"The peer's tiles ask for {amounts}, ours for {ours / 1000:.2f}, by usual convolutions."
    )
    lines = [bound]
    for name in ("fp32", "bf16"):
        best = max(ceiling[name] for ceiling in ceilings)
        seconds = ours / best
        lines.append(
            f"The fastest product of matrices (3072 x 3072, PyTorch) makes {best:.0f} GFLOP/s in "
            f"{name}, and at that our network takes {seconds:.1f} s: {network / seconds:.1f} times "
            f"the peer's speed, and {whole / seconds:.1f} times for the whole image if all else "
            "took no time."
        )
    lines.append(
        "In fp32 the engine takes Winograd's convolutions, which multiply a quarter as often "
        "([0044](decisions/0044-winograds-convolutions-in-fp32.md)), and so passes that bound."
    )
    return " ".join(lines)


def sizes(bench: Bench) -> tuple[Section, dict[str, Any]]:
    """Give how time and memory grow with the image."""
    seconds: dict[str, dict[int, float]] = {}
    peaks: dict[str, dict[int, float]] = {}
    for way in (FP32, BF16, PEER, PEER_OFF):
        for side in SIDES.get(way.precision, PEER_SIDES):
            answer = bench.run(way, [bench.image(side)])
            seconds.setdefault(way.name, {})[side] = answer["runs"][0]["whole"]
            peaks.setdefault(way.name, {})[side] = answer["peak"] / 1e9
    rows = [
        [
            f"{side} x {side}",
            *(
                f"{times[side]:.2f} s, {peaks[name][side]:.2f} GB" if side in times else ""
                for name, times in seconds.items()
            ),
        ]
        for side in SIDES["bf16"]
    ]
    text = "One run each, after a warm-up: seconds of the image, and the peak of the process."
    section = Section("Growth with the size of the image", text, ("px", *seconds), rows)
    return section, {"seconds": seconds, "peaks": peaks}


def many(bench: Bench) -> tuple[Section, dict[str, Any]]:
    """Give the time of folders of small images through both command lines."""
    seconds: dict[str, dict[int, float]] = {}
    for way in (FP32, BF16):
        for count in COUNTS[way.precision]:
            seconds.setdefault(way.name, {})[count] = run_folder(bench, way, count)
    for count in PEER_COUNTS:
        seconds.setdefault(PEER.name, {})[count] = run_folder(bench, PEER, count)
    few, more = PEER_COUNTS
    times = seconds[PEER.name]
    each = (times[more] - times[few]) / (more - few)
    estimate = times[more] + (MANY - more) * each
    times[MANY] = estimate
    rows = [
        [count, *(f"{times[count]:.1f}" if count in times else "" for times in seconds.values())]
        for count in sorted({*COUNTS["bf16"], *PEER_COUNTS})
    ]
    bounds = [
        Bound(f"{MANY} images, {way.name}, ratio", estimate / seconds[way.name][MANY], ">=", 4)
        for way in (FP32, BF16)
    ]
    text = (
        f"Seconds for folders of images of {SMALL_SIDE} x {SMALL_SIDE} px, start of the program "
        "and loading of the model included: `cellseg segment FOLDER --outputs labels` and "
        "`python -m cellpose --dir FOLDER --save_tif --no_npy`, the diameter given to both. The "
        f"peer's figure for {MANY} goes on from {few} and {more} images ({each:.2f} s an image)."
    )
    return Section("Many small images", text, ("images", *seconds), rows, bounds), {
        "seconds": seconds
    }


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


def precision(bench: Bench) -> tuple[Section, dict[str, Any]]:
    """Give how alike the objects of bf16 and fp32 are, and how good."""
    section = Section(
        "Are the objects of bf16 those of fp32?",
        "Validation images of the kinds that a model is for, true diameter given, AP pooled.",
        ("model", "images", "objects", *(f"AP@{threshold:g}" for threshold in THRESHOLDS), "found"),
    )
    agreement = {}
    for model, kinds in MODELS.items():
        images = [image for kind in kinds for image in read_validation(bench.data, kind)]
        truth = [image.masks for image in images]
        full, half = (segment_all(model, name, images) for name in ("fp32", "bf16"))
        for name, expected, given in (
            ("bf16 against fp32", full, half),
            ("fp32 against the truth", truth, full),
            ("bf16 against the truth", truth, half),
        ):
            scores = [score_image(*pair, THRESHOLDS) for pair in zip(expected, given, strict=True)]
            pooled = pool_scores(scores).pooled
            values = [f"{value:.4f}" for value in pooled.average_precision]
            section.rows.append([model, len(images), name, *values, pooled.n_prediction])
            if expected is full:
                agreement[model] = float(pooled.average_precision[-1])
    section.bounds = [
        Bound(f"{model}, AP@0.9 of bf16 against fp32", value, ">=", 0.99)
        for model, value in agreement.items()
    ]
    return section, {"agreement": agreement}


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


PARTS = {"one-image": one_image, "sizes": sizes, "many": many, "precision": precision}
PLAIN, AMX = "", "-amx"
PROCESSORS = {PLAIN: "", AMX: ", with matrix units for bf16 (AMX)"}
"""What the kept parts of a kind of processor have in their names, and in their titles."""


def find_parts() -> dict[tuple[str, str], dict[str, Any]]:
    """Give what is there, by part and processor."""
    places = [(name, processor) for name in PARTS for processor in PROCESSORS]
    found = {place: _parts.find("performance-" + "".join(place)) for place in places}
    return {place: content for place, content in found.items() if content is not None}


def write_page() -> None:
    """Write docs/performance.md and the plot from the parts that are there."""
    contents = find_parts()
    lines = ["# Performance", "", INTRODUCTION, ""]
    lines += ["Written by `make bench` (`python benchmarks/performance.py --write-docs`). Single "]
    lines[-1] += "kernels: [kernels.md](kernels.md)."
    lines += ["", "![Seconds against size and number of images](images/performance.png)", ""]
    for (_, processor), content in contents.items():
        section = _parts.as_section(content)
        section.title += PROCESSORS[processor]
        lines.append(section.to_markdown())
    (DOCS / "performance.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    draw_growth(contents, DOCS / "images" / "performance.png")


def draw_growth(contents: dict[tuple[str, str], dict[str, Any]], path: Path) -> None:
    """Draw seconds against sides and counts, a row for each kind of processor."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = {
        "sizes": "side of the image, px",
        "many": f"images of {SMALL_SIDE} x {SMALL_SIDE} px",
    }
    rows = [
        processor
        for processor in PROCESSORS
        if any((name, processor) in contents for name in names)
    ]
    size = (4.6 * len(names), 3.6 * len(rows))
    figure, axes = plt.subplots(len(rows), len(names), figsize=size, squeeze=False)
    for row, processor in zip(axes, rows, strict=True):
        for panel, (name, label) in zip(row, names.items(), strict=True):
            if (name, processor) in contents:
                draw_panel(panel, contents[name, processor]["figures"]["seconds"], label)
                panel.set_title(contents[name, processor]["machine"].split(",")[0], fontsize=9)
            else:
                panel.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def draw_panel(panel: Any, curves: dict[str, dict[str, float]], name: str) -> None:
    """Draw the seconds of each program, logarithmic on both axes."""
    for label, points in curves.items():
        x = sorted(map(int, points))
        style = "--" if label.startswith("peer") else "-"
        panel.loglog(x, [points[str(n)] for n in x], f"o{style}", label=label)
    ticks = sorted({int(n) for points in curves.values() for n in points})
    panel.set_xticks(ticks, [str(n) for n in ticks])
    panel.set_xticks([], minor=True)
    panel.set_xlabel(name)
    panel.set_ylabel("seconds")
    panel.grid(visible=True, which="major", alpha=0.3)
    panel.legend(frameon=False)


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
    if not is_installed():
        parser.error("needs OpenVINO: pip install 'cellseg-engine[openvino]'")
    failed = False
    if not options.no_run:
        with tempfile.TemporaryDirectory(prefix="cellseg-performance-") as folder:
            bench = Bench(Path(folder), options)
            for name in options.part or PARTS:
                print(name, file=sys.stderr, flush=True)
                section, figures = PARTS[name](bench)
                processor = AMX if has_bf16_units() else PLAIN
                _parts.keep(f"performance-{name}{processor}", section, figures, bench.peer_versions)
                print(section.to_text(), flush=True)
                failed |= not all(bound.holds for bound in section.bounds)
    if options.write_docs:
        write_page()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
