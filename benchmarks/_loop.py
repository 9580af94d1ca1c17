"""The finished steps of `human_in_the_loop.py`, what they were made from, and its page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _data import read_rows
from _report import Bound, Section, describe_machine, list_versions, own_versions

PAGE, PICTURE = "human-in-the-loop.md", "human-in-the-loop.png"
KIND = "phase"
FIRST_MODEL = "nuclei"
CROP_PX = 352
"""An image is annotated in a part of this side: more images for the same work."""
ROUNDS = (4, 8, 23)
"""So many parts are corrected before each training, at most."""
FEWEST, MOST = 100, 200
"""Objects drawn by hand within which the bound has to be met; no part is added that needs more."""
SHARE = 0.9
MATCHED_IOU = 0.5


@dataclass(frozen=True)
class Round:
    """One round: the parts that were added, and what the model of all parts so far can do.

    Attributes
    ----------
    image
        Names of the images that the parts are of; ``all`` for the model of all training images.
    images, objects
        In the training set.
    found
        Objects of the new parts that the model before had found, at IoU 0.5 or better.
    missed, invented
        What the annotator had to draw and to remove in them.
    pooled, mean
        AP@0.5 on the validation images, of all objects, and the mean of the images.
    """

    image: str
    images: int
    objects: int
    found: int = 0
    missed: int = 0
    invented: int = 0
    pooled: float = 0.0
    mean: float = 0.0


Facts = dict[str, Any]


def gather_facts(data: Path, epochs: int) -> Facts:
    """Give all that the figures depend on, as JSON has it."""
    from cellseg_engine.zoo.store import find_model

    digest = hashlib.sha256()
    rows = [row for role in ("train", "val") for row in read_rows(data, role)]
    rows = sorted((row for row in rows if row["kind"] == KIND), key=lambda row: row["path"])
    for row in rows:
        digest.update(f"{row['role']} {row['path']}\n".encode())
        for part in ("img", "masks"):
            digest.update((data / f"{row['path']}_{part}.tif").read_bytes())
    facts = {
        "epochs": epochs,
        "first_model": {"name": FIRST_MODEL, "sha256": find_model(FIRST_MODEL).sha256},
        "data_sha256": digest.hexdigest(),
        "validation": sum(row["role"] == "val" for row in rows),
        "constants": {
            "part_px": CROP_PX,
            "rounds": ROUNDS,
            "most_drawn": MOST,
            "matched_iou": MATCHED_IOU,
        },
        "machine": describe_machine(),
        "versions": own_versions(),
    }
    return dict(json.loads(json.dumps(facts)))


class StaleStepsError(Exception):
    """The kept steps are of something else; one sentence."""


class Steps:
    """The finished steps, kept in a file with what they were made from.

    Raises
    ------
    StaleStepsError
        Those that are there were made from something else.
    """

    def __init__(self, folder: Path, facts: Facts) -> None:
        self._path, self._facts = folder / "rounds.json", facts
        self.rounds: dict[str, Round] = {}
        if self._path.exists():
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            earlier = kept.get("facts", {})
            changed = [name for name, value in facts.items() if earlier.get(name) != value]
            if changed:
                raise StaleStepsError(
                    f"The steps in {folder} are of another run (different: {', '.join(changed)}): "
                    "forget them with --fresh, or give another --cache."
                )
            self.rounds = {key: Round(**value) for key, value in kept["rounds"].items()}

    def keep(self, key: str, made: Round) -> Round:
        """Keep a step, at once or not at all."""
        self.rounds[key] = made
        new = self._path.with_suffix(".new")
        rounds = {name: asdict(one) for name, one in self.rounds.items()}
        content = {"facts": self._facts, "rounds": rounds}
        new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        new.replace(self._path)
        return made


def report(rounds: list[Round]) -> Section:
    """Give the table and the bound."""
    start, *loop, best = rounds
    section = Section("Rounds", "")
    section.columns = (
        "images",
        "objects in the training set",
        "of the new parts: found",
        "to draw",
        "to remove",
        "drawn in all",
        "AP@0.5 pooled",
        "AP@0.5 mean",
        "of all ROIs",
    )
    drawn = dict(zip(rounds, drawn_by_hand(rounds), strict=True))
    for one in (start, *loop, best):
        section.rows.append(
            (
                one.images,
                one.objects,
                one.found,
                one.missed,
                one.invented,
                drawn[one],
                one.pooled,
                one.mean,
                f"{one.pooled / best.pooled:.0%}",
            )
        )
    last = max((one for one in loop if drawn[one] <= MOST), key=lambda one: drawn[one])
    reached = last.pooled if drawn[last] >= FEWEST else 0.0
    section.bounds = [
        Bound(
            f"AP@0.5 pooled with {drawn[last]} objects drawn by hand, {last.objects} in the "
            f"training set, against that of all {best.objects}",
            reached / best.pooled,
            ">=",
            SHARE,
        )
    ]
    return section


def drawn_by_hand(rounds: list[Round]) -> list[int]:
    """Give how many objects were drawn up to each step; all of the model of all images."""
    *loop, best = rounds
    return [*np.cumsum([one.missed for one in loop]).tolist(), best.objects]


def draw(rounds: list[Round], path: Path) -> None:
    """Draw AP against objects drawn by hand, with the line of all of them."""
    from cellseg_engine.io.figures import figure_class

    start, *loop, best = rounds
    figure = figure_class()(figsize=(7.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = [start, *loop]
    left.axhline(best.pooled, color="0.4", lw=1, label=f"all {best.objects} objects")
    left.axhline(SHARE * best.pooled, color="0.4", lw=1, ls=":", label=f"{SHARE:.0%} of that")
    left.axvspan(FEWEST, MOST, color="0.93")
    drawn = drawn_by_hand(rounds)[:-1]
    left.plot(drawn, [one.pooled for one in shown], "o-", color="#0072b2")
    left.set(xlabel="objects drawn by hand", ylabel="AP@0.5 on validation images", ylim=(0, 1))
    left.legend(frameon=False, loc="lower right")
    numbers = range(1, len(loop) + 1)
    right.bar(numbers, [one.found for one in loop], color="#009e73", label="kept of the model's")
    bottom = [one.found for one in loop]
    right.bar(numbers, [one.missed for one in loop], bottom=bottom, color="#d55e00", label="drawn")
    room = 1.35 * max(one.found + one.missed for one in loop)  # for the legend
    right.set(xlabel="round", ylabel="objects of the new parts", xticks=list(numbers))
    right.set_ylim(0, room)
    right.legend(frameon=False, loc="upper left")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def page(rounds: list[Round], facts: Facts) -> Iterator[str]:
    """Give the lines of the page."""
    section = report(rounds)
    verdict = "; ".join(map(str, section.bounds))
    yield "# How many objects must be corrected?"
    yield ""
    yield (
        "The loop of [Teach it your cells](fiji.md#teach-it-your-cells) on whole cells in phase "
        f"contrast, which the first model, `{FIRST_MODEL}`, was never shown. A simulated "
        f"annotator corrects one part of {CROP_PX} x {CROP_PX} px after the other: draws the "
        "objects that were missed or are wrong, removes what is none, and keeps the others as the "
        "model drew them. After each round a model is trained from the first one on all parts so "
        f"far ({facts['epochs']} epochs, no annealing, the average of the last steps), and "
        f"corrected parts are added until {MOST} objects were drawn by hand. It is scored on "
        f"{facts['validation']} other images, with the diameter that the model estimates. The "
        "line is the same training on all training images, whole."
    )
    yield ""
    yield f"![AP against corrected objects, and what was left to draw](images/{PICTURE})"
    yield ""
    yield f"Written by `python benchmarks/human_in_the_loop.py --write-docs`. {verdict}."
    yield ""
    yield f"* Machine: {facts['machine']}; {list_versions(facts['versions'])}."
    yield (
        "* Found, to draw, to remove: at an IoU of 0.5. The 100 to 200 objects of Pachitariu and "
        "Stringer 2022 are those that were drawn by hand (their Figure 5), and so they are here; "
        "in the training set are more."
    )
    yield "* One order of the images and one seed: no interval is given."
    yield ""
    yield section.to_markdown()
