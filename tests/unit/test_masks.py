"""From fields to labels: thresholds and sizes do what they say."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.pipeline.masks import (
    clean_objects,
    derive_iterations,
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
