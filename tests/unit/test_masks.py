"""From fields to labels: thresholds and sizes do what they say."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.pipeline.masks import (
    clean_objects,
    derive_iterations,
    derive_min_area,
    describe_objects,
    fields_to_labels,
)
from cellseg_engine.settings import make_settings
from tests.unit import plain


def exact_fields(labels: np.ndarray) -> Fields:
    logit = np.where(labels > 0, 6, -6).astype(np.float32)
    return Fields(labels_to_flows(labels), logit, np.ones(256, np.float32))


def run(fields: Fields, **values: object) -> np.ndarray:
    return fields_to_labels(fields, make_settings(values), 200, "v3").labels


def test_exact_fields_give_the_objects_back() -> None:
    labels = plain.blobs(seed=4)
    found = run(exact_fields(labels))
    assert found.dtype == np.int32
    assert found.max() == labels.max()
    np.testing.assert_array_equal(found > 0, labels > 0)


def test_the_probability_threshold_is_a_probability() -> None:
    labels = plain.blobs(seed=4)
    fields = exact_fields(labels)
    fields.logit[labels == 1] = 1.0
    assert run(fields, probability_threshold=0.74).max() == labels.max() - 1
    assert run(fields, probability_threshold=0.72).max() == labels.max()


def test_bad_flows_are_removed_unless_the_check_is_off() -> None:
    labels = plain.blobs(seed=4)
    fields = exact_fields(labels)
    fields.flows[:] += np.random.default_rng(0).normal(0, 0.6, fields.flows.shape)
    assert run(fields).max() < run(fields, flow_threshold=0).max()


def test_sizes_and_edges() -> None:
    labels = plain.blobs(seed=4)
    fields = exact_fields(labels)
    areas = np.bincount(labels.ravel())[1:]
    smallest, largest = int(areas.min()), int(areas.max())
    assert run(fields, min_area_px=smallest + 1).max() == (areas > smallest).sum()
    assert run(fields, max_area_px=largest - 1).max() == (areas < largest).sum()
    edges = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    inner = run(fields, exclude_edge_objects=True)
    assert inner.max() == labels.max() - (edges > 0).sum()
    assert not inner[0].any()


@pytest.mark.parametrize(
    ("diameter_px", "given", "smallest"),
    [
        (30, {}, 15),
        (9, {}, 15),
        (5, {}, 4),
        (0.1, {}, 1),
        (5, {"min_area_px": 15}, 15),
        (30, {"min_area_px": 1}, 1),
        (30, {"max_area_px": 10}, 10),
    ],
)
def test_small_objects_are_judged_by_the_size_of_the_others(
    diameter_px: float, given: dict[str, int], smallest: int
) -> None:
    assert derive_min_area(make_settings(given), diameter_px) == smallest


def test_holes_are_filled_unless_it_is_switched_off() -> None:
    ring = np.zeros((11, 11), np.int32)
    ring[2:9, 2:9] = 1
    ring[4:7, 4:7] = 0
    for fill, area in ((True, 49), (False, 40)):
        settings = make_settings(fill_holes=fill, min_area_px=40, max_area_px=area)
        found = clean_objects(ring, np.array([np.nan, 0.1]), settings)
        assert np.count_nonzero(found.labels) == area
    smaller = make_settings(fill_holes=True, max_area_px=48)
    assert not clean_objects(ring, np.array([np.nan, 0.1]), smaller).labels.any()


def test_the_table_describes_the_objects() -> None:
    labels = plain.blobs(seed=4)
    fields = exact_fields(labels)
    plane = fields_to_labels(fields, make_settings(), 200, "v3")
    table = describe_objects(plane, fields)
    assert table["label"].tolist() == list(range(1, plane.labels.max() + 1))
    assert table["mean_probability"].min() == pytest.approx(1 / (1 + np.exp(-6)), abs=1e-4)
    assert table["flow_error"].max() < 0.1
    assert table["area_px"].sum() == (plane.labels > 0).sum()
    ys, xs = np.nonzero(plane.labels == 5)
    assert table["centroid_y_px"][4] == pytest.approx(ys.mean())
    assert table["centroid_x_px"][4] == pytest.approx(xs.mean())


def test_nothing_above_the_threshold_is_a_valid_answer() -> None:
    fields = Fields(
        np.zeros((2, 30, 40), np.float32), np.full((30, 40), -9, np.float32), np.ones(256)
    )
    plane = fields_to_labels(fields, make_settings(), 200, "v3")
    assert plane.labels.shape == (30, 40)
    assert not plane.labels.any()
    assert all(len(column) == 0 for column in describe_objects(plane, fields).values())


def test_iterations_follow_the_diameter() -> None:
    assert derive_iterations(make_settings(), 34, 17) == 400
    assert derive_iterations(make_settings(iterations=50), 34, 17) == 50


def rods(width: int, side: int) -> np.ndarray:
    """Four rods in different directions, ten times as long as wide; int32 (side, side)."""
    length = 10 * width
    near, far = 0.6 * length, side - 0.6 * length
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.int32)
    places = [(near, near, 0.2), (far, near, 1.2), (near, far, -0.8), (far, far, 1.57)]
    for label, (centre_y, centre_x, angle) in enumerate(places, start=1):
        along = (x - centre_x) * np.cos(angle) + (y - centre_y) * np.sin(angle)
        across = (y - centre_y) * np.cos(angle) - (x - centre_x) * np.sin(angle)
        beyond = np.maximum(np.abs(along) - (length - width) / 2, 0)
        labels[(np.hypot(beyond, across) < width / 2) & (labels == 0)] = label
    return labels


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("diameter_px", [6, 12, 40])
def test_long_objects_stay_whole(diameter_px: float, noise: float) -> None:
    """Rods of 10:1, also where the diameter is that of other, small objects of the image."""
    labels = rods(12, 330)
    fields = exact_fields(labels)
    fields.flows[:] += np.random.default_rng(0).normal(0, noise, fields.flows.shape)
    settings = make_settings()
    iterations = derive_iterations(settings, diameter_px, 30)
    found = fields_to_labels(fields, settings, iterations, "v3").labels
    pairs = np.unique(np.stack([labels.ravel(), found.ravel()]), axis=1)
    assert pairs.shape[1] == found.max() + 1 == 5
    if diameter_px == 6:  # a number of steps that the user has set is kept to
        fixed = make_settings(iterations=iterations)
        found = fields_to_labels(fields, fixed, iterations, "v3").labels
        assert np.count_nonzero(found) < 0.9 * np.count_nonzero(labels)


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.6])
def test_round_objects_are_those_of_a_fixed_number_of_steps(noise: float) -> None:
    labels = plain.blobs(seed=4)
    fields = exact_fields(labels)
    fields.flows[:] += np.random.default_rng(0).normal(0, noise, fields.flows.shape)
    derived = make_settings(flow_threshold=0)
    fixed = make_settings(flow_threshold=0, iterations=160)
    iterations = derive_iterations(derived, 24, 30)
    assert iterations == 160
    np.testing.assert_array_equal(
        fields_to_labels(fields, derived, iterations, "v3").labels,
        fields_to_labels(fields, fixed, 160, "v3").labels,
    )
