"""What `performance.py` says of its kept parts: tables, bounds, docs/performance.md and its plot.

All is derived from the kept figures, so the page can be written anew without measuring.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import _parts
from _programs import BF16, FP32, PEER, PEER_OFF, SMALL_SIDE
from _report import DOCS, Bound, Section

from cellseg_engine.core.tiling import TILE_PX, plan_tiles

FULL_SIDE = 2048
THRESHOLDS = (0.5, 0.75, 0.9)
MANY = 500
PLAIN, AMX = "", "-amx"
PROCESSORS = {PLAIN: "", AMX: ", with matrix units for bf16 (AMX)"}
"""What the kept parts of a kind of processor have in their names, and in their titles."""
PEERS = (PEER.name, PEER_OFF.name)
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
Figures = Mapping[str, Any]


def describe_one_image(figures: Figures, processor: str) -> Section:
    """Give table and bounds of one image of 2048 x 2048 px."""
    answers: Mapping[str, list[dict[str, Any]]] = figures["answers"]

    def median(name: str, what: str) -> float:
        runs = [answer["runs"][0] for answer in answers[name]]
        if what == "labels":  # all but the network
            return statistics.median(run["whole"] - run["network"] for run in runs)
        return statistics.median(run[what] for run in runs)

    def ratio(name: str, other: str, what: str) -> float:
        return median(other, what) / median(name, what)

    peaks = {name: max(one["peak"] for one in each) for name, each in answers.items()}
    rows = []
    for name in answers:
        row: list[Any] = [name]
        row += [f"{median(name, what):.2f}" for what in ("network", "labels", "whole")]
        for other in PEERS:
            parts = [f"{ratio(name, other, what):.1f}" for what in ("network", "whole")]
            row.append("" if name in PEERS else " / ".join(parts))
        row += [f"{peaks[name] / 1e9:.2f}", int(median(name, "objects"))]
        rows.append(row)
    fp32, bf16, (peer, peer_off) = FP32.name, BF16.name, PEERS
    bounds = [
        Bound("network, fp32, ratio to the peer", ratio(fp32, peer, "network"), ">=", 3.5),
        Bound("network, fp32, mkldnn off", ratio(fp32, peer_off, "network"), ">=", 2.3),
        Bound("whole image, fp32, ratio to the peer", ratio(fp32, peer, "whole"), ">=", 4),
    ]
    notes = [
        f"{name.partition(', ')[2]} here: {describe_runtime(answers[name][0]['runtime'])}."
        for name in (fp32, bf16)
    ]
    if processor == AMX:
        bounds += [
            Bound("network, bf16, ratio to the peer", ratio(bf16, peer, "network"), ">=", 14),
            Bound("network, bf16, mkldnn off", ratio(bf16, peer_off, "network"), ">=", 10),
            Bound("whole image, bf16, ratio to the peer", ratio(bf16, peer, "whole"), ">=", 10),
        ]
    else:
        notes.append(
            "The speed of bf16 has no bounds here: they are for processors with matrix units for "
            "it (AMX), and this one has none."
        )
    least, most = min(peaks[name] for name in PEERS), max(peaks[fp32], peaks[bf16])
    bounds.append(Bound("peak memory, the peer's / ours", least / most, ">=", 1))
    medians = {
        (name, what): median(name, what) for name in answers for what in ("network", "whole")
    }
    notes.append(explain_ceiling(figures, medians))
    return Section(
        f"One image of {FULL_SIDE} x {FULL_SIDE} px",
        f"Medians of {len(answers[fp32])} rounds, the programs in turn, models loaded and warm; "
        f"{figures['threads']} threads. Labels: everything but the network. Memory: the largest "
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
        notes,
    )


def describe_runtime(runtime: Figures) -> str:
    """Give what executed a network, and its kernels."""
    return f"{runtime['name']} {runtime['version']} ({', '.join(runtime['kernels'])})"


def explain_ceiling(figures: Figures, medians: Mapping[tuple[str, str], float]) -> str:
    """Say what this processor allows at most, and how our fp32 stands to that."""
    tile = figures["ceilings"][0]["tile"]
    ours, theirs = (
        tile * len(plan.tiles) * math.prod(plan.tile_shape) / TILE_PX**2
        for plan in (plan_tiles((FULL_SIDE,) * 2, tiling=name) for name in ("fewest", "cellpose"))
    )
    asked = (
        f"The peer's tiles ask for {theirs / 1000:.2f} TFLOP ({tile:.1f} GFLOP for each of "
        f"224 x 224 px, counted), ours for {ours / 1000:.2f}, by usual convolutions."
    )
    lines = [asked]
    least = {}
    for name in ("fp32", "bf16"):
        best = max(ceiling[name] for ceiling in figures["ceilings"])
        least[name] = ours / best
        network, whole = (medians[PEER.name, what] / least[name] for what in ("network", "whole"))
        lines.append(
            f"The fastest product of matrices (3072 x 3072, PyTorch) makes {best:.0f} GFLOP/s in "
            f"{name}, and at that our network takes {least[name]:.1f} s: {network:.1f} times "
            f"the peer's speed, and {whole:.1f} times for the whole image if all else took no time."
        )
    runtime = figures["answers"][FP32.name][0]["runtime"]["name"]
    decision = "([0044](decisions/0044-winograds-convolutions-in-fp32.md))"
    if runtime != "winograd":
        lines.append(f"In fp32 this is {runtime}, not the engine's own kernels {decision}.")
    else:
        passes = ", and so passes that bound" * (medians[FP32.name, "network"] < least["fp32"])
        lines.append(
            "In fp32 the engine takes Winograd's convolutions, which multiply a quarter as often "
            f"{decision}{passes}."
        )
    return " ".join(lines)


def describe_sizes(figures: Figures, _: str) -> Section:
    """Give the table of how time and memory grow with the image."""
    seconds, peaks = figures["seconds"], figures["peaks"]
    rows = [
        [
            f"{side} x {side}",
            *(
                f"{times[side]:.2f} s, {peaks[name][side]:.2f} GB" if side in times else ""
                for name, times in seconds.items()
            ),
        ]
        for side in sorted({side for times in seconds.values() for side in times}, key=int)
    ]
    text = "One run each, after a warm-up: seconds of the image, and the peak of the process."
    return Section("Growth with the size of the image", text, ("px", *seconds), rows)


def describe_many(figures: Figures, _: str) -> Section:
    """Give table and bounds of folders of small images."""
    seconds, many = figures["seconds"], str(MANY)
    estimate, each = estimate_peer(figures)
    counts = sorted({count for times in seconds.values() for count in times} | {many}, key=int)
    rows = []
    for count in counts:
        cells = {name: f"{times[count]:.1f}" for name, times in seconds.items() if count in times}
        if count == many:
            cells.setdefault(PEER.name, f"{estimate:.1f} (estimated)")
        rows.append([int(count), *(cells.get(name, "") for name in seconds)])
    bounds = [
        Bound(f"{MANY} images, {way.name}, ratio", estimate / seconds[way.name][many], ">=", 4)
        for way in (FP32, BF16)
    ]
    measured = " and ".join(sorted(seconds[PEER.name], key=int))
    text = (
        f"Seconds for folders of images of {SMALL_SIDE} x {SMALL_SIDE} px, one run each, start of "
        "the program and loading of the model included: `cellseg segment FOLDER --outputs labels` "
        "and `python -m cellpose --dir FOLDER --save_tif --no_npy`, the diameter given to both. "
        f"The peer's figure for {MANY} is no measurement: it goes on from {measured} images "
        f"({each:.2f} s an image)."
    )
    return Section("Many small images", text, ("images", *seconds), rows, bounds)


def estimate_peer(figures: Figures) -> tuple[float, float]:
    """Give the peer's seconds for `MANY` images, and for each, as a line through two folders."""
    (few, first), (more, second) = (
        (int(count), seconds) for count, seconds in figures["seconds"][PEER.name].items()
    )
    each = (second - first) / (more - few)
    return second + (MANY - more) * each, each


def describe_precision(figures: Figures, _: str) -> Section:
    """Give how alike the objects of bf16 and fp32 are, and how good."""
    section = Section(
        "Are the objects of bf16 those of fp32?",
        "Validation images of the kinds that a model is for, true diameter given, AP pooled.",
        ("model", "images", "objects", *(f"AP@{threshold:g}" for threshold in THRESHOLDS), "found"),
    )
    for model, compared in figures["scores"].items():
        for objects, score in compared.items():
            values = [f"{value:.4f}" for value in score["average_precision"]]
            section.rows.append([model, figures["images"][model], objects, *values, score["found"]])
    section.bounds = [
        Bound(f"{model}, AP@0.9 of bf16 against fp32", value, ">=", 0.99)
        for model, value in figures["agreement"].items()
    ]
    return section


DESCRIBE = {
    "one-image": describe_one_image,
    "sizes": describe_sizes,
    "many": describe_many,
    "precision": describe_precision,
}
Parts = Mapping[tuple[str, str], dict[str, Any]]


def find_parts() -> dict[tuple[str, str], dict[str, Any]]:
    """Give what is there, by part and processor."""
    places = [(name, processor) for name in DESCRIBE for processor in PROCESSORS]
    found = {place: _parts.find("performance-" + "".join(place)) for place in places}
    return {place: content for place, content in found.items() if content is not None}


def describe(name: str, processor: str, content: dict[str, Any]) -> Section:
    """Give the section of a part, with where and when it was measured."""
    section = DESCRIBE[name](content["figures"], processor)
    section.title += PROCESSORS[processor]
    section.text += f" Measured on {_parts.describe_origin(content)}."
    return section


def write_page(contents: Parts) -> None:
    """Write docs/performance.md and the plot from the parts that are there."""
    lines = ["# Performance", "", INTRODUCTION, ""]
    lines += ["Written by `make bench` (`python benchmarks/performance.py --write-docs`). Single "]
    lines[-1] += "kernels: [kernels.md](kernels.md)."
    lines += ["", "![Seconds against size and number of images](images/performance.png)", ""]
    lines += [describe(*place, content).to_markdown() for place, content in contents.items()]
    (DOCS / "performance.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    draw_growth(contents, DOCS / "images" / "performance.png")


def draw_growth(contents: Parts, path: Path) -> None:
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
    if not rows:  # nothing grows in the parts that are there
        return
    size = (4.6 * len(names), 3.6 * len(rows))
    figure, axes = plt.subplots(len(rows), len(names), figsize=size, squeeze=False)
    for row, processor in zip(axes, rows, strict=True):
        for panel, (name, label) in zip(row, names.items(), strict=True):
            content = contents.get((name, processor))
            if content is None:
                panel.axis("off")
                continue
            figures = content["figures"]
            estimates = {PEER.name: estimate_peer(figures)[0]} if name == "many" else {}
            draw_panel(panel, figures["seconds"], label, estimates)
            panel.set_title(content["machine"].split(",")[0], fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def draw_panel(
    panel: Any,
    curves: Mapping[str, Mapping[str, float]],
    name: str,
    estimates: Mapping[str, float],
) -> None:
    """Draw the seconds of each program, logarithmic; an estimate for `MANY` is hollow, dotted."""
    for label, points in curves.items():
        x = sorted(map(int, points))
        style = "--" if label in PEERS else "-"
        (line,) = panel.loglog(x, [points[str(n)] for n in x], f"o{style}", label=label)
        if label in estimates:
            panel.loglog(
                [x[-1], MANY],
                [points[str(x[-1])], estimates[label]],
                ":o",
                color=line.get_color(),
                markevery=[1],
                markerfacecolor="white",
                label=f"{label}, estimated",
            )
    ticks = sorted({int(n) for points in curves.values() for n in points})
    panel.set_xticks(ticks, [str(n) for n in ticks])
    panel.set_xticks([], minor=True)
    panel.set_xlabel(name)
    panel.set_ylabel("seconds")
    panel.grid(visible=True, which="major", alpha=0.3)
    panel.legend(frameon=False)
