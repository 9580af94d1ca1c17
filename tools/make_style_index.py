"""Make the index of training styles: python tools/make_style_index.py TABLE... --network MODEL.

TABLE is a table of images as tools/train_models.py writes it (images.csv), or a manifest.csv. The
network looks at every image of the role train as `cellseg models suggest` does: without knowing
the diameter. The index goes to cellseg_engine/zoo/styles.npz, or to --out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cellseg_engine.errors import CellSegError
from cellseg_engine.io.images import read_image
from cellseg_engine.io.staging import staged
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.pipeline.style import image_style
from cellseg_engine.settings import make_settings
from cellseg_engine.train.sources import Source, find_sources
from cellseg_engine.zoo.styles import INDEX_FILE, StyleIndex, score_index, write_index

MODELS = {
    "fluo": "nuclei",
    "fluo-large": "nuclei",
    "histology": "nuclei",
    "brightfield": "nuclei",
    "phase": "phase",
    "bacteria": "generalist",
}
"""The model to suggest for each kind of the shipped models' training images."""


def main() -> int:
    """Look at the images and write the index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+", type=Path)
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
    parser.add_argument("--out", type=Path, default=INDEX_FILE)
    given = parser.parse_args()
    try:
        models = _models(given.model)
        sources = _choose(find_sources(given.tables).sources, given.per_kind)
        if unknown := {source.kind for source in sources} - models.keys():
            parser.error(
                f"which model is for {', '.join(sorted(unknown))}? Give --model KIND=MODEL"
            )
        index = make_index(sources, given.network, models, given.device)
        with staged(given.out.parent) as stage:
            write_index(stage.path(given.out.name), index)
    except CellSegError as error:
        sys.exit(str(error))
    for kind, (right, n_images) in score_index(index).items():
        print(f"{kind}: {right} of {n_images} get {index.models[kind]}, other groups deciding")
    print(f"familiar up to a distance of {index.familiar_distance:.4f}")
    print(f"{given.out}: {len(index.names)} images, {given.out.stat().st_size / 1024:.0f} KiB")
    return 0


def make_index(
    sources: Iterable[Source], network: str, models: dict[str, str], device: str = "auto"
) -> StyleIndex:
    """Give the index of the styles of images."""
    sources = list(sources)
    segmenter = Segmenter(make_settings({"model": network, "device": device}))
    styles = []
    start = time.perf_counter()
    for number, source in enumerate(sources, start=1):
        image = read_image(source.image, axes=source.axes or None)
        settings = make_settings(
            {"model": network, "device": device, "channel": source.channel or "auto"}
        )
        seen = image_style(
            segmenter,
            image.pixels,
            image.axes,
            settings=settings,
            channel_names=image.channel_names,
        )
        styles.append(seen.style)
        seconds = time.perf_counter() - start
        print(f"{number}/{len(sources)} {source.name}: {seen.diameter_px:.1f} px, {seconds:.0f} s")
    return StyleIndex(
        np.array(styles, np.float32),
        tuple(source.name for source in sources),
        tuple(source.kind for source in sources),
        tuple(source.group for source in sources),
        {kind: models[kind] for kind in sorted({source.kind for source in sources})},
        network,
        segmenter.model.weights_sha256,
    )


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
