"""The shipped index of styles on real images, on noise and on a photograph."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from cellseg_engine import make_settings
from cellseg_engine.batch.advice import Adviser
from cellseg_engine.io.images import ImageData, read_image

N_EACH = 2


@pytest.mark.slow
def test_the_right_model_is_suggested_and_strange_images_are_warned_of(shared: Path) -> None:
    adviser = Adviser(make_settings())
    with (shared / "data/manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "val"]
    for kind, model in (("fluo", "nuclei"), ("histology", "nuclei"), ("phase", "phase")):
        mine = [row for row in rows if row["kind"].startswith(kind)][:N_EACH]
        assert len(mine) == N_EACH
        for row in mine:
            path = shared / "data" / f"{row['path']}_img.tif"
            assert adviser.advise(read_image(path, axes=row["axes"])).model == model, row["path"]
    noise = np.random.default_rng(0).normal(1000, 100, (512, 512)).astype(np.float32)
    photograph = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    for pixels, axes in ((noise, "YX"), (photograph, "YXS")):
        advice = adviser.advise(ImageData(pixels, axes, (), {}, Path("strange")))
        assert not advice.suggestion.is_familiar
