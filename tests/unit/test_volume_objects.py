"""Volumes in the pipeline: blocks, sizes, the plan of the memory, anisotropy, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_engine.core.axes import to_planes
from cellseg_engine.core.metrics import score_image
from cellseg_engine.core.volume_flows import volume_flows
from cellseg_engine.core.volumes import scaled_volume_shape
from cellseg_engine.errors import AxesError, CancelledError, MemoryNeededError, SettingsError
from cellseg_engine.pipeline import volume_masks
from cellseg_engine.pipeline.blocks import (
    CUT_WARNING,
    MAX_GROWTH,
    largest_window,
    plan_blocks,
    window_size,
)
from cellseg_engine.pipeline.memory import (
    VolumePlan,
    available_bytes,
    block_bytes,
    block_voxels,
    zeros,
)
from cellseg_engine.pipeline.volume import check_volume, copied_bytes, find_anisotropy, tall_plane
from cellseg_engine.pipeline.volume_fields import VolumeFields
from cellseg_engine.pipeline.volume_masks import (
    Tracing,
    VolumeObjects,
    clean_volume,
    describe_volume,
    limits_px,
    trace_volume,
)
from cellseg_engine.settings import make_settings
from tests.unit.test_volumes import as_partition, tissue, tracing


def noisy_fields(labels: np.ndarray, noise: float = 0.15) -> VolumeFields:
    fields = np.zeros((4, *labels.shape), np.float32)
    fields[:3] = volume_flows(labels)
    fields[:3] += np.random.default_rng(1).normal(0, noise, fields[:3].shape)
    fields[3] = np.where(labels > 0, 6, -6)
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    return VolumeFields(fields, shape, np.ones(256, np.float32))


def trace(
    fields: VolumeFields, max_voxels: int, how: Tracing, diameter_px: float = 12
) -> tuple[VolumeObjects, tuple[str, ...]]:
    return trace_volume(fields, how, diameter_px=diameter_px, max_voxels=max_voxels)


# --- blocks ----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 90)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.integers(36**3, 10**6),
)
def test_cores_cover_the_volume_once_and_windows_are_bounded(
    shape: tuple[int, int, int], halo: tuple[int, int, int], max_voxels: int
) -> None:
    blocks = plan_blocks(shape, halo, max_voxels)
    seen = np.zeros(shape, int)
    for block in blocks:
        seen[block.core] += 1
        assert np.prod([s.stop - s.start for s in block.window(halo, shape)]) <= max_voxels
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("anisotropy", "shape"), [(1.0, (40, 70, 80)), (1.7, (40, 70, 80)), (2.3, (90, 48, 52))]
)
def test_blocks_give_the_objects_of_the_whole(
    anisotropy: float, shape: tuple[int, int, int]
) -> None:
    fields = noisy_fields(tissue(shape, pitch=12, seed=4))
    how = tracing(anisotropy)
    expected, none = trace(fields, 10**9, how)
    found, notes = trace(fields, 50**3, how)
    assert len(plan_blocks(fields.shape, (24, 24, 24), 50**3)) >= 12
    assert expected.labels.max() > 50
    assert none == notes == ()
    score = score_image(expected.labels, found.labels, (0.9,))
    assert score.average_precision[0] == 1
    np.testing.assert_array_equal(as_partition(found.labels), as_partition(expected.labels))
    pairs = np.unique(np.stack([found.labels, expected.labels])[:, found.labels > 0], axis=1)
    for ours, theirs in pairs.T:
        assert found.flow_error[ours - 1] == pytest.approx(expected.flow_error[theirs - 1])


def test_what_is_larger_than_any_block_is_cut_and_it_is_said() -> None:
    labels = np.zeros((60, 60, 60), np.int32)
    labels[2:58, 2:58, 2:58] = 1
    how = tracing(max_size_fraction=1.0)
    _, notes = trace(noisy_fields(labels, 0), 25**3, how, diameter_px=4)
    assert notes == (CUT_WARNING,)


def large_ball() -> VolumeFields:
    """A ball of 36 px amid 52 px."""
    distance = sum((axis - 26) ** 2 for axis in np.indices((52, 52, 52)))
    return noisy_fields((distance < 18**2).astype(np.int32), 0)


def test_a_block_grows_where_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    fields, how = large_ball(), tracing(max_size_fraction=1.0)
    expected, _ = trace(fields, 10**9, how)
    asked: list[int] = []

    def enough() -> int:
        asked.append(block_bytes(52**3, 1.0))
        return asked[-1]

    monkeypatch.setattr(volume_masks, "available_bytes", enough)
    found, notes = trace(fields, 44**3, how, diameter_px=4)
    assert asked, "a block has grown"
    assert notes == ()
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_block_that_grows_beyond_the_memory_is_refused_with_the_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(volume_masks, "available_bytes", lambda: block_bytes(44**3, 1.0))
    with pytest.raises(MemoryNeededError) as caught:
        trace(large_ball(), 44**3, tracing(max_size_fraction=1.0), diameter_px=4)
    text = str(caught.value)
    assert "so large that a block of " in text
    assert "MB are needed, and 8.35 MB are free. Give diameter_px" in text
    assert "a smaller volume_block_px" in text


def test_empty_volumes_have_no_objects() -> None:
    fields = noisy_fields(np.zeros((20, 40, 40), np.int32))
    for max_voxels in (10**9, 30**3):
        found, notes = trace(fields, max_voxels, tracing(), diameter_px=4)
        assert not found.labels.any()
        assert found.flow_error.size == 0
        assert notes == ()
        assert all(len(column) == 0 for column in describe_volume(found, fields, 1.0).values())


def test_work_stops_between_blocks() -> None:
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done == 1:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        trace_volume(
            noisy_fields(tissue((30, 40, 40))),
            tracing(),
            diameter_px=4,
            max_voxels=36**3,
            on_block=stop,
        )
    assert seen == [0, 1]


# --- what stays ------------------------------------------------------------------------------


def boxes(*sides: int) -> np.ndarray:
    """Cubes in a row along X, apart from each other; int32."""
    labels = np.zeros((12, 14, 20 * len(sides)), np.int32)
    for number, side in enumerate(sides):
        start = 20 * number + 3
        labels[1 : side + 1, 2 : side + 2, start : start + side] = number + 1
    return labels


def kept(labels: np.ndarray, how: Tracing, errors: tuple[float, ...] = ()) -> list[int]:
    """Give the volumes of the objects that stay."""
    measured = np.array([np.nan, *(errors or (0.0,) * int(labels.max()))])
    objects = clean_volume(labels, measured, how)
    assert len(objects.flow_error) == objects.labels.max()
    return [int(n) for n in np.bincount(objects.labels.ravel())[1:]]


def test_objects_below_a_share_of_the_median_go() -> None:
    labels = boxes(10, 10, 4, 5)  # 64 < 0.1 * median (562.5) > 125 is not
    assert kept(labels, tracing()) == [1000, 1000, 64, 125]
    assert kept(labels, tracing(min_volume_share=0.2)) == [1000, 1000, 125]
    assert kept(labels, tracing(min_volume_share=0)) == [1000, 1000, 64, 125]
    assert kept(labels, tracing(min_volume_share=0.2, volume_mode="cellpose3")) == [
        *(1000, 1000, 64, 125)
    ]


def test_limits_in_voxels_and_in_microns() -> None:
    labels = boxes(10, 8, 4, 2)
    share = {"min_volume_share": 0}
    assert kept(labels, tracing(**share)) == [1000, 512, 64]
    assert kept(labels, tracing(min_volume_px=0, **share)) == [1000, 512, 64, 8]
    assert kept(labels, tracing(min_volume_px=100, max_volume_px=600, **share)) == [512]
    microns = tracing(min_volume_um3=100, max_volume_um3=600, **share)
    assert kept(labels, replace(microns, voxel_um3=2.0)) == [64]
    both = tracing(min_volume_um3=10, max_volume_px=600, **share)
    assert kept(labels, replace(both, voxel_um3=1.0)) == [512, 64]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"min_volume_um3": 10, "max_volume_px": 500},
            "max_volume_px = 500 is 500 voxels, less than min_volume_um3 = 10, which is 1000.",
        ),
        (
            {"max_volume_um3": 0.1},
            "max_volume_um3 = 0.1 is 10 voxels, less than min_volume_px = 15, which is 15.",
        ),
        (
            {"min_volume_px": 0, "max_volume_um3": 0.001},
            "max_volume_um3 = 0.001 is 0.1 voxels, less than one.",
        ),
    ],
)
def test_limits_that_no_object_is_within_are_refused(values: dict[str, float], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        limits_px(make_settings(values), 0.01)
    assert text in str(caught.value)


def test_limits_in_voxels() -> None:
    assert limits_px(make_settings(), 0.0) == (15, np.inf)
    values = {"min_volume_um3": 1, "max_volume_px": 500, "max_volume_um3": 2}
    assert limits_px(make_settings(values), 0.01) == (100, 200)


def test_flow_errors_count_but_for_cellpose3() -> None:
    labels = boxes(10, 9)
    errors = (0.81, 0.79)
    assert kept(labels, tracing(), errors) == [729]
    assert kept(labels, tracing(flow_threshold=0), errors) == [1000, 729]
    assert kept(labels, tracing(volume_mode="cellpose3"), errors) == [1000, 729]


def test_holes_are_filled_before_sizes_count() -> None:
    labels = boxes(10, 10)
    labels[2:10, 3:11, 4:12][labels[2:10, 3:11, 4:12] == 1] = 0
    assert kept(labels, tracing()) == [1000, 1000]
    assert kept(labels, tracing(fill_holes=False, min_volume_px=500)) == [1000]


def test_the_table_of_a_volume() -> None:
    labels = boxes(10, 4)
    fields = noisy_fields(labels, 0)
    table = describe_volume(VolumeObjects(labels, np.array([0.1, 0.2])), fields, 2.0)
    assert table["label"].tolist() == [1, 2]
    assert table["volume_px"].tolist() == [1000, 64]
    assert table["centroid_z_px"].tolist() == [5.5, 2.5]
    assert table["centroid_x_px"].tolist() == [7.5, 24.5]
    assert (table["z_first"].tolist(), table["z_last"].tolist()) == ([1, 1], [10, 4])
    assert table["diameter_px"][0] == pytest.approx(np.cbrt(2000 * 6 / np.pi))
    assert table["surface_px"] == pytest.approx([2 / 3 * 1000, 2 / 3 * 160])
    assert table["mean_probability"] == pytest.approx(1 / (1 + np.exp(-6)))
    assert not table["touches_edge"].any()


# --- anisotropy ------------------------------------------------------------------------------


def test_anisotropy_comes_from_the_calibration_or_is_given() -> None:
    sizes = {"Z": 2.0, "Y": 0.5, "X": 0.5}
    found = find_anisotropy(make_settings(), sizes)
    assert (found.value, found.source, found.warnings) == (4.0, "calibration", ())
    thin = find_anisotropy(make_settings(), {"Z": 0.3, "Y": 0.1, "X": 0.1})
    assert scaled_volume_shape((10, 20, 20), 1.0, thin.value) == (30, 20, 20)
    given_too = find_anisotropy(make_settings(anisotropy="4.1"), sizes)
    assert (given_too.value, given_too.source) == (4.1, "given")
    unknown = find_anisotropy(make_settings(), {"Y": 0.5, "X": 0.5})
    assert (unknown.value, unknown.source) == (1.0, "assumed")
    assert "Nothing says how far the planes are apart" in unknown.warnings[0]
    assert find_anisotropy(make_settings(anisotropy=3), {"Y": 0.5}).warnings == ()
    oblong = find_anisotropy(make_settings(), {"Z": 2.0, "Y": 0.25, "X": 1.0})
    assert oblong.value == 4
    assert "pixels are not square" in oblong.warnings[0]


@pytest.mark.parametrize(
    ("values", "sizes", "words"),
    [
        (
            {"anisotropy": "3"},
            {"Z": 2.0, "Y": 0.5, "X": 0.5},
            "anisotropy = 3 contradicts the calibration of the image, whose planes are 2 µm apart",
        ),
        ({"anisotropy": "300"}, {}, "anisotropy = 300 makes voxels 300 times as deep as wide"),
        ({}, {"Z": 1000.0, "Y": 0.5, "X": 0.5}, "The calibration (planes 1000 µm apart"),
        ({"min_volume_um3": 5}, {}, "min_volume_um3 = 5 needs the size of a voxel in µm"),
        ({"max_volume_um3": 5}, {"Y": 1.0, "X": 1.0}, "Use max_volume_px"),
    ],
)
def test_what_cannot_be_is_said(
    values: dict[str, object], sizes: dict[str, float], words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        find_anisotropy(make_settings(values), sizes)
    assert words in str(caught.value)


def test_the_calibration_is_in_the_refusal() -> None:
    with pytest.raises(SettingsError, match=r"whose pixels are 0.5 µm wide: 4\. Leave"):
        find_anisotropy(make_settings(anisotropy="3"), {"Z": 2.0, "Y": 0.5, "X": 0.5})


@pytest.mark.parametrize(
    ("shape", "axes", "words"),
    [
        ((8, 9), "YX", "needs planes along Z, but the image has the axes YX."),
        ((4, 8, 9), "TYX", "the axes TYX (T is time). If its planes are a Z stack, give axes"),
        ((4, 8, 9), "TYX", "for example ZYX (in ImageJ: Image > Properties); else set volume_mode"),
        ((1, 8, 9), "ZYX", "needs at least 2 planes along Z; this image has one."),
        ((3, 1, 8, 9), "TZYX", "needs at least 2 planes along Z"),
    ],
)
def test_what_is_no_volume_is_refused(shape: tuple[int, ...], axes: str, words: str) -> None:
    with pytest.raises(AxesError) as caught:
        check_volume(to_planes(np.zeros(shape), axes), make_settings(volume_mode="fuse"))
    assert words in str(caught.value)


# --- memory ----------------------------------------------------------------------------------

PLAN = VolumePlan(
    shape=(500, 4000, 4000),
    scaled_shape=(900, 2000, 2000),
    n_channels=2,
    anisotropy=2.0,
    block_voxels=block_voxels(0),
    window_voxels=288**3,
    keeps_fields=False,
    n_frames=1,
    copied_bytes=0,
)


def test_a_block_has_no_more_voxels_than_the_kernels_can_count() -> None:
    assert block_voxels(500) == 500**3
    assert MAX_GROWTH * block_voxels(10_000) < 2**32


def refusal(plan: VolumePlan, available: int) -> str:
    with pytest.raises(MemoryNeededError) as caught:
        plan.uses_a_file(available)
    return str(caught.value)


def test_a_volume_that_does_not_fit_is_refused_with_the_numbers() -> None:
    assert refusal(PLAN, 16 * 10**9) == (
        "The volume of 500 x 4000 x 4000 voxels does not fit into the memory: with blocks of 288 "
        "px about 162.53 GB are needed, and 16.00 GB are free. Give a smaller volume_block_px, "
        "segment a part of the volume at a time, or end other programs."
    )
    several = refusal(replace(PLAN, n_frames=3), PLAN.other_bytes)
    assert several.startswith("3 volumes of 500 x 4000 x 4000 voxels do not fit")
    assert "segment fewer time points at a time" in several
    wide = refusal(replace(PLAN, window_voxels=600**3), 16 * 10**9)
    assert "with blocks of 600 px" in wide
    assert "Check diameter_px" in wide


def test_fields_go_into_a_file_where_only_they_do_not_fit() -> None:
    assert PLAN.uses_a_file(PLAN.other_bytes)
    assert PLAN.uses_a_file(PLAN.other_bytes + PLAN.scaled_bytes - 1)
    assert not PLAN.uses_a_file(PLAN.other_bytes + PLAN.scaled_bytes)
    assert PLAN.scaled_bytes == 900 * 2000 * 2000 * (2 * 4 + 16)


def test_results_of_all_time_points_the_copy_and_the_largest_block_are_counted() -> None:
    n_voxels = 500 * 4000 * 4000
    assert PLAN.other_bytes == 20 * n_voxels + (90 + 2 * 8) * 288**3
    for changes, more in (
        ({"n_frames": 10}, 9 * 4 * n_voxels),
        ({"keeps_fields": True}, 16 * n_voxels),
        ({"keeps_fields": True, "n_frames": 10}, (9 * 4 + 10 * 16) * n_voxels),
        ({"copied_bytes": 7}, 7),
        ({"window_voxels": 600**3}, (90 + 2 * 8) * (600**3 - 288**3)),
    ):
        assert replace(PLAN, **changes).other_bytes - PLAN.other_bytes == more


@pytest.mark.parametrize("order", ["ZCYX", "CZYX", "ZYXC", "CZXY"])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_the_copy_is_counted_where_there_is_one(order: str, n_channels: int) -> None:
    sizes = {"Z": 4, "C": n_channels, "Y": 5, "X": 6}
    image = np.zeros([sizes[axis] for axis in order], np.uint16)
    pixels = to_planes(image, order).pixels[0]
    has_copy = not np.shares_memory(tall_plane(pixels), image)
    assert copied_bytes(pixels) == (image.nbytes if has_copy else 0)
    assert has_copy == (order == "CZXY" or (order == "ZCYX" and n_channels > 1))


def test_the_largest_block_is_wider_than_set_where_objects_are() -> None:
    shape, halo = (300, 400, 500), (40, 40, 40)
    assert largest_window((30, 40, 50), halo, 10**6) == 30 * 40 * 50
    assert largest_window(shape, (10, 10, 10), 100**3) <= 100**3
    windows = [block.window(halo, shape) for block in plan_blocks(shape, halo, 50**3)]
    assert largest_window(shape, halo, 50**3) == max(map(window_size, windows)) > 100**3


def test_a_file_is_an_array_like_another() -> None:
    array = zeros((2, 3, 4), in_file=True)
    assert isinstance(array, np.memmap)
    assert array.dtype == np.float32
    assert not array.any()
    array[1, 2, 3] = 5
    assert array.sum() == 5
    with pytest.raises(MemoryNeededError, match="fit neither into the memory nor into the temp"):
        zeros((10**6, 10**6, 10**6), in_file=True)


def test_some_memory_is_free() -> None:
    assert 10**6 < available_bytes() < 10**15
