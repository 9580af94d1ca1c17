"""Drawn fields of nuclei: whole objects, always the same ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import label

from tools.draw_tissue import MIN_AREA_PX, SIDE_PX, draw_tissue, write_tissue


@pytest.mark.parametrize("seed", range(3))
def test_each_nucleus_is_one_part_and_brighter_than_what_is_around(seed: int) -> None:
    image, labels = draw_tissue(np.random.default_rng([7, seed]))
    assert image.shape == labels.shape == (SIDE_PX, SIDE_PX)
    assert image.dtype == labels.dtype == np.uint16
    areas = np.bincount(labels.ravel())[1:]
    assert len(areas) > 20
    assert areas.min() >= MIN_AREA_PX
    assert all(label(labels == number)[1] == 1 for number in range(1, len(areas) + 1, 17))
    assert image[labels > 0].mean() > 1.2 * image[labels == 0].mean()


def test_fields_are_the_same_for_a_seed_and_differ_by_their_number(tmp_path: Path) -> None:
    rows = write_tissue(tmp_path, 2)
    assert [row["group"] for row in rows] == ["drawn_000", "drawn_001"]
    first, second = (tifffile.imread(row["image"]) for row in rows)
    assert (first != second).mean() > 0.5
    again = draw_tissue(np.random.default_rng([0, 0]))
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(tifffile.imread(rows[0]["labels"]), again[1])
