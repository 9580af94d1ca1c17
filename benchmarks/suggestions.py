"""How often the right shipped model is suggested, and whether strange images are noticed.

``python benchmarks/suggestions.py`` looks at the validation images of the shipped kinds, which are
not in the index of styles, and at noise and photographs, as ``cellseg models suggest`` does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
from _data import DATA, read_rows
from _report import Bound, Section

from cellseg_engine import make_settings
from cellseg_engine.batch.advice import Advice, Adviser
from cellseg_engine.io.images import ImageData, read_image
from cellseg_engine.zoo.styles import INDEX_FILE

EXPECTED = {"fluo": "nuclei", "histology": "nuclei", "phase": "phase"}
SIDE_PX = 512


def validation_images(data: Path) -> Iterator[tuple[str, ImageData]]:
    """Give the validation images with their kinds."""
    for row in read_rows(data, "val"):
        if row["kind"] in EXPECTED:
            yield row["kind"], read_image(data / f"{row['path']}_img.tif", axes=row["axes"])


def strange_images() -> Iterator[tuple[str, ImageData]]:
    """Give noise of three kinds, and photographs that come with scikit-image, with what it is."""
    rng = np.random.default_rng(0)
    shape = (SIDE_PX, SIDE_PX)
    noise = {
        "uniform noise": rng.integers(0, 256, shape),
        "normal noise": rng.normal(1000, 100, shape),
        "Poisson noise": rng.poisson(3, shape),
    }
    for name, pixels in noise.items():
        yield "noise", ImageData(pixels.astype(np.float32), "YX", (), {}, Path(name))
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        pixels = getattr(skimage.data, name)()
        yield "photographs", ImageData(pixels, "YXS", (), {}, Path(name))
    yield "photographs", ImageData(skimage.data.camera(), "YX", (), {}, Path("camera"))


def row(kind: str, image: ImageData, advice: Advice) -> tuple[object, ...]:
    """Give a row of the table."""
    kinds = ", ".join(one.kind for one in advice.suggestion.neighbours)
    return (
        kind,
        image.source.name.removesuffix("_img.tif"),
        advice.model,
        kinds,
        round(advice.suggestion.distance, 4),
        "no" if advice.suggestion.is_familiar else "yes",
        round(advice.style.diameter_px, 1),
    )


def main() -> int:
    """Look at the images, print the table and the bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="Folder with manifest.csv.")
    parser.add_argument("--index", type=Path, default=INDEX_FILE)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="Write all to this file.")
    given = parser.parse_args()
    adviser = Adviser(make_settings({"device": given.device}), given.index)
    section = Section("Suggested models", f"Styles of {adviser.index.network}.")
    section.columns = (
        "kind",
        "image",
        "suggested",
        "nearest",
        "distance",
        "warning",
        "diameter px",
    )
    right: dict[str, list[bool]] = {}
    warned: list[bool] = []
    for kind, image in validation_images(given.data):
        advice = adviser.advise(image)
        section.rows.append(row(kind, image, advice))
        right.setdefault(EXPECTED[kind], []).append(advice.model == EXPECTED[kind])
        warned.append(not advice.suggestion.is_familiar)
    noticed: dict[str, list[bool]] = {}
    for what, image in strange_images():
        advice = adviser.advise(image)
        section.rows.append(row(what, image, advice))
        noticed.setdefault(what, []).append(not advice.suggestion.is_familiar)
    for model, hits in right.items():
        share = float(np.mean(hits))
        section.bounds.append(Bound(f"{model} suggested for its own images", share, ">=", 0.9))
    for what, hits in noticed.items():
        section.bounds.append(Bound(f"{what} warned of", float(np.mean(hits)), "=", 1.0))
    section.notes.append(
        f"Validation images warned of: {sum(warned)} of {len(warned)}; the limits are "
        + ", ".join(
            f"{adviser.index.familiar_distance(kind):.3f} ({kind})" for kind in adviser.index.models
        )
        + "."
    )
    print(section.to_text())
    if given.json:
        given.json.write_text(json.dumps(section.to_json(), indent=1) + "\n", encoding="utf-8")
    return 0 if all(bound.holds for bound in section.bounds) else 1


if __name__ == "__main__":
    sys.exit(main())
