"""However an image is cut up for its size, the result is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellseg_engine import Segmentation, Segmenter, make_settings
from cellseg_engine.core import normalize, sums
from cellseg_engine.core.axes import to_planes
from cellseg_engine.core.normalize import normalize_percentiles
from cellseg_engine.pipeline import blocks
from cellseg_engine.pipeline.prepare import prepare_stack
from tests.integration.cli import disks


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(make_settings(device="cpu", diameter_px=24))


def many_disks(shape: tuple[int, int] = (330, 300)) -> np.ndarray:
    """Disks everywhere, some of them overlapping; uint16."""
    rng = np.random.default_rng(0)
    image = 200 + rng.normal(0, 20, shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for cy in range(10, shape[0], 27):
        for cx in range(12, shape[1], 25):
            dy, dx = rng.uniform(-6, 6, 2)
            radius = rng.uniform(8, 13)
            distance = (y - cy - dy) ** 2 + (x - cx - dx) ** 2
            image += rng.uniform(800, 3000) * np.exp(-((distance / radius**2) ** 4))
    return image.clip(0, 65535).astype(np.uint16)


def run(segmenter: Segmenter, image: np.ndarray, axes: str = "YX", **values: Any) -> Segmentation:
    return segmenter.segment(image, axes, settings=make_settings(segmenter.settings, **values))


def sorted_table(result: Segmentation) -> np.ndarray:
    """Give the rows of the table without the ids, in the order of the first column."""
    columns = [values for name, values in result.objects.items() if name != "label"]
    table = np.stack([np.asarray(values, float) for values in columns], axis=1)
    return table[np.lexsort(table.T)]


@pytest.mark.parametrize("diameter_px", [24, 15])
def test_blocks_change_only_the_order_of_the_ids(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, diameter_px: float
) -> None:
    image = many_disks()
    expected = run(segmenter, image, diameter_px=diameter_px)
    monkeypatch.setattr(blocks, "MAX_BLOCK_PIXELS", 150 * 150)
    seen: list[tuple[int, int]] = []
    found = segmenter.segment(
        image,
        settings=make_settings(segmenter.settings, diameter_px=diameter_px),
        progress=lambda p: seen.append((p.done, p.total)) if p.stage == "labels" else None,
    )
    assert max(total for _, total in seen) > 4
    assert found.warnings == expected.warnings == ()
    assert found.n_objects == expected.n_objects > 100
    pairs = np.unique(np.stack([found.labels.ravel(), expected.labels.ravel()]), axis=1)
    assert pairs.shape[1] == found.n_objects + 1
    np.testing.assert_allclose(sorted_table(found), sorted_table(expected), rtol=1e-6)
    np.testing.assert_array_equal(found.logits, expected.logits)


@pytest.mark.parametrize("values", [{"invert": "yes"}, {"diameter_px": 15}])
def test_strips_of_rows_change_nothing(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    image = np.stack([many_disks((260, 240)), 50 + 0 * many_disks((260, 240))])
    expected = run(segmenter, image, "CYX", channel="1", **values)
    monkeypatch.setattr(sums, "STRIP_PIXELS", 3000)
    found = run(segmenter, image, "CYX", channel="1", **values)
    np.testing.assert_array_equal(found.labels, expected.labels)
    for name, column in found.objects.items():
        np.testing.assert_allclose(column, expected.objects[name], rtol=1e-12)


@pytest.mark.parametrize("channel", ["auto", "hematoxylin"])
def test_planes_prepared_in_rows_are_those_prepared_at_once(
    monkeypatch: pytest.MonkeyPatch, channel: str
) -> None:
    """Percentiles of a large plane come from a sample of all of it, not of each part."""
    rng = np.random.default_rng(0)
    image = rng.integers(1, 255, (300, 460, 3)).astype(np.uint8)
    image[:40] //= 8
    stack = to_planes(image, "YXS")
    settings = make_settings(channel=channel, invert="no")
    small = prepare_stack(stack, settings, (), 2).plane(stack.pixels[0, 0]).pixels
    if channel == "auto":
        gray = image.mean(axis=2, dtype=np.float32)[None]
        np.testing.assert_array_equal(small[:1], normalize_percentiles(gray)[0])
    monkeypatch.setattr(normalize, "LARGE_PIXELS", 10_000)
    monkeypatch.setattr(sums, "STRIP_PIXELS", 7 * 460)
    plane = prepare_stack(stack, settings, (), 2).plane(stack.pixels[0, 0])
    whole = plane.pixels
    parts = [plane.rows(start, min(start + 37, 300)) for start in range(0, 300, 37)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plane.first_channel(), whole[0], rtol=1e-5, atol=1e-6)
    assert not whole[1].any()
    np.testing.assert_allclose(whole, small, atol=0.05)


def test_an_extreme_pixel_is_found_in_any_strip(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "STRIP_PIXELS", 1000)
    image = disks().astype(np.float64)
    image[-1, -1] = 1e12
    assert any("10,000 times the contrast" in text for text in run(segmenter, image).warnings)
