"""A plane in blocks has the objects of the plane as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.core.resize import resize_bilinear
from cellseg_engine.errors import CancelledError
from cellseg_engine.pipeline.blocks import CUT_WARNING, plan_blocks, trace_plane
from cellseg_engine.pipeline.masks import PlaneObjects
from cellseg_engine.pipeline.plane_fields import PlaneFields
from cellseg_engine.settings import make_settings


def tissue(shape: tuple[int, int] = (300, 360), pitch: int = 20, seed: int = 0) -> np.ndarray:
    """Cells without gaps between most of them: the nearest of jittered points; int32."""
    rng = np.random.default_rng(seed)
    points = np.stack(np.meshgrid(*(np.arange(0, n + pitch, pitch) for n in shape)), -1)
    jittered = points.reshape(-1, 2) + rng.uniform(-pitch / 3, pitch / 3, (points.size // 2, 2))
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = (y[..., None] - jittered[:, 0]) ** 2 + (x[..., None] - jittered[:, 1]) ** 2
    labels = distance.argmin(axis=-1) + 1
    return np.where(distance.min(axis=-1) < (0.7 * pitch) ** 2, labels, 0).astype(np.int32)


def noisy_fields(labels: np.ndarray, noise: float = 0.2) -> PlaneFields:
    flows = labels_to_flows(labels)
    flows += np.random.default_rng(1).normal(0, noise, flows.shape).astype(np.float32)
    logit = np.where(labels > 0, 6, -6).astype(np.float32)
    shape = (labels.shape[0], labels.shape[1])
    return PlaneFields(Fields(flows, logit, np.ones(256, np.float32)), shape)


def trace(
    fields: PlaneFields, max_pixels: int, diameter_px: float = 20, **values: object
) -> tuple[PlaneObjects, tuple[str, ...]]:
    return trace_plane(
        fields,
        make_settings(values),
        iterations=200,
        diameter_px=diameter_px,
        variant="v3",
        max_pixels=max_pixels,
    )


def as_partition(labels: np.ndarray) -> np.ndarray:
    """Give the labels numbered by their first pixel, so that the order of ids does not count."""
    ids, first = np.unique(labels, return_index=True)
    new = np.zeros(int(labels.max()) + 1, np.int64)
    order = np.argsort(first[ids > 0])
    new[ids[ids > 0][order]] = np.arange(1, order.size + 1)
    return np.asarray(new[labels])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 80), st.integers(400, 100_000))
def test_cores_cover_the_plane_once_and_windows_are_bounded(
    height: int, width: int, halo: int, max_pixels: int
) -> None:
    blocks = plan_blocks((height, width), (halo, halo), max_pixels)
    if len(blocks) <= 400:
        seen = np.zeros((height, width), int)
        for block in blocks:
            seen[block.core] += 1
        assert (seen == 1).all()
    if halo <= np.sqrt(max_pixels) / 4:
        for block in blocks:
            rows, columns = block.window((halo, halo), (height, width))
            assert (rows.stop - rows.start) * (columns.stop - columns.start) <= max_pixels


@pytest.mark.parametrize("seed", [0, 1])
def test_blocks_give_the_objects_of_the_whole(seed: int) -> None:
    fields = noisy_fields(tissue(seed=seed))
    expected, none = trace(fields, 10**9)
    found, notes = trace(fields, 130 * 130)
    assert len(plan_blocks(fields.shape, (40, 40), 130 * 130)) > 20
    assert expected.labels.max() > 200
    assert none == notes == ()
    np.testing.assert_array_equal(as_partition(found.labels), as_partition(expected.labels))
    ours = {int(label): error for label, error in enumerate(found.flow_error, start=1)}
    theirs = {int(label): error for label, error in enumerate(expected.flow_error, start=1)}
    pairs = np.unique(np.stack([found.labels, expected.labels])[:, found.labels > 0], axis=1)
    for a, b in pairs.T:
        assert ours[int(a)] == pytest.approx(theirs[int(b)], rel=1e-6)


def test_settings_of_sizes_and_holes_mean_the_whole_plane() -> None:
    labels = tissue((200, 260), seed=3)
    labels[(labels % 5 == 0) & (np.indices(labels.shape).sum(0) % 7 == 0)] = 0  # holes
    fields = noisy_fields(labels, 0.1)
    areas = np.bincount(labels.ravel())[1:]
    middle = int(np.median(areas[areas > 0]))
    for values in (
        {"min_area_px": middle},
        {"max_area_px": middle},
        {"max_size_fraction": (middle + 0.5) / labels.size},
        {"exclude_edge_objects": True},
        {"fill_holes": False},
        {"interpolation": "nearest"},
        {"flow_threshold": 0.1},
    ):
        expected, _ = trace(fields, 10**9, **values)
        found, _ = trace(fields, 130 * 130, **values)
        assert expected.labels.max() > 0
        np.testing.assert_array_equal(as_partition(found.labels), as_partition(expected.labels))


def test_objects_larger_than_the_halo_are_seen_whole() -> None:
    """The diameter given is a fifth of the largest object's."""
    y, x = np.mgrid[:400, :420]
    labels = np.zeros((400, 420), np.int32)
    for label, (cy, cx, ry, rx) in enumerate(
        [(200, 210, 50, 40), (60, 60, 30, 45), (330, 330, 12, 12), (50, 200, 8, 50)], start=1
    ):
        labels[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] = label
    fields = noisy_fields(labels, 0)
    expected, _ = trace(fields, 10**9)
    found, notes = trace(fields, 150 * 150, diameter_px=20)
    assert notes == ()
    assert expected.labels.max() == 4
    np.testing.assert_array_equal(as_partition(found.labels), as_partition(expected.labels))


def test_what_is_larger_than_any_block_is_cut_and_it_is_said() -> None:
    labels = np.zeros((120, 120), np.int32)
    labels[5:115, 5:115] = 1
    _, notes = trace(noisy_fields(labels, 0), 40 * 40, diameter_px=4, max_size_fraction=1.0)
    assert notes == (CUT_WARNING,)


def test_empty_planes_have_no_objects() -> None:
    found, notes = trace(noisy_fields(np.zeros((200, 200), np.int32)), 60 * 60)
    assert found.labels.shape == (200, 200)
    assert not found.labels.any()
    assert found.flow_error.size == 0
    assert notes == ()


def test_work_stops_between_blocks() -> None:
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        trace_plane(
            noisy_fields(tissue((200, 200))),
            make_settings(),
            iterations=50,
            diameter_px=20,
            variant="v3",
            max_pixels=130 * 130,
            on_block=stop,
        )
    assert [done for done, _ in seen] == [0, 1, 2]


@settings(max_examples=15, deadline=None)
@given(st.integers(20, 80), st.integers(20, 80), st.floats(0.3, 3), st.data())
def test_windows_of_fields_are_parts_of_the_whole(
    height: int, width: int, factor: float, data: st.DataObject
) -> None:
    rng = np.random.default_rng(0)
    shape = (max(1, int(height * factor)), max(1, int(width * factor)))
    fields = Fields(
        rng.normal(size=(2, height, width)).astype(np.float32),
        rng.normal(size=(height, width)).astype(np.float32),
        np.ones(256, np.float32),
    )
    plane = PlaneFields(fields, shape)
    starts = [data.draw(st.integers(0, n - 1)) for n in shape]
    rows, columns = (
        slice(start, data.draw(st.integers(start + 1, n)))
        for start, n in zip(starts, shape, strict=True)
    )
    part = plane.window(rows, columns)
    np.testing.assert_array_equal(
        part.flows, resize_bilinear(fields.flows, shape)[:, rows, columns]
    )
    np.testing.assert_array_equal(part.logit, resize_bilinear(fields.logit, shape)[rows, columns])
    np.testing.assert_array_equal(plane.whole().logit[rows, columns], part.logit)
