"""How few corrected objects a model needs: the loop of Cellpose 2.0 with a simulated annotator.

``python benchmarks/human_in_the_loop.py --write-docs``. One round is what the three commands of
Fiji do: an image is segmented by the newest model, its ROIs are corrected, it is added to
a training folder, and a new model is trained from the first model on all images so far. The
model of all training images is what the rounds are measured by.

As in the paper (Pachitariu and Stringer 2022, Figures 4 and 5) the annotator draws what was missed
or is wrong, and keeps the other ROIs as the model drew them; 100 to 200 are those that are drawn.

Every finished step is kept in ``benchmarks/.cache/human-in-the-loop``, with what it was made from:
the same command goes on where it was stopped, and another one is refused. ``--fresh`` starts anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from _data import DATA, read_rows
from _loop import (
    CROP_PX,
    FIRST_MODEL,
    KIND,
    MATCHED_IOU,
    MOST,
    PAGE,
    PICTURE,
    ROUNDS,
    Facts,
    Round,
    StaleStepsError,
    Steps,
    draw,
    gather_facts,
    page,
    report,
)
from _report import DOCS

from cellseg_engine.core.matching import Matches, match_objects

CACHE = Path(__file__).parent / ".cache" / "human-in-the-loop"


@dataclass(frozen=True)
class Annotated:
    """An image and the truth about it."""

    name: str
    pixels: np.ndarray
    labels: np.ndarray


def read_images(data: Path, role: str, crop_px: int = 0) -> list[Annotated]:
    """Read the images of a role; of each the part in the middle, if a side is given."""
    from cellseg_engine.io.images import read_image, read_labels

    rows = [row for row in read_rows(data, role) if row["kind"] == KIND]
    images = []
    for row in sorted(rows, key=lambda row: row["path"]):
        pixels = np.asarray(read_image(data / f"{row['path']}_img.tif", axes="YX").pixels)
        labels = read_labels(data / f"{row['path']}_masks.tif")[0]
        if crop_px:
            top, left = (max(0, (side - crop_px) // 2) for side in labels.shape)
            part = (slice(top, top + crop_px), slice(left, left + crop_px))
            pixels, labels = pixels[part], labels[part]
        images.append(Annotated(row["path"].rpartition("/")[2], pixels, labels.astype(np.int32)))
    return images


def annotation_order(images: list[Annotated]) -> list[Annotated]:
    """Give images far apart first: they are frames of movies, and neighbours look alike."""
    places = np.argsort([int(f"{n:06b}"[::-1], 2) for n in range(len(images))], kind="stable")
    return [images[n] for n in places]


def correct(folder: Path, image: Annotated, model: str, most: int) -> Round | None:
    """Add an image as an annotator would: what is missing is drawn, what is wrong removed.

    Nothing is added, and None given, if more than ``most`` objects have to be drawn.
    """
    from cellseg_engine.io.rois import encode_rois
    from cellseg_engine.train.folder import Correction, add_image

    predicted = segment([image], model, next_diameter(folder, model))[0]
    labels, matches = mend(predicted, image.labels)
    if len(matches.unmatched_truth) > most:
        return None
    _, _, content = add_image(
        folder,
        Correction(
            image.pixels,
            "YX",
            encode_rois(labels, "YX"),
            encode_rois(predicted, "YX") if predicted.any() else b"",
            title=f"{image.name}.tif",
            source=image.name,
            model=model,
        ),
    )
    return Round(
        image.name,
        len(content.images),
        content.objects,
        len(matches.truth_ids),
        len(matches.unmatched_truth),
        len(matches.unmatched_predictions),
    )


def mend(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, Matches]:
    """Give what an annotator makes of the model's objects, and which of them are right.

    Right ones stay as the model drew them; true ones that it missed are drawn over them.
    """
    matches = match_objects(truth, predicted, MATCHED_IOU)
    labels = np.where(np.isin(predicted, matches.prediction_ids), predicted, 0)
    is_drawn = np.isin(truth, matches.unmatched_truth)
    labels[is_drawn] = truth[is_drawn] + int(predicted.max(initial=0))
    return labels.astype(np.int32), matches


def next_diameter(folder: Path, model: str) -> float:
    """Give what Next Image takes: 0, to estimate it, of a model of the folder; or the median."""
    from cellseg_engine.train.folder import read_or_begin

    content = read_or_begin(folder)
    own = {made.name for made in content.models}
    return 0.0 if model in own else content.median_diameter_px


def segment(images: list[Annotated], model: str, diameter_px: float) -> list[np.ndarray]:
    """Give the labels of images by a model; a diameter of 0 is estimated."""
    from cellseg_engine import Segmenter, make_settings

    changes = {"model": model, "diameter_px": diameter_px}
    segmenter = Segmenter(make_settings(changes, device="cpu", precision="fp32"))
    return [segmenter.segment(one.pixels, "YX", keep_fields=False).labels for one in images]


def score(images: list[Annotated], model: str) -> tuple[float, float]:
    """Give AP@0.5 of all objects, and the mean of the images, with estimated diameters."""
    from cellseg_engine.core.metrics import pool_scores, score_image

    labels = segment(images, model, 0.0)
    scores = [score_image(one.labels, two) for one, two in zip(images, labels, strict=True)]
    total = pool_scores(scores)
    at = total.pooled.thresholds.index(MATCHED_IOU)
    return (
        float(total.pooled.average_precision[at]),
        float(total.mean_per_image.average_precision[at]),
    )


def fine_tune(folder: Path, name: str, epochs: int, tell: Callable[[str], None]) -> str:
    """Train a model from the first one on all images of a folder; give its name."""
    from cellseg_engine.settings import make_settings
    from cellseg_engine.train.finetune import FineTuning
    from cellseg_engine.train.finetune import fine_tune as train
    from cellseg_engine.zoo.store import list_models

    if name in {entry.name for entry in list_models()}:  # it was stopped while it was scored
        return name
    wanted = FineTuning(
        folder, name, FIRST_MODEL, epochs=epochs, settings=make_settings(device="cpu")
    )
    train(wanted, lambda progress: tell(f"{name}: epoch {progress.epoch}"), tell)
    return name


def run(data: Path, cache: Path, facts: Facts, tell: Callable[[str], None]) -> list[Round]:
    """Run what is left of the rounds, and give all: the first model, rounds, all images."""
    steps, epochs = Steps(cache, facts), facts["epochs"]
    validation = read_images(data, "val")
    if "start" not in steps.rounds:
        pooled, mean = score(validation, FIRST_MODEL)
        steps.keep("start", Round("", 0, 0, pooled=pooled, mean=mean))
    folder, model = cache / "training folder", FIRST_MODEL
    parts = annotation_order(read_images(data, "train", CROP_PX))
    for number, size in enumerate(ROUNDS, start=1):
        key, name = f"round {number}", f"loop-{number}"
        if key not in steps.rounds:
            tell(f"{key}: {', '.join(part.name for part in parts[:size])}")
            corrected = correct_parts(steps, key, folder, parts[:size], model)
            if not corrected:
                break
            fine_tune(folder, name, epochs, tell)
            pooled, mean = score(validation, name)
            steps.keep(key, replace(together(corrected), pooled=pooled, mean=mean))
        model, parts = name, parts[size:]
    if "all" not in steps.rounds:
        steps.keep("all", _train_on_all(data, cache, epochs, validation, tell))
    order = ["start", *(key for key in steps.rounds if _is_round(key)), "all"]
    return [steps.rounds[key] for key in order]


def correct_parts(
    steps: Steps, key: str, folder: Path, parts: list[Annotated], model: str
) -> list[Round]:
    """Correct the parts of a round, until one needs more than may be drawn by hand."""
    left = MOST - sum(one.missed for step, one in steps.rounds.items() if _is_round(step))
    corrected: list[Round] = []
    for part in parts:
        step = f"{key} corrected {part.name}"
        made = steps.rounds.get(step) or correct(folder, part, model, left)
        if made is None:
            break
        corrected.append(steps.keep(step, made))
        left -= made.missed
    return corrected


def together(corrected: list[Round]) -> Round:
    """Give the corrections of several parts as one."""
    last = corrected[-1]
    return Round(
        ", ".join(one.image for one in corrected),
        last.images,
        last.objects,
        *(sum(getattr(one, name) for one in corrected) for name in ("found", "missed", "invented")),
    )


def _is_round(key: str) -> bool:
    return key.startswith("round") and "corrected" not in key


def _train_on_all(
    data: Path, cache: Path, epochs: int, validation: list[Annotated], tell: Callable[[str], None]
) -> Round:
    """Train and score the model of all training images, whole."""
    from cellseg_engine.io.rois import encode_rois
    from cellseg_engine.train.folder import Correction, add_image, read_or_begin

    folder = cache / "all images"
    content = read_or_begin(folder)
    there = {image.source for image in content.images}
    for image in read_images(data, "train"):
        if image.name not in there:
            rois = encode_rois(image.labels, "YX")
            given = Correction(image.pixels, "YX", rois, title=image.name, source=image.name)
            content = add_image(folder, given)[2]
    fine_tune(folder, "loop-all", epochs, tell)
    pooled, mean = score(validation, "loop-all")
    return Round("all", len(content.images), content.objects, pooled=pooled, mean=mean)


def main() -> int:
    """Run what is left, print, and write the page where asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with manifest.csv.")
    parser.add_argument("--cache", type=Path, default=CACHE, help="Where finished steps are kept.")
    parser.add_argument("--fresh", action="store_true", help="Forget the finished steps.")
    parser.add_argument("--epochs", type=int, default=100, help="Of every training (%(default)s).")
    parser.add_argument("--json", type=Path, help="Write the rounds to this file.")
    parser.add_argument("--write-docs", action="store_true", help=f"Write docs/{PAGE}.")
    given = parser.parse_args()
    if given.fresh:
        shutil.rmtree(given.cache, ignore_errors=True)
    given.cache.mkdir(parents=True, exist_ok=True)
    os.environ["CELLSEG_MODELS"] = str(given.cache / "models")
    facts = gather_facts(given.data, given.epochs)
    try:
        rounds = run(given.data, given.cache, facts, lambda text: print(text, file=sys.stderr))
    except StaleStepsError as error:
        sys.exit(str(error))
    section = report(rounds)
    print(section.to_text())
    if given.json:
        content = {"facts": facts, "rounds": [asdict(one) for one in rounds]}
        given.json.write_text(json.dumps(content, indent=1) + os.linesep, encoding="utf-8")
    if given.write_docs:
        draw(rounds, DOCS / "images" / PICTURE)
        lines = page(rounds, facts)
        (DOCS / PAGE).write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return 0 if all(bound.holds for bound in section.bounds) else 1


if __name__ == "__main__":
    sys.exit(main())
