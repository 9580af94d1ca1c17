"""Clusters of styles: found, named, the small ones given away."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_engine.errors import MissingDependencyError
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.style_clusters import (
    check_packages,
    choose_neighbours,
    cluster_styles,
    dissolve_small,
    map_styles,
    name_clusters,
)
from tests.unit.test_styles import cloud

SIZES = (40, 25, 12)


@pytest.fixture(scope="module")
def styles() -> np.ndarray:
    """Three clouds, far from one another."""
    return np.concatenate([cloud(place, n, spread=0.02) for place, n in enumerate(SIZES)])


EXPECTED = np.repeat(np.arange(3), SIZES)


def test_clouds_are_clusters_the_largest_first(styles: np.ndarray) -> None:
    found = cluster_styles(styles, neighbours=8)
    np.testing.assert_array_equal(found, EXPECTED)
    np.testing.assert_array_equal(cluster_styles(styles, neighbours=8), found)


def test_the_order_of_images_does_not_matter(styles: np.ndarray) -> None:
    order = np.random.default_rng(3).permutation(len(styles))
    found = cluster_styles(styles[order], neighbours=8)
    np.testing.assert_array_equal(found, EXPECTED[order])


def test_a_higher_resolution_gives_more_clusters(styles: np.ndarray) -> None:
    n_clusters = [
        cluster_styles(styles, neighbours=8, resolution=resolution).max() + 1
        for resolution in (0.01, 0.45, 6.0)
    ]
    assert n_clusters[0] <= 3 == n_clusters[1] < n_clusters[2]


def test_everything_joined_to_everything_is_one_cluster(styles: np.ndarray) -> None:
    assert cluster_styles(styles[:5], neighbours=100).tolist() == [0] * 5


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 40), st.integers(1, 60), st.integers(0, 99))
def test_every_image_is_in_a_cluster_and_numbers_go_by_size(
    n_images: int, neighbours: int, seed: int
) -> None:
    points = np.random.default_rng(seed).normal(size=(n_images, 256))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = cluster_styles(points, neighbours=neighbours)
    counts = np.bincount(found, minlength=1)
    assert counts.sum() == n_images
    assert (counts > 0).all()
    assert (np.diff(counts) <= 0).all()


def test_small_clusters_go_to_their_neighbours(styles: np.ndarray) -> None:
    near = cloud(0, 1)[0] + 0.6 * cloud(2, 1)[0]
    strange = np.concatenate([styles, [near / np.linalg.norm(near)]])
    clusters = np.append(EXPECTED, 3)
    assert dissolve_small(strange, clusters, 5)[-1] == 0
    assert dissolve_small(strange, clusters, 1)[-1] == 3
    # Without the smallest cloud, its images go to one of the others.
    left = dissolve_small(strange, clusters, 20)
    assert set(left.tolist()) == {0, 1}
    with pytest.raises(TrainingDataError, match=r"largest of 4 clusters has 40 images, fewer"):
        dissolve_small(strange, clusters, 41)


def test_names() -> None:
    clusters = np.array([0, 0, 0, 1, 1, 2])
    kinds = ["fluo", "fluo", "phase", "fluo", "fluo", "phase contrast, whole cells (T98G)"]
    assert name_clusters(clusters, kinds) == ["fluo-1", "fluo-2", "phase-contrast-whole-cells-T98G"]
    assert name_clusters(np.array([0]), ["???"]) == ["images"]


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (["plate", "plate", "plate-1"], ["plate-2", "plate-3", "plate-1"]),
        (["Fluo", "fluo", "FLUO-2"], ["Fluo-1", "fluo-3", "FLUO-2"]),
        (["a b", "a?b", "a-b-1"], ["a-b-2", "a-b-3", "a-b-1"]),
    ],
)
def test_no_two_clusters_have_one_name(kinds: list[str], names: list[str]) -> None:
    assert name_clusters(np.arange(len(kinds)), kinds) == names


def test_the_number_of_neighbours() -> None:
    assert [choose_neighbours(n) for n in (10, 50, 400, 1700)] == [5, 5, 40, 100]


def test_the_map_keeps_clouds_apart(styles: np.ndarray) -> None:
    places = map_styles(styles)
    assert places.shape == (len(styles), 2)
    middles = np.array([places[cluster == EXPECTED].mean(axis=0) for cluster in range(3)])
    nearest = np.linalg.norm(places[:, None] - middles, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, EXPECTED)
    np.testing.assert_array_equal(map_styles(styles), places)
    assert map_styles(styles[:2]).shape == (2, 2)


@pytest.mark.parametrize("package", ["graspologic_native", "sklearn", "matplotlib.figure"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r"pip install .cellseg-engine\["):
        check_packages()
