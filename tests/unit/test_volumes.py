"""Volumes: views, fused fields, flows, clusters, holes and sizes, against the obvious versions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.special import expit, logit

from cellseg_engine.core import labels as tools
from cellseg_engine.core.dynamics import follow_flows_beside
from cellseg_engine.core.metrics import score_image
from cellseg_engine.core.resize import resize_bilinear
from cellseg_engine.core.volume_clustering import cluster_voxels
from cellseg_engine.core.volume_flows import volume_flow_errors, volume_flows
from cellseg_engine.core.volumes import (
    VIEWS,
    ViewFuser,
    resize_volume,
    resize_volume_window,
    scaled_volume_shape,
    smooth_flows,
)
from cellseg_engine.errors import ImageError
from cellseg_engine.pipeline.volume_masks import Tracing, group_voxels
from cellseg_engine.settings import make_settings
from tests.unit import plain

SHAPE = (14, 26, 30)


def ellipsoids(
    shape: tuple[int, int, int] = SHAPE, radius: float = 6, seed: int = 0, anisotropy: float = 1
) -> np.ndarray:
    """Ellipsoids on a jittered grid, some touching; int32, ids 1 to n."""
    rng = np.random.default_rng(seed)
    depth = radius / anisotropy
    grid = [
        np.arange(reach, n, 2.1 * reach)
        for n, reach in zip(shape, (depth, radius, radius), strict=True)
    ]
    best, labels = np.full(shape, 1.0), np.zeros(shape, np.int32)
    position = np.indices(shape)
    for label, centre in enumerate(itertools.product(*grid), start=1):
        radii = np.array([depth, radius, radius]) * rng.uniform(0.85, 1.1, 3)
        middle = np.array(centre) + rng.uniform(-0.1, 0.1, 3) * radii
        distance = (((position.T - middle) / radii) ** 2).sum(-1).T
        mine = distance < best
        best[mine], labels[mine] = distance[mine], label
    return np.unique(labels, return_inverse=True)[1].reshape(shape).astype(np.int32)


def tissue(shape: tuple[int, int, int] = SHAPE, pitch: int = 11, seed: int = 0) -> np.ndarray:
    """Cells of irregular shape without gaps between most of them; int32."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(0, n + pitch, pitch) for n in shape)), -1)
    points = grid.reshape(-1, 3) + rng.uniform(-pitch / 3, pitch / 3, (grid.size // 3, 3))
    distance = np.linalg.norm(np.indices(shape)[..., None] - points.T[:, None, None, None], axis=0)
    labels = np.where(distance.min(-1) < 0.7 * pitch, distance.argmin(-1) + 1, 0)
    return np.unique(labels, return_inverse=True)[1].reshape(shape).astype(np.int32)


def tracing(anisotropy: float = 1, **values: object) -> Tracing:
    return Tracing(make_settings({"volume_mode": "fuse", **values}), anisotropy, 200, "v3")


def group(
    flows: np.ndarray, mask: np.ndarray, anisotropy: float = 1, **values: object
) -> np.ndarray:
    return group_voxels(flows, mask, tracing(anisotropy, **values), max_size_fraction=1.0)


def as_partition(labels: np.ndarray) -> np.ndarray:
    """Give the labels numbered by their first voxel, so that the order of ids does not count."""
    ids, first = np.unique(labels, return_index=True)
    new = np.zeros(int(labels.max()) + 1, np.int64)
    new[ids[ids > 0][np.argsort(first[ids > 0])]] = np.arange(1, np.count_nonzero(ids) + 1)
    return np.asarray(new[labels])


# --- views -----------------------------------------------------------------------------------


def test_slices_are_those_of_the_three_planes() -> None:
    volume = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    xy, xz, yz = VIEWS
    np.testing.assert_array_equal(xy.slices(volume)[1], volume[:, 1])
    np.testing.assert_array_equal(xz.slices(volume)[3], volume[:, :, 3])
    np.testing.assert_array_equal(yz.slices(volume)[2], volume[:, :, :, 2])
    for view in VIEWS:
        assert {view.across, view.rows, view.columns} == {0, 1, 2}
        assert np.shares_memory(view.slices(volume), volume)


@pytest.mark.parametrize("fusion", ["average", "sum"])
def test_fused_fields_are_means_or_sums(fusion: str) -> None:
    rng = np.random.default_rng(0)
    answers = {view.name: rng.normal(size=(3, 5, 6, 7)).astype(np.float32) for view in VIEWS}
    fields = np.zeros((4, 5, 6, 7), np.float32)
    fuser = ViewFuser(fields[:3], fields[3], fusion)  # type: ignore[arg-type]
    for view in VIEWS:
        rows, columns, logits = (view.slices(part) for part in answers[view.name])
        for index in range(len(rows)):
            fuser.add(view, index, np.stack([rows[index], columns[index]]), logits[index])
    fuser.finish()
    xy, xz, yz = (answers[name] for name in ("XY", "XZ", "YZ"))
    flows = np.stack([xz[0] + yz[0], xy[0] + yz[1], xy[1] + xz[1]])
    logits = xy[2] + xz[2] + yz[2]
    if fusion == "average":
        flows = flows / 2
        logits = logit((expit(xy[2]) + expit(xz[2]) + expit(yz[2])) / 3)
    np.testing.assert_allclose(fields[:3], flows, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fields[3], logits, rtol=1e-4, atol=1e-5)


def test_certain_probabilities_stay_finite() -> None:
    fields = np.zeros((4, 2, 2, 2), np.float32)
    fuser = ViewFuser(fields[:3], fields[3], "average")
    for view in VIEWS:
        for index in range(2):
            fuser.add(view, index, np.zeros((2, 2, 2)), np.array([[90, -90], [0, 90]], np.float32))
    fuser.finish()
    assert np.isfinite(fields).all()
    assert np.abs(fields[3]).max() == pytest.approx(13.8, abs=0.1)


def test_smoothing_keeps_components_apart() -> None:
    flows = np.zeros((3, 9, 9, 9), np.float32)
    flows[1, 4, 4, 4] = 1
    smooth_flows(flows, 1.0)
    assert not flows[[0, 2]].any()
    assert flows[1].sum() == pytest.approx(1, abs=1e-3)
    assert flows[1, 4, 4, 4] == flows[1].max() < 0.1


# --- resizing --------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
    st.data(),
)
def test_resizing_is_that_of_planes_along_each_axis_and_windows_are_parts_of_it(
    old: tuple[int, int, int], new: tuple[int, int, int], data: st.DataObject
) -> None:
    volume = np.random.default_rng(0).normal(size=(2, *old)).astype(np.float32)
    in_planes = resize_bilinear(volume, new[1:])
    expected = resize_bilinear(in_planes.swapaxes(1, 2), (new[0], new[2])).swapaxes(1, 2)
    found = np.empty((2, *new), np.float32)
    resize_volume(lambda z: volume[:, z], old[0], new, found)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    starts = [data.draw(st.integers(0, n - 1)) for n in new]
    window = tuple(
        slice(start, data.draw(st.integers(start + 1, n)))
        for start, n in zip(starts, new, strict=True)
    )
    part = resize_volume_window(volume, new, window)
    np.testing.assert_array_equal(part, found[:, *window])


def test_voxels_become_as_deep_as_wide() -> None:
    assert scaled_volume_shape((10, 100, 200), 0.5, 4) == (20, 50, 100)


# --- flows -----------------------------------------------------------------------------------


def obvious_flows(labels: np.ndarray, variant: str = "v3") -> np.ndarray:
    """Flows of all slices, by the slow definition; the two of each axis averaged."""
    z, y, x = (np.zeros(labels.shape) for _ in range(3))
    for k, plane in enumerate(labels):
        own = plain.flows(plane, variant)
        y[k], x[k] = y[k] + own[0], x[k] + own[1]
    for k in range(labels.shape[1]):
        own = plain.flows(labels[:, k], variant)
        z[:, k], x[:, k] = z[:, k] + own[0], x[:, k] + own[1]
    for k in range(labels.shape[2]):
        own = plain.flows(labels[:, :, k], variant)
        z[:, :, k], y[:, :, k] = z[:, :, k] + own[0], y[:, :, k] + own[1]
    return np.stack([z, y, x]) / 2


@pytest.mark.parametrize("variant", ["v3", "v2"])
def test_flows_are_those_of_the_slow_definition(variant: str) -> None:
    labels = tissue()
    assert labels.max() >= 4
    found = volume_flows(labels, variant)  # type: ignore[arg-type]
    differ = np.abs(found - obvious_flows(labels, variant)).max(0) > 1e-5
    # Where the heat of a thin slice is flat, the direction is that of rounding errors.
    assert differ.sum() < 1e-3 * np.count_nonzero(labels)


def test_flows_of_deep_voxels_are_those_of_repeated_planes() -> None:
    labels = ellipsoids((6, 26, 30), anisotropy=3)
    found = volume_flows(labels, anisotropy=3.0)
    repeated = volume_flows(np.repeat(labels, 3, axis=0))
    np.testing.assert_array_equal(found[0], repeated[0, 1::3])
    np.testing.assert_allclose(found[1:], repeated[1:, 1::3], atol=1e-6)


def test_flow_errors_are_the_mean_squared_difference_of_each_object() -> None:
    labels = tissue()
    labels[labels == 2] = 0
    rng = np.random.default_rng(1)
    target = volume_flows(labels)
    flows = (target + rng.normal(0, 0.3, (3, *SHAPE))).astype(np.float32)
    found = volume_flow_errors(labels, flows)
    squared = ((target - flows) ** 2).sum(0)
    assert np.isnan(found[[0, 2]]).all()
    for label in np.unique(labels[labels > 0]):
        assert found[label] == pytest.approx(squared[labels == label].mean(), rel=1e-5)
    with pytest.raises(ImageError, match="do not fit labels of shape"):
        volume_flow_errors(labels, flows[:2])


# --- clusters --------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_exact_fields_give_the_objects_back(interpolation: str) -> None:
    labels = ellipsoids((20, 40, 44), seed=3)
    found = group(volume_flows(labels), labels > 0, interpolation=interpolation)
    assert labels.max() >= 12
    assert score_image(labels, found, (0.75, 0.9)).average_precision.tolist() == [1, 1]


def test_exact_fields_of_deep_voxels_give_the_objects_back() -> None:
    labels = ellipsoids((8, 40, 44), anisotropy=3, seed=3)
    found = group(volume_flows(labels, anisotropy=3.0), labels > 0, anisotropy=3)
    assert labels.max() >= 12
    assert score_image(labels, found, (0.75, 0.9)).average_precision.tolist() == [1, 1]


@settings(max_examples=12, deadline=None)
@given(st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3), st.integers(0, 5))
def test_turned_fields_give_the_same_partition(
    order: list[int], flips: tuple[bool, bool, bool], seed: int
) -> None:
    """Turns by 90 degrees, with the components of the field: all 48 of them and mirror images."""
    labels = ellipsoids(seed=seed)
    flows = volume_flows(labels)
    expected = group(flows, labels > 0)
    flipped = tuple(axis for axis in range(3) if flips[axis])
    signs = np.where(flips, -1, 1).astype(np.float32)[:, None, None, None]

    def turned(volume: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.flip(volume.transpose(order), flipped))

    turned_flows = np.stack([turned(flows[axis]) for axis in order]) * signs
    found = group(turned_flows, turned(labels) > 0)
    np.testing.assert_array_equal(as_partition(found), as_partition(turned(expected)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_clusters_are_those_of_the_slow_definition(seed: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    shape, n_bins = (6, 9, 10), (12, 9, 10)
    starts = np.stack(np.nonzero(rng.random(shape) < 0.9)).astype(np.int32)
    centres = rng.integers(0, n_bins, (4, 3))
    ends = centres[rng.integers(0, 4, starts.shape[1])].T
    ends = ends + rng.integers(-spread, spread + 1, ends.shape) // 2
    bins = np.clip(ends, 0, np.array(n_bins)[:, None] - 1).astype(np.int32)
    found = cluster_voxels(starts, bins, shape, n_bins, 0.4)
    np.testing.assert_array_equal(found, plain.cluster_volume(starts, bins, shape, n_bins, 0.4))


# --- labels ----------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_holes_of_volumes_are_what_scipy_fills(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((7, 9, 9), np.int32)
    labels[1:6, 1:5, 1:8], labels[0:6, 5:9, 1:8] = 3, 1
    labels[rng.random(labels.shape) < 0.25] = 0
    filled = tools.fill_holes(labels)
    expected = labels.copy()
    for label in (1, 3):
        inside = ndimage.binary_fill_holes(labels == label)
        expected[inside & (labels == 0)] = label
    np.testing.assert_array_equal(filled, expected)


def test_a_tunnel_is_no_hole_of_a_volume() -> None:
    labels = np.zeros((5, 5, 5), np.int32)
    labels[:, 1:4, 1:4] = 1
    labels[:, 2, 2] = 0
    np.testing.assert_array_equal(tools.fill_holes(labels), labels)
    labels[0, 2, 2] = labels[4, 2, 2] = 1
    assert (tools.fill_holes(labels)[:, 2, 2] == 1).all()


def test_boxes_and_centres_of_volumes() -> None:
    labels = ellipsoids()
    labels[labels == 2] = 0
    boxes, centres = tools.bounding_boxes(labels), tools.centroids(labels)
    assert boxes.shape == (labels.max() + 1, 6)
    assert not boxes[2].any()
    assert np.isnan(centres[2]).all()
    for label in np.unique(labels[labels > 0]):
        places = np.argwhere(labels == label)
        assert boxes[label, ::2].tolist() == places.min(0).tolist()
        assert boxes[label, 1::2].tolist() == (places.max(0) + 1).tolist()
        assert centres[label] == pytest.approx(places.mean(0))


@pytest.mark.parametrize("anisotropy", [1.0, 2.5])
def test_the_surface_of_a_ball(anisotropy: float) -> None:
    z, y, x = np.mgrid[-18:19, -18:19, -18:19]
    ball = ((z * anisotropy) ** 2 + y**2 + x**2 < 14.5**2).astype(np.int32)
    volume = tools.areas(ball)[1] * anisotropy
    radius = np.cbrt(volume * 3 / 4 / np.pi)
    assert tools.surface_areas(ball, anisotropy)[1] == pytest.approx(
        4 * np.pi * radius**2, rel=0.04
    )


def test_the_surface_of_a_box_is_two_thirds_of_its_faces() -> None:
    labels = np.zeros((6, 7, 8), np.int32)
    labels[2:4, 1:4, 0:4] = 2  # at the border in X
    assert tools.surface_areas(labels, 3.0)[2] == pytest.approx(2 / 3 * 2 * (12 + 3 * (8 + 6)))


def test_first_and_last_plane_of_a_volume_are_no_edge() -> None:
    labels = np.zeros((3, 6, 6), np.int32)
    labels[:, 2:4, 2:4], labels[1, 5, 2], labels[1, 2, 0] = 1, 2, 3
    assert tools.touches_edge(labels).tolist() == [False, False, True, True]


def test_cellpose3_reads_the_field_beside_the_place_in_blocks_as_in_one_piece() -> None:
    """One step through a field that is linear in x, from the formula in `follow_flows_beside`."""
    shape = (6, 8, 12)
    x = np.arange(shape[2], dtype=np.float32)
    flows = np.zeros((3, *shape), np.float32)
    flows[2] = 0.1 * x
    mask = np.zeros(shape, bool)
    mask[2:4, 3:5, 2:9] = True
    flows *= mask
    starts, ends = follow_flows_beside(flows, mask, 1, whole=shape)
    np.testing.assert_array_equal(starts, np.argwhere(mask).T)
    inner = (starts[2] > 3) & (starts[2] < 8)
    read_at = starts[2] * 12 / 11 - 0.5
    # Along Z and Y the places beside lie outside of the mask in part.
    share = np.ones(starts.shape[1])
    for axis, (low, high) in enumerate(((2, 3), (3, 4))):
        size = shape[axis]
        place = starts[axis] * size / (size - 1) - 0.5
        share *= np.clip(np.minimum(place - (low - 1), (high + 1) - place), 0, 1)
    expected = starts[2] + 0.1 * read_at * share
    np.testing.assert_allclose(ends[2][inner], expected[inner], atol=1e-5)
    np.testing.assert_allclose(ends[:2], starts[:2], atol=1e-5)
    part = (slice(1, 5), slice(2, 7), slice(1, 11))
    some, theirs = follow_flows_beside(
        flows[(slice(None), *part)], mask[part], 1, whole=shape, origin=(1, 2, 1)
    )
    np.testing.assert_array_equal(some + np.array([[1], [2], [1]]), starts)
    np.testing.assert_allclose(theirs, ends, atol=1e-5)


@pytest.mark.parametrize("anisotropy", [0.6, 1.7, 2.3])
@pytest.mark.parametrize(("start", "stop"), [(0, 27), (1, 30), (2, 29), (5, 30)])
def test_a_part_of_a_volume_has_the_flows_of_the_whole(
    anisotropy: float, start: int, stop: int
) -> None:
    labels = ellipsoids((30, 34, 36), radius=4, seed=3, anisotropy=anisotropy)
    whole = volume_flows(labels, "v3", anisotropy)[:, start:stop]
    window = labels[start:stop]
    part = volume_flows(window, "v3", anisotropy, first_plane=start, depth=30)
    is_seen = ~np.isin(window, [0, *np.unique(window[[0, -1]])])
    assert np.unique(window[is_seen]).size >= 9
    np.testing.assert_allclose(part[:, is_seen], whole[:, is_seen], atol=1e-5)


@pytest.mark.parametrize("anisotropy", [0.4, 1.7])
def test_the_flows_of_an_object_do_not_depend_on_the_others(anisotropy: float) -> None:
    labels = tissue()
    found = volume_flows(labels, "v3", anisotropy)
    assert not found[:, labels == 0].any()
    for label in range(1, labels.max() + 1):
        mine = labels == label
        alone = volume_flows(np.where(mine, labels, 0), "v3", anisotropy)
        np.testing.assert_array_equal(found[:, mine], alone[:, mine])
