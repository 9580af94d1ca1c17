"""Volumes with small random networks: a model for the sides, smoothing, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cellseg_engine import Progress, Segmentation, Segmenter, make_settings
from cellseg_engine.core.axes import to_planes
from cellseg_engine.core.volumes import smooth_flows
from cellseg_engine.errors import MemoryNeededError, SettingsError
from cellseg_engine.nets.card import ModelCard, write_weights
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.pipeline import volume as volume_module
from cellseg_engine.pipeline.memory import VolumePlan
from cellseg_engine.pipeline.prepare import predict_at_scale, prepare_stack
from cellseg_engine.pipeline.progress import Ticker
from cellseg_engine.pipeline.volume import VolumeNetwork, show_volume
from cellseg_engine.settings import Settings
from tests.integration.test_volumes import balls
from tests.integration.training import small_network

DIAMETER_PX = 16.0
NOBODY = Ticker(None, None)
"""Nobody watches the work."""


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with small_network():
        yield


@pytest.fixture(scope="module")
def random_model(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., str]:
    """Give the file of a small network with weights of that seed."""
    folder = tmp_path_factory.mktemp("models")

    def make(seed: int, n_channels: int = 1, diameter_px: float = DIAMETER_PX) -> str:
        path: Path = folder / f"random-{seed}-{n_channels}-{diameter_px:g}.safetensors"
        torch.manual_seed(seed)
        arrays = {
            name: value.numpy() for name, value in ResidualUNet(n_channels).state_dict().items()
        }
        write_weights(path, ModelCard(path.stem, n_channels, diameter_px, diameter_px), arrays)
        return str(path)

    return make


def load(model: str, side: str = "same", volume_mode: str = "fuse") -> Segmenter:
    settings = make_settings(
        model=model,
        model_side_views=side,
        device="cpu",
        volume_mode=volume_mode,
        anisotropy="1",
        diameter_px=DIAMETER_PX,
        percentile_high=99.5,  # no second look
    )
    return Segmenter(settings, runtime="torch")


def crop(n_planes: int = 6) -> np.ndarray:
    return np.ascontiguousarray(balls()[1][:n_planes, 4:28, 4:28])


@pytest.fixture(scope="module")
def segmenter(random_model: Callable[..., str]) -> Segmenter:
    return load(random_model(0))


# --- another model for the sides -------------------------------------------------------------


def test_another_model_looks_at_the_sides_and_there_alone(
    random_model: Callable[..., str],
) -> None:
    a, b = random_model(0), random_model(1)
    # Sums: what the XY slices give, and what the others give.
    found = {
        main + side: load(one, other, volume_mode="cellpose3").segment(crop(), "ZYX")
        for main, one in (("a", a), ("b", b))
        for side, other in (("a", a), ("b", b))
    }
    flows = {models: result.flows for models, result in found.items()}
    logits = {models: result.logits for models, result in found.items()}
    # The flow along Z is seen from the sides only.
    np.testing.assert_array_equal(flows["ab"][0], flows["bb"][0])
    np.testing.assert_array_equal(flows["ba"][0], flows["aa"][0])
    for fields in (flows, logits):
        np.testing.assert_allclose(
            fields["ab"] + fields["ba"], fields["aa"] + fields["bb"], atol=1e-4
        )
        scale = fields["aa"].std()
        for one, other in (("ab", "aa"), ("ab", "bb"), ("ab", "ba")):
            assert np.abs(fields[one] - fields[other]).max() > 0.1 * scale
    # The style is that of the XY slices.
    np.testing.assert_array_equal(found["ab"].style, found["aa"].style)
    hashes = {name: result.provenance["model"]["weights_sha256"] for name, result in found.items()}
    assert hashes["ab"] == [hashes["aa"][0], hashes["bb"][0]]


@pytest.mark.parametrize(("n_channels", "diameter_px"), [(2, 16), (1, 30)])
def test_a_model_of_the_sides_that_does_not_fit_is_refused(
    random_model: Callable[..., str], n_channels: int, diameter_px: int
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(random_model(0), random_model(1, n_channels, diameter_px))
    side = f"random-1-{n_channels}-{diameter_px} ({n_channels} channels, diameter {diameter_px} px)"
    assert f"{side}, does not fit random-0-1-16 (1 channels, 16 px)" in str(caught.value)


# --- smoothing, augmentation -------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_flows_are_smoothed_at_the_scale_of_the_network(segmenter: Segmenter, scale: float) -> None:
    diameter_px = DIAMETER_PX / scale
    settings = make_settings(segmenter.settings, diameter_px=diameter_px)
    stack = to_planes(crop(), "ZYX")
    preparation = prepare_stack(stack, settings, (), 1)
    network = VolumeNetwork(segmenter.model, segmenter.model, settings)
    plan = network.plan(stack.pixels, diameter_px, 1.0, keeps_fields=True)
    expected, _ = network.predict(stack.pixels[0], preparation, plan, NOBODY)
    rough = segmenter.segment(crop(), "ZYX", settings=settings)
    window = tuple(slice(0, n) for n in rough.labels.shape)
    np.testing.assert_array_equal(rough.flows, expected.window(window)[0])

    smooth_flows(expected.fields[:3], 3 * scale)
    smooth = make_settings(settings, flow_smoothing_px=3)
    found = segmenter.segment(crop(), "ZYX", settings=smooth)
    np.testing.assert_array_equal(found.flows, expected.window(window)[0])
    np.testing.assert_array_equal(found.logits, rough.logits)
    assert (found.flows != rough.flows).mean() > 0.9


def test_each_slice_is_seen_flipped_too(segmenter: Segmenter) -> None:
    image = crop(8)[:, :12, :12]
    flips = make_settings(segmenter.settings, test_time_augmentation="flips")
    stack = to_planes(image, "ZYX")
    seen = np.zeros((1, *image.shape), np.float32)
    show_volume(stack.pixels[0], prepare_stack(stack, flips, (), 1), seen)

    def column(y: int, x: int, settings: Settings) -> np.ndarray:
        """Give the flow along Z at a place, from the two slices that cross there."""
        sides = (
            predict_at_scale(segmenter.model, np.ascontiguousarray(plane), 1.0, settings, NOBODY)
            for plane in (seen[:, :, y], seen[..., x])
        )
        xz, yz = (fields.flows[0] for fields in sides)
        return np.asarray((xz[:, x] + yz[:, y]) / 2)

    found = segmenter.segment(image, "ZYX", settings=flips).flows[0, :, 5, 7]
    np.testing.assert_allclose(found, column(5, 7, flips), atol=1e-5)
    assert np.abs(found - column(5, 7, segmenter.settings)).max() > 1e-3


# --- memory ----------------------------------------------------------------------------------


def planned(result: Segmentation) -> int:
    return int(result.provenance["volume"]["planned_bytes"])


def test_a_volume_that_does_not_fit_is_refused_before_the_network_runs(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = segmenter.segment(crop(), "ZYX")
    seen: list[Progress] = []
    monkeypatch.setattr(volume_module, "available_bytes", lambda: 200_000)
    with pytest.raises(MemoryNeededError) as caught:
        segmenter.segment(crop(), "ZYX", progress=seen.append)
    assert str(caught.value) == (
        "The volume of 6 x 24 x 24 voxels does not fit into the memory: with blocks of 288 px "
        "about 0.46 MB are needed, and 0.20 MB are free. Give a smaller volume_block_px, segment "
        "a part of the volume at a time, or end other programs."
    )
    assert "network" not in {progress.stage for progress in seen}

    monkeypatch.setattr(volume_module, "available_bytes", lambda: planned(expected))
    found = segmenter.segment(crop(), "ZYX")
    np.testing.assert_array_equal(found.flows, expected.flows)


def test_many_time_points_need_more_than_one(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = np.stack([crop(2)] * 3)
    one = segmenter.segment(series[:1], "TZYX")
    without = segmenter.segment(series, "TZYX", keep_fields=False)
    n_voxels = series[0].size
    assert planned(without) - planned(one) == (2 * 4 - 16) * n_voxels

    monkeypatch.setattr(volume_module, "available_bytes", lambda: planned(one))
    again = segmenter.segment(series[:1], "TZYX")
    np.testing.assert_array_equal(again.flows, one.flows)
    seen: list[Progress] = []
    with pytest.raises(MemoryNeededError, match="3 volumes of 2 x 24 x 24 voxels do not fit"):
        segmenter.segment(series, "TZYX", progress=seen.append)
    assert "network" not in {progress.stage for progress in seen}


def test_the_results_made_already_are_not_counted_again(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = np.stack([crop(2)] * 3)
    free = [planned(segmenter.segment(series, "TZYX"))]

    def less_each_time() -> int:
        free.append(free[-1] - 20 * series[0].size)
        return free[-2]

    monkeypatch.setattr(volume_module, "available_bytes", less_each_time)
    in_file: list[bool] = []
    uses_a_file = VolumePlan.uses_a_file

    def watched(plan: VolumePlan, available: int) -> bool:
        in_file.append(uses_a_file(plan, available))
        return in_file[-1]

    monkeypatch.setattr(VolumePlan, "uses_a_file", watched)
    segmenter.segment(series, "TZYX")
    assert in_file == [False, False, False]


def test_the_copy_of_channels_between_planes_is_counted(segmenter: Segmenter) -> None:
    image = np.stack([crop(2), crop(2), crop(2)])
    settings = make_settings(segmenter.settings, channel="1")
    planes_inside = segmenter.segment(image, "CZYX", settings=settings)
    channels_inside = segmenter.segment(
        np.ascontiguousarray(image.swapaxes(0, 1)), "ZCYX", settings=settings
    )
    np.testing.assert_array_equal(planes_inside.flows, channels_inside.flows)
    assert planned(channels_inside) - planned(planes_inside) == image.nbytes
