"""Score an ensemble against its networks.

``python benchmarks/ensemble.py MODEL... --write-docs`` scores each model (names or weights files,
at least two) and all of them averaged on the validation images of one kind, at the true diameter
of each image, as Pachitariu and Stringer 2022 compare models; it writes docs/ensemble.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _data import DATA
from _report import Bound, Section, finish

from cellseg_engine import make_settings
from cellseg_engine.core.labels import median_diameter
from cellseg_engine.core.metrics import ImageScore, pool_scores, score_image
from cellseg_engine.errors import CellSegError
from cellseg_engine.io.images import read_image, read_labels
from cellseg_engine.nets.card import check_ensemble, write_weights
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.train.sources import Source, find_sources
from cellseg_engine.zoo.store import read_model

THRESHOLDS = (0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Result:
    """Scores of one model."""

    name: str
    scores: list[ImageScore]
    seconds: float

    @property
    def mean_ap(self) -> list[float]:
        values = pool_scores(self.scores).mean_per_image.average_precision
        return [float(value) for value in values]


def score_model(name: str, model: str, sources: Sequence[Source], device: str) -> Result:
    """Score a model on images at the diameter of their true objects."""
    segmenter = Segmenter(make_settings({"model": model, "device": device}))
    scores, seconds = [], 0.0
    for source in sources:
        image = read_image(source.image, axes=source.axes or None)
        truth = read_labels(source.annotation)[0]
        settings = make_settings(
            segmenter.settings,
            diameter_px=median_diameter(truth),
            channel=source.channel or "auto",
        )
        start = time.perf_counter()
        found = segmenter.segment(image.pixels, image.axes, settings=settings, keep_fields=False)
        seconds += time.perf_counter() - start
        scores.append(score_image(truth, found.labels, THRESHOLDS))
        print(f"{name}: {source.name} {scores[-1].average_precision[0]:.3f}", file=sys.stderr)
    return Result(name, scores, seconds)


def write_ensemble(models: Sequence[str], folder: Path) -> str:
    """Write the networks of models into a folder, as one model."""
    files = [file for model in models for file in read_model(model)]
    check_ensemble(", ".join(models), files)
    for number, file in enumerate(files):
        size_model = file.size_model if number == 0 else None
        write_weights(folder / f"{number:02}.safetensors", file.card, file.arrays, size_model)
    return f"{folder}/"


def main() -> int:
    """Score the models and their average."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="Names or weights files, at least two.")
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with manifest.csv.")
    parser.add_argument("--kind", default="fluo")
    parser.add_argument("--role", default="val")
    parser.add_argument("--count", type=int, default=0, help="Only the first images.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="Write all to this file.")
    parser.add_argument("--write-docs", action="store_true")
    given = parser.parse_args()
    if len(given.models) < 2:
        parser.error("an ensemble has at least two networks")
    try:
        sources = find_sources([given.data], role=given.role, kinds=[given.kind]).sources
        sources = sources[: given.count or None]
        with tempfile.TemporaryDirectory() as folder:
            together = write_ensemble(given.models, Path(folder))
            cards = [file.card for file in read_model(together)]
            results = [
                *(score_model(Path(one).name, one, sources, given.device) for one in given.models),
                score_model("ensemble", together, sources, given.device),
            ]
    except CellSegError as error:
        sys.exit(str(error))
    section = Section(
        "Scores",
        f"{len(sources)} images of the kind {given.kind}, role {given.role}; mean AP per image; "
        f"the diameter is the true one of each image. {cards[0].origin} {cards[0].training_data}. "
        "The other networks: other seeds.",
    )
    section.columns = ("model", "AP@0.5", "AP@0.75", "AP@0.9", "seconds for all images")
    for result in results:
        section.rows.append((result.name, *result.mean_ap, round(result.seconds, 1)))
    *members, ensemble = (result.mean_ap[0] for result in results)
    section.bounds.append(
        Bound(
            "AP@0.5 of the ensemble less the mean of its networks",
            ensemble - float(np.mean(members)),
            ">=",
            0.0,
        )
    )
    return finish(
        [section],
        page="ensemble.md",
        title="An ensemble against its networks",
        introduction="Networks that were trained alike, each by itself and with their outputs "
        "averaged ([how to make an ensemble](training.md#several-networks-as-one-model)).",
        command=f"python benchmarks/ensemble.py {' '.join(Path(m).name for m in given.models)} "
        f"--kind {shlex.quote(given.kind)} --write-docs",
        peer_versions={},
        json_path=given.json,
        write_docs=given.write_docs,
    )


if __name__ == "__main__":
    sys.exit(main())
