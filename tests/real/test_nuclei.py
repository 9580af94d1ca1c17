"""Real validation images, scored: the shipped model finds what people marked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.core.metrics import pool_scores, score_image
from cellseg_engine.io.images import read_image, read_labels
from cellseg_engine.nets.weights import load_weights

IMAGES = ("1740b0a67ca3", "d7d12a2acc47", "e4ae1ceddb27", "97158b2fe387", "03b9306f44e9")


def test_nuclei_with_estimated_diameter(shared: Path) -> None:
    segmenter = Segmenter(make_settings(device="cpu"))
    scores = []
    for name in IMAGES:
        image = read_image(shared / f"data/nuclei/val/{name}_img.tif")
        truth, _ = read_labels(shared / f"data/nuclei/val/{name}_masks.tif")
        result = segmenter.segment(image.pixels, image.axes)
        scores.append(score_image(truth, result.labels))
    assert pool_scores(scores).pooled.average_precision[0] > 0.75


@pytest.mark.parametrize("name", ["1740b0a67ca3", "0280fa8f60f6"])
def test_the_official_file_and_the_shipped_model_agree(shared: Path, name: str) -> None:
    path = shared / "weights/nuclei_official_layout.pth"
    assert load_weights(path).size_model is not None
    image = read_image(shared / f"data/nuclei/val/{name}_img.tif")
    official, shipped = (
        Segmenter(make_settings(model=model, device="cpu", diameter_px=15)).segment(
            image.pixels, image.axes
        )
        for model in (str(path), "nuclei-provisional")
    )
    assert score_image(official.labels, shipped.labels).average_precision[-2] > 0.95
