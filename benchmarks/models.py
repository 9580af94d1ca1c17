"""The cards of the models that come with the program, with their scores: docs/models.md.

``python benchmarks/models.py --write-docs``. The validation images are scored once per release,
with the diameter estimated; nothing was chosen on them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _data import DATA, read_rows, true_diameter
from _report import DOCS, Bound, Section, describe_machine, own_versions
from skimage.transform import resize

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.batch.evaluate import Evaluation, ScoredImage
from cellseg_engine.batch.intervals import Intervals, bootstrap
from cellseg_engine.batch.pairing import Pair, Pairing
from cellseg_engine.core.metrics import pool_scores, score_image
from cellseg_engine.errors import CellSegError
from cellseg_engine.io.images import read_image, read_labels
from cellseg_engine.nets.card import ModelCard
from cellseg_engine.zoo.store import CHECKOUT_FOLDER, find_model

THRESHOLDS = (0.5, 0.75, 0.9)
COLUMNS = (
    "images",
    "AP@0.5 pooled",
    "AP@0.5 mean per image",
    "AP@0.75 pooled",
    "AP@0.75 mean",
    "AP@0.9 pooled",
    "AP@0.9 mean",
    "right, missed, invented at 0.5",
    "diameter: median error, correlation",
)
N_WORST = 3


@dataclass(frozen=True)
class Check:
    """What a model is scored on: images of a kind, read by a channel, at a scale."""

    kind: str
    channel: str = "auto"
    scale: float = 1.0
    held_out: str = ""  # a training image that only chose between epochs

    @property
    def settings(self) -> dict[str, str]:
        """Give what differs from the defaults; the voxels of our volumes are cubes."""
        changes = {"channel": self.channel}
        if self.kind == "volume":
            changes |= {"volume_mode": "fuse", "anisotropy": "1"}
        return changes

    def __str__(self) -> str:
        parts = [self.kind, f"channel {self.channel}" * (self.channel != "auto")]
        parts.append(f"rescaled x {self.scale:g}" * (self.scale != 1))
        parts.append(f"`{self.held_out}`, which only chose between epochs" * bool(self.held_out))
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Found:
    """The scores of one check, and the diameters."""

    evaluation: Evaluation
    intervals: Intervals | None  # None for a single image
    diameters: np.ndarray  # estimated and true, shape (N, 2)

    def ap(self, threshold: float, how: str) -> float:
        """Give an average precision; ``how`` is pooled or mean_per_image."""
        total = self.evaluation.total
        at = total.pooled.thresholds.index(threshold)
        return float(getattr(total, how).average_precision[at])

    def cells(self) -> Iterator[str]:
        """Give the cells of `COLUMNS`."""
        yield str(len(self.evaluation.images))
        for threshold in THRESHOLDS:
            for how in ("pooled", "mean_per_image"):
                yield f"{self.ap(threshold, how):.3f}{self.interval(threshold, how)}"
        pooled = self.evaluation.total.pooled
        at = pooled.thresholds.index(0.5)
        yield f"{pooled.tp[at]}, {pooled.fn[at]}, {pooled.fp[at]}"
        logs = np.log(self.diameters)
        error = float(np.median(np.abs(logs[:, 0] - logs[:, 1])))
        yield f"{np.expm1(error):.0%}" + (f", {self.correlation:.2f}" if len(logs) > 1 else "")

    def interval(self, threshold: float, how: str) -> str:
        """Give the ends of an interval in brackets, or nothing."""
        if self.intervals is None:
            return ""
        low, high = getattr(self.intervals, how)[f"average_precision_{threshold:.2f}"]
        return f" ({low:.2f}-{high:.2f})"

    @property
    def correlation(self) -> float:
        """Give that of the logarithms of estimated and true diameters."""
        logs = np.log(self.diameters)
        return float(np.corrcoef(logs[:, 0], logs[:, 1])[0, 1])


FLUO, HALF, TWICE = Check("fluo"), Check("fluo", scale=0.5), Check("fluo", scale=2.0)
HISTOLOGY, STAIN = Check("histology"), Check("histology", channel="hematoxylin")
PHASE, VOLUME = Check("phase"), Check("volume")
NOISY_VOLUME = Check("volume", held_out="volumes/train/1135_mini")
CHECKS = {
    "nuclei": (FLUO, HALF, TWICE, HISTOLOGY, STAIN, VOLUME, NOISY_VOLUME),
    "generalist": (FLUO, HISTOLOGY, PHASE),
    "phase": (PHASE,),
    "nuclei3d": (VOLUME, NOISY_VOLUME, FLUO),
}


def run_check(segmenter: Segmenter, check: Check, data: Path) -> Found:
    """Segment and score the images of one check."""
    settings = make_settings(segmenter.settings, **check.settings)
    images, diameters = [], []
    for row in read_rows(data, "train" if check.held_out else "val"):
        if row["kind"] != check.kind or check.held_out not in ("", row["path"]):
            continue
        image = read_image(data / f"{row['path']}_img.tif", axes=row["axes"])
        truth, _ = read_labels(
            data / f"{row['path']}_masks.tif", axes=row["axes"].removesuffix("S")
        )
        true_px = true_diameter(row, truth) * check.scale
        pixels, truth = rescale(np.asarray(image.pixels), truth, check.scale)
        found = segmenter.segment(pixels, row["axes"], settings=settings)
        score = score_image(truth, found.labels)
        pair = Pair(row["path"], Path(row["path"]), Path(row["path"]))
        images.append(ScoredImage(pair, "", score))
        diameters.append((found.diameter_px, true_px))
    evaluation = Evaluation(
        Pairing(tuple(image.pair for image in images)),
        tuple(images),
        pool_scores([image.score for image in images]),
    )
    return Found(evaluation, bootstrap(evaluation), np.array(diameters))


def rescale(pixels: np.ndarray, truth: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Give an image (linear, antialiased) and its labels (nearest) at another scale."""
    if scale == 1:
        return pixels, truth
    shape = tuple(round(side * scale) for side in truth.shape)
    smooth = resize(pixels, shape, order=1, anti_aliasing=scale < 1, preserve_range=True)
    near = resize(truth, shape, order=0, anti_aliasing=False, preserve_range=True)
    return smooth.astype(np.float32), near.astype(truth.dtype)


def describe(name: str) -> Section:
    """Give the card of a model, without scores."""
    entry = find_model(name)
    card: ModelCard = entry.card()
    text = "\n\n".join(card_text(name, card, entry.sha256))
    return Section(f"`{name}`", text, ("scored on", *COLUMNS))


def add_scores(section: Section, found: dict[Check, Found]) -> None:
    """Add the scores of a model to its card."""
    section.rows = [(str(check), *result.cells()) for check, result in found.items()]
    for check, result in found.items():
        if check.scale == 1 and len(result.evaluation.images) > 1:
            section.notes.append(f"Worst, {check}: {'; '.join(worst(result.evaluation))}.")


def card_text(name: str, card: ModelCard, sha256: Sequence[str]) -> Iterator[str]:
    """Give the paragraphs about a model, its data and its limits."""
    record = json.loads((CHECKOUT_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    notes = tomllib.loads((CHECKOUT_FOLDER / "notes.toml").read_text(encoding="utf-8"))[name]
    low, high = card.diameter_range_px
    yield f"{card.description} {notes['use']}"
    listing = f"[models/{name}.json](../models/{name}.json)"
    chosen = "the last ones; none of the training images were held out to choose by"
    if record["held_out"]:
        n_held_out = len(record["held_out"])
        chosen = f"epoch {record['chosen_epoch']}, by {n_held_out} held-out images"
        chosen += " of the training images"
    yield "\n".join(
        f"* {fact}."
        for fact in (
            f"File: SHA-256 `{sha256[0]}`; licence {card.licence}",
            f"Origin: {card.origin.removesuffix('.')}",
            f"Trained on {card.training_data}",
            f"The images, with the SHA-256 of each: {listing}",
            f"SHA-256 of that list: `{card.training_data_sha256}`",
            "Split by group (images that look alike); validation images were never seen",
            f"Chosen weights: {chosen}",
            f"The network sees objects at {card.diam_mean_px:g} px",
            f"Its size model was fitted to diameters of {low:.0f} to {high:.0f} px",
        )
    )
    yield f"![Curves of its training](../models/{name}-curves.png)"
    yield "Known limits:\n\n" + "\n".join(f"* {limit}" for limit in notes["limits"])


def worst(evaluation: Evaluation) -> Iterator[str]:
    """Name the images with the lowest AP@0.5."""

    def precision(image: ScoredImage) -> float:
        return float(image.score.average_precision[image.score.thresholds.index(0.5)])

    for image in sorted(evaluation.images, key=precision)[:N_WORST]:
        at = image.score.thresholds.index(0.5)
        yield (
            f"{image.pair.name} {precision(image):.2f} ({image.score.tp[at]} of "
            f"{image.score.n_truth} matched, {image.score.fp[at]} invented)"
        )


def bounds(found: dict[str, dict[Check, Found]]) -> Iterator[Bound]:
    """Give what the models have to keep to."""
    pooled, mean = "pooled", "mean_per_image"
    if "nuclei" in found:
        nuclei = found["nuclei"]
        yield Bound("nuclei, fluo, AP@0.5 pooled", nuclei[FLUO].ap(0.5, pooled), ">=", 0.80)
        yield Bound("nuclei, fluo, AP@0.5 mean", nuclei[FLUO].ap(0.5, mean), ">=", 0.82)
        yield Bound("correlation of log diameters", nuclei[FLUO].correlation, ">=", 0.9)
        for check in (HALF, TWICE):
            for how in (pooled, mean):
                loss = nuclei[FLUO].ap(0.5, how) - nuclei[check].ap(0.5, how)
                yield Bound(f"loss of AP@0.5, {check}, {how}", loss, "<=", 0.03)
    if "generalist" in found and "nuclei" in found:
        for check in (FLUO, HISTOLOGY):
            loss = found["nuclei"][check].ap(0.5, mean) - found["generalist"][check].ap(0.5, mean)
            yield Bound(f"generalist below nuclei, {check}, AP@0.5 mean", loss, "<=", 0.02)
    if "nuclei3d" in found and "nuclei" in found:
        two = [found[name][NOISY_VOLUME].ap(0.5, pooled) for name in ("nuclei3d", "nuclei")]
        yield Bound("nuclei3d above nuclei, noisy volume, AP@0.5", two[0] - two[1], ">=", 0.0)
    if "phase" in found:
        yield Bound("phase, AP@0.5 pooled", found["phase"][PHASE].ap(0.5, pooled), ">=", 0.75)


def main() -> int:
    """Score, print, and write the page where asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"Of {', '.join(CHECKS)}.")
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with manifest.csv.")
    parser.add_argument("--json", type=Path, help="Write all scores to this file.")
    parser.add_argument("--write-docs", action="store_true", help="Write docs/models.md.")
    given = parser.parse_args()
    names = given.models or list(CHECKS)
    if unknown := sorted(set(names) - set(CHECKS)):
        parser.error(f"{unknown[0]} is not scored here; the models are {', '.join(CHECKS)}")
    if given.write_docs and set(names) != set(CHECKS):
        parser.error("--write-docs needs all models: leave out MODEL")
    try:
        sections = {name: describe(name) for name in names}  # first: a model may be missing
    except CellSegError as error:
        sys.exit(str(error))
    found: dict[str, dict[Check, Found]] = {}
    for name in names:
        segmenter = Segmenter(make_settings(model=name, device="cpu", precision="fp32"))
        found[name] = {check: run_check(segmenter, check, given.data) for check in CHECKS[name]}
        add_scores(sections[name], found[name])
    kept = list(bounds(found))
    for section in sections.values():
        print(section.to_text())
    print("\n".join(map(str, kept)))
    if given.json:
        scores: dict[str, Any] = {
            name: {str(check): result.evaluation.as_dict() for check, result in results.items()}
            for name, results in found.items()
        }
        given.json.write_text(json.dumps(scores, indent=1) + os.linesep, encoding="utf-8")
    if given.write_docs:
        write_page(list(sections.values()), kept)
    return 0 if all(bound.holds for bound in kept) else 1


def write_page(sections: Sequence[Section], kept: Sequence[Bound]) -> None:
    """Write docs/models.md."""
    versions = ", ".join(f"{name} {version}" for name, version in own_versions().items())
    introduction, history = (
        (CHECKOUT_FOLDER / f"{name}.md").read_text(encoding="utf-8").strip()
        for name in ("introduction", "history")
    )
    lines = [
        introduction,
        "",
        f"Written by `python benchmarks/models.py --write-docs`: {describe_machine()}; {versions}.",
        "",
        *(f"* {bound}" for bound in kept),
        "",
        *(section.to_markdown() for section in sections),
        history,
    ]
    (DOCS / "models.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
