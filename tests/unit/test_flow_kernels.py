"""The fast kernels give what their plain definitions give."""

from __future__ import annotations

from typing import Literal

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_engine.core.clustering import cluster_points
from cellseg_engine.core.dynamics import follow_flows
from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.flows import flow_errors, labels_to_flows
from cellseg_engine.errors import ImageError
from tests.unit import plain

VARIANTS: list[FlowVariant] = ["v3", "v2", "paper"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_flows_equal_the_definition(variant: FlowVariant) -> None:
    labels = plain.blobs()
    np.testing.assert_allclose(
        labels_to_flows(labels, variant), plain.flows(labels, variant), atol=1e-6
    )


def test_flows_are_unit_vectors_inside_and_zero_outside() -> None:
    labels = plain.blobs(seed=3)
    length = np.hypot(*labels_to_flows(labels))
    assert not length[labels == 0].any()
    # Only the centre of an object may be flat.
    assert np.median(length[labels > 0]) == pytest.approx(1, abs=1e-6)
    assert (length[labels > 0] < 0.99).sum() <= labels.max()


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(1, 17)), st.sampled_from(VARIANTS))
def test_flows_do_not_depend_on_the_ids(order: list[int], variant: FlowVariant) -> None:
    labels = plain.blobs()
    renamed = np.array([0, *(3 * n for n in order)], np.int32)[labels]
    np.testing.assert_array_equal(
        labels_to_flows(labels, variant), labels_to_flows(renamed, variant)
    )


def test_rotating_the_labels_rotates_the_flows() -> None:
    labels = plain.blobs(seed=5)
    # A square image has no preferred direction; ties in the centre are broken by order, so an
    # object whose centre is unique is compared.
    flows = labels_to_flows(labels)
    turned = labels_to_flows(np.rot90(labels).copy())
    back = np.rot90(turned, -1, (1, 2))
    agree = np.isclose(flows[0], back[1] * 1, atol=1e-5) & np.isclose(flows[1], -back[0], atol=1e-5)
    assert agree[labels > 0].mean() > 0.9


@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_of_one_or_two_pixels_do_no_harm(variant: FlowVariant) -> None:
    labels = np.zeros((6, 6), np.int32)
    labels[0, 0] = 1
    labels[3, 3:5] = 2
    labels[5, 5] = 7
    assert np.isfinite(labels_to_flows(labels, variant)).all()


def noisy_flows(labels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.2, (2, *labels.shape))
    return (plain.flows(labels, "v3") + noise).astype(np.float32)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("iterations", [0, 1, 7, 8, 9, 200, 201])
def test_dynamics_equal_plain_steps_exactly(
    interpolation: Literal["bilinear", "nearest"], iterations: int
) -> None:
    """Also when paths are finished early because their orbit repeats itself."""
    labels = plain.blobs(seed=1)[:90, :70]
    flows, mask = noisy_flows(labels), labels > 0
    starts, ends = follow_flows(flows, mask, iterations, interpolation)
    np.testing.assert_array_equal(starts, np.stack(np.nonzero(mask)))
    expected = plain.follow(flows, mask, iterations, interpolation == "bilinear")
    np.testing.assert_array_equal(ends, expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("iterations", [1, 120])
def test_dynamics_in_volumes_equal_plain_steps_exactly(
    interpolation: Literal["bilinear", "nearest"], iterations: int
) -> None:
    """Towards the centres of a grid of balls, with noise; the volume has three extents."""
    shape = (22, 35, 50)
    offsets = (np.indices(shape) + 6) % 12 - 6.0
    mask = (offsets**2).sum(axis=0) < 30
    rng = np.random.default_rng(0)
    flows = -offsets / np.maximum(np.sqrt((offsets**2).sum(axis=0)), 1)
    flows = (flows + rng.normal(0, 0.2, flows.shape)).astype(np.float32)
    starts, ends = follow_flows(flows, mask, iterations, interpolation)
    np.testing.assert_array_equal(starts, np.stack(np.nonzero(mask)))
    expected = plain.follow(flows, mask, iterations, interpolation == "bilinear")
    np.testing.assert_array_equal(ends, expected)


def test_a_volume_of_one_plane_is_that_plane() -> None:
    labels = plain.blobs(seed=1)
    flows, mask = noisy_flows(labels), labels > 0
    _, ends = follow_flows(flows, mask, 60)
    deep = np.stack([np.zeros_like(flows[0]), *flows])[:, None]
    _, ends_in_volume = follow_flows(deep, mask[None], 60)
    np.testing.assert_array_equal(ends_in_volume[1:], ends)
    assert not ends_in_volume[0].any()


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_paths_of_a_part_are_those_of_the_whole(
    interpolation: Literal["bilinear", "nearest"],
) -> None:
    """Also in their rounding, which depends on where in the whole they are."""
    whole = np.zeros((300, 330), np.int32)
    y, x = np.mgrid[:300, :330]
    for label, (cy, cx) in enumerate([(150, 280), (265, 270), (200, 40)], start=1):
        whole[(y - cy) ** 2 + (x - cx) ** 2 < 15**2] = label
    flows = noisy_flows(whole)
    (ys, xs), ends = follow_flows(flows, whole > 0, 100, interpolation)
    window = np.s_[130:290, 250:310]
    part = np.ascontiguousarray(flows[:, *window])
    starts, found = follow_flows(part, whole[window] > 0, 100, interpolation, origin=(130, 250))
    chosen = (ys >= 130) & (ys < 290) & (xs >= 250) & (xs < 310)
    np.testing.assert_array_equal(starts + np.array([[130], [250]]), np.stack([ys, xs])[:, chosen])
    np.testing.assert_array_equal(found, ends[:, chosen])
    deep = np.stack([np.zeros_like(part[0]), *part])[:, None]
    _, in_volume = follow_flows(
        deep, whole[window][None] > 0, 100, interpolation, origin=(7, 130, 250)
    )
    np.testing.assert_array_equal(in_volume[1:], found)
    assert (in_volume[0] == 7).all()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    labels = plain.blobs(seed=1)
    flows, mask = noisy_flows(labels), labels > 0
    threads = numba.get_num_threads()
    found = []
    for n in (1, threads):
        numba.set_num_threads(n)
        _, ends = follow_flows(flows, mask, 200, to_rest=True)
        found.append((ends, labels_to_flows(labels), flow_errors(labels, flows)))
    for one, many in zip(*found, strict=True):
        np.testing.assert_array_equal(one, many)


def test_paths_go_on_to_rest_only_where_they_are_still_on_their_way() -> None:
    """A long object beside a round one: the round one's ends are those of plain steps."""
    labels = np.zeros((60, 400), np.int32)
    labels[5:15, 5:395] = 1
    y, x = np.mgrid[:60, :400]
    labels[(y - 40) ** 2 + (x - 50) ** 2 < 15**2] = 2
    flows = labels_to_flows(labels)
    (ys, xs), few = follow_flows(flows, labels > 0, 60)
    _, rest = follow_flows(flows, labels > 0, 60, to_rest=True)
    is_round = labels[ys, xs] == 2
    np.testing.assert_array_equal(rest[:, is_round], few[:, is_round])
    assert np.ptp(few[1, ~is_round]) > 200
    assert np.ptp(rest[1, ~is_round]) < 5


def test_paths_that_never_rest_end_all_the_same() -> None:
    """Round and round a ring, for ever."""
    y, x = np.mgrid[:80, :80] - 39.5
    radius = np.hypot(y, x)
    flows = (np.stack([x, -y]) / radius).astype(np.float32)
    _, ends = follow_flows(flows, (radius > 15) & (radius < 38), 100, to_rest=True)
    assert np.isfinite(ends).all()


def test_flows_that_are_not_numbers_do_no_harm() -> None:
    flows = np.full((2, 20, 20), np.nan, np.float32)
    _, ends = follow_flows(flows, np.ones((20, 20), bool), 5)
    assert ((ends >= 0) & (ends <= 19)).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    mask = np.ones((8, 9), bool)
    with pytest.raises(ImageError, match=r"\(2, 9, 8\) do not fit a mask of shape \(8, 9\)"):
        follow_flows(np.zeros((2, 9, 8), np.float32), mask, 5)
    with pytest.raises(ImageError, match=r"do not fit labels of shape \(8, 9\)"):
        flow_errors(mask.astype(np.int32), np.zeros((2, 9, 8), np.float32))


def test_dynamics_stay_inside_the_image() -> None:
    flows = np.full((2, 20, 30), 5, np.float32)
    _, ends = follow_flows(flows, np.ones((20, 30), bool), 50)
    np.testing.assert_array_equal(ends.max(axis=1), (19, 29))
    _, ends = follow_flows(-flows, np.ones((20, 30), bool), 50)
    np.testing.assert_array_equal(ends.min(axis=1), (0, 0))


def test_dynamics_of_an_empty_mask() -> None:
    starts, ends = follow_flows(np.zeros((2, 5, 5), np.float32), np.zeros((5, 5), bool), 10)
    assert starts.shape == ends.shape == (2, 0)
    assert not cluster_points(starts, ends, (5, 5)).any()


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_clusters_equal_the_definition(noise: float) -> None:
    labels = plain.blobs(seed=2)
    rng = np.random.default_rng(0)
    flows = labels_to_flows(labels) + rng.normal(0, noise, (2, *labels.shape)).astype(np.float32)
    starts, ends = follow_flows(flows, labels > 0, 200)
    expected = plain.cluster(starts, ends, (96, 96), 0.4)
    np.testing.assert_array_equal(cluster_points(starts, ends, (96, 96), 0.4), expected)


def test_exact_flows_give_the_objects_back() -> None:
    labels = plain.blobs(seed=4)
    starts, ends = follow_flows(labels_to_flows(labels), labels > 0, 200)
    found = cluster_points(starts, ends, (96, 96))
    pairs = set(zip(labels.ravel().tolist(), found.ravel().tolist(), strict=True))
    assert len(pairs) == labels.max() + 1


def test_clusters_at_the_border_and_too_large_ones() -> None:
    starts = np.stack(np.nonzero(np.ones((10, 10), bool)))
    ends = np.zeros((2, 100), np.float32)
    ends[:, 60:] = 9
    labels = cluster_points(starts, ends, (10, 10), max_size_fraction=0.5)
    assert labels.max() == 1
    assert (labels == 1).sum() == 40
    assert cluster_points(starts, ends, (10, 10), max_size_fraction=1.0).max() == 2


def test_flow_error_tells_good_objects_from_bad() -> None:
    labels = plain.blobs(seed=6)
    flows = labels_to_flows(labels)
    spoilt = flows.copy()
    spoilt[:, labels == 3] *= -1
    errors = flow_errors(labels, spoilt)
    assert np.isnan(errors[0])
    assert errors[3] == pytest.approx(4, abs=0.2)
    assert np.delete(errors, [0, 3]).max() < 1e-9
