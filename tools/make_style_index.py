"""Make the index of training styles: python tools/make_style_index.py [TABLE...] [--network MODEL].

TABLE is a table of images as tools/train_models.py writes it (images.csv), or a manifest.csv;
without one it is the training images of all shipped models, in ../shared/data (or --data). The
network looks at every image of the role train as `cellseg models suggest` does: without knowing
the diameter. The index goes to cellseg_engine/zoo/styles.npz, or to --out.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cellseg_engine.errors import CellSegError
from cellseg_engine.io.staging import staged
from cellseg_engine.settings import make_settings
from cellseg_engine.train.sources import Source, find_sources
from cellseg_engine.train.style_index import make_index
from cellseg_engine.zoo.styles import INDEX_FILE, score_index, write_index

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools.train_models import DIAM_MEAN_PX, PLANS, ROOT, training_rows

MODELS = {
    "fluo": "nuclei",
    "fluo-large": "nuclei",
    "fluo-small": "nuclei",
    "fluo-field": "nuclei",
    "histology": "nuclei",
    "brightfield": "nuclei",
    "phase": "phase",
    "bacteria": "generalist",
}
"""The model to suggest for each kind of the shipped models' training images."""


def main() -> int:
    """Look at the images and write the index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--network", default="generalist", help="whose styles; default: generalist")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="KIND=MODEL",
        help="what to suggest for a kind; may be repeated; without, the shipped models",
    )
    parser.add_argument("--per-kind", type=int, default=0, help="at most so many images of a kind")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path, help="keeps the style of each image, to go on later")
    parser.add_argument("--out", type=Path, default=INDEX_FILE)
    given = parser.parse_args()
    try:
        models = _models(given.model)
        found = find_sources(given.tables).sources if given.tables else shipped_images(given.data)
        sources = _choose(found, given.per_kind)
        if unknown := {source.kind for source in sources} - models.keys():
            parser.error(
                f"which model is for {', '.join(sorted(unknown))}? Give --model KIND=MODEL"
            )
        settings = make_settings({"model": given.network, "device": given.device})
        index = make_index(sources, settings, models, given.cache, show_progress)
        with staged(given.out.parent) as stage:
            write_index(stage.path(given.out.name), index)
    except CellSegError as error:
        sys.exit(str(error))
    for kind, (right, n_images) in score_index(index).items():
        print(f"{kind}: {right} of {n_images} get {index.models[kind]}, other groups deciding")
    for kind in ("", *index.models):
        print(f"familiar up to a distance of {index.familiar_distance(kind):.4f}: {kind or 'all'}")
    print(f"{given.out}: {len(index.names)} images, {given.out.stat().st_size / 1024:.0f} KiB")
    return 0


def shipped_images(data: Path) -> list[Source]:
    """Give the planes that the shipped models are trained on."""
    rows = [
        row
        for plan in PLANS.values()
        for row in training_rows(data, plan, DIAM_MEAN_PX)
        if row["kind"] in MODELS
    ]
    return [
        Source(
            name=row["path"],
            image=Path(row["image"]),
            annotation=Path(row["labels"]),
            annotation_kind="labels",
            kind=row["kind"],
            group=row["group"],
            axes=row["axes"],
            channel=row["channel"],
        )
        for row in rows
    ]


def show_progress(done: int, total: int) -> None:
    """Print a line now and then."""
    if done % 25 == 0 or done == total:
        print(f"{done}/{total} images", flush=True)


def _models(given: Iterable[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := [kind for kind, sign, model in pairs if not (kind and sign and model)]:
        sys.exit(f"--model {wrong[0]}: KIND=MODEL is expected.")
    return MODELS | {kind: model for kind, _, model in pairs}


def _choose(sources: Iterable[Source], per_kind: int) -> list[Source]:
    """Give each image and channel once, of every kind at most so many, spread over its images."""
    unique = {(source.image, source.channel): source for source in sources}
    counts = Counter(source.kind for source in unique.values())
    chosen, seen = [], Counter[str]()
    for source in unique.values():
        place = seen[source.kind]
        seen[source.kind] += 1
        n_images = counts[source.kind]
        if not per_kind or place * per_kind // n_images != (place - 1) * per_kind // n_images:
            chosen.append(source)
    return chosen


if __name__ == "__main__":
    sys.exit(main())
