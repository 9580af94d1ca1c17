"""How large the objects of annotated images are, where borders cut them."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg_engine.core.labels import median_diameter
from cellseg_engine.train.diameters import measure_sizes, settle_diameters

SMALL, LARGE = 12, 40


def a_field(side: int = 400, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Give disks on a grid, as many small as large ones, at places that are a little random."""
    rng = np.random.default_rng(seed)
    step = round(60 * scale)
    labels = np.zeros((side, side), np.int32)
    places = np.arange(step // 2, side, step)
    sizes = rng.permutation(np.resize([SMALL, LARGE], places.size**2)) * scale
    y, x = np.mgrid[:side, :side]
    for number, (row, column) in enumerate(
        np.stack(np.meshgrid(places, places), -1).reshape(-1, 2)
    ):
        row, column = (row, column) + rng.uniform(-8, 8, 2) * scale
        labels[(y - row) ** 2 + (x - column) ** 2 < (sizes[number] / 2) ** 2] = number + 1
    return labels


def windows(labels: np.ndarray, side: int, count: int) -> list[np.ndarray]:
    """Give parts of a field at random places."""
    rng = np.random.default_rng(1)
    corners = rng.integers(0, labels.shape[0] - side, (count, 2))
    return [labels[y : y + side, x : x + side] for y, x in corners]


def test_objects_that_are_all_whole_have_their_own_median() -> None:
    labels = np.zeros((60, 90), np.int32)
    for number, size in enumerate((4, 10, 20), start=1):
        labels[5 : 5 + size, 25 * number - 20 : 25 * number - 20 + size] = number
    sizes = measure_sizes(labels)
    assert sizes.n_cut == 0
    assert sizes.diameter_px == pytest.approx(median_diameter(labels))
    far = measure_sizes(np.kron(labels, np.ones((5, 5), np.int32)))
    assert settle_diameters([sizes, far]) == pytest.approx([sizes.diameter_px, far.diameter_px])


def test_an_object_counts_by_its_chance_to_be_whole() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[2:6, 2:8] = 1
    labels[8:18, 10:20] = 2
    labels[:3, 25:] = 3
    sizes = measure_sizes(labels)
    assert sizes.n_cut == 1
    expected = [600 / ((20 - 4) * (30 - 6)), 600 / ((20 - 10) * (30 - 10))]
    assert sizes.weights == pytest.approx(expected)
    assert np.exp(sizes.logs) == pytest.approx(2 * np.sqrt(np.array([24, 100]) / np.pi))


def test_large_objects_are_not_forgotten_in_small_windows() -> None:
    labels = a_field(1200)
    seen = [measure_sizes(part) for part in windows(labels, 110, 60)]
    weights = np.concatenate([one.weights for one in seen])
    is_large = np.exp(np.concatenate([one.logs for one in seen])) > 20
    assert is_large.mean() < 0.4  # half of the objects are large
    assert weights @ is_large / weights.sum() == pytest.approx(0.5, abs=0.06)


def test_an_image_without_whole_objects_takes_the_common_diameter() -> None:
    cut = np.zeros((10, 10), np.int32)
    cut[:, :4], cut[:, 6:] = 1, 2
    fields = [a_field(seed=seed) for seed in range(3)]
    settled = settle_diameters([measure_sizes(cut), *(measure_sizes(one) for one in fields)])
    assert settled[0] == pytest.approx(np.exp(np.log(settled[1:]).mean()), rel=0.1)
    assert settle_diameters([measure_sizes(cut)]) == [median_diameter(cut)]
    huge = np.zeros((300, 300), np.int32)
    huge[:, :290] = 1  # larger than what is common
    settled = settle_diameters([measure_sizes(huge), *(measure_sizes(one) for one in fields)])
    assert settled[0] == pytest.approx(median_diameter(huge))


def test_few_whole_objects_are_drawn_to_the_others_of_their_kind() -> None:
    labels = a_field(1200)
    parts = windows(labels, 130, 12)
    own = np.log([measure_sizes(part).diameter_px for part in parts])
    settled = np.log(settle_diameters([measure_sizes(part) for part in parts]))
    true = np.log(median_diameter(labels))
    assert np.abs(settled - true).mean() < np.abs(own - true).mean()


def test_two_magnifications_stay_apart() -> None:
    sizes = [
        measure_sizes(part)
        for scale in (1.0, 3.0)
        for part in windows(a_field(round(1200 * scale), scale=scale), round(300 * scale), 5)
    ]
    settled = settle_diameters(sizes)
    assert np.median(settled[5:]) / np.median(settled[:5]) == pytest.approx(3, rel=0.2)


def test_nothing_at_all() -> None:
    assert settle_diameters([]) == []
    empty = measure_sizes(np.zeros((5, 5), np.int32))
    assert empty.diameter_px == 0
    assert settle_diameters([empty, empty]) == [0, 0]
