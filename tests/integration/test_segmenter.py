"""The pipeline with the real network: settings, stacks, progress, cancel, size."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellseg_engine import CellSegError, Progress, Segmentation, Segmenter, make_settings
from cellseg_engine.errors import CancelledError, SettingsError
from tests.integration.cli import disks


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(make_settings(device="cpu", diameter_px=24))


def run(
    segmenter: Segmenter, image: np.ndarray, axes: str | None = None, **values: Any
) -> Segmentation:
    return segmenter.segment(image, axes, settings=make_settings(segmenter.settings, **values))


@pytest.mark.parametrize("mode", ["none", "flips", "paper"])
def test_augmentation_finds_the_same_objects(segmenter: Segmenter, mode: str) -> None:
    image = disks((240, 260), n=6)
    result = run(segmenter, image, test_time_augmentation=mode)
    plain = run(segmenter, image)
    assert result.n_objects == plain.n_objects == 6
    assert ((result.labels > 0) == (plain.labels > 0)).mean() > 0.99
    assert not np.array_equal(result.logits, plain.logits) or mode == "none"


@pytest.mark.parametrize("precision", ["bf16"])
def test_half_precision_is_recorded_and_agrees(segmenter: Segmenter, precision: str) -> None:
    other = Segmenter(make_settings(device="cpu", precision=precision, diameter_px=24))
    result = other.segment(disks())
    assert result.provenance["precision"] == precision
    assert result.n_objects == run(segmenter, disks()).n_objects


def test_batch_size_changes_nothing(segmenter: Segmenter) -> None:
    image = disks((500, 420))
    first = run(segmenter, image, batch_size=1)
    for size in (3, 8):
        other = run(segmenter, image, batch_size=size)
        difference = np.sqrt(((other.logits - first.logits) ** 2).mean())
        assert difference < 1e-5 * np.sqrt((first.logits**2).mean())
        np.testing.assert_array_equal(other.labels, first.labels)


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from cellseg_engine import segment, make_settings\n"
        "from tests.integration.cli import disks\n"
        "rng = np.random.default_rng(0)\n"
        "image = disks((300, 300), n=6) + rng.integers(0, 400, (300, 300)).astype('uint16')\n"
        "result = segment(image, settings=make_settings(device='cpu', diameter_px=20))\n"
        "assert result.n_objects\n"
        "np.save(sys.argv[1], result.labels)\n"
    )
    found = []
    for threads in ("1", "2"):
        env = {**os.environ, "NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        target = tmp_path / f"{threads}.npy"
        subprocess.run([sys.executable, "-c", code, str(target)], check=True, env=env, timeout=300)
        found.append(np.load(target))
    np.testing.assert_array_equal(*found)


def test_every_dtype_and_scale_gives_the_same_objects(segmenter: Segmenter) -> None:
    image = disks()
    expected = run(segmenter, image).labels
    for same in (
        image.astype(">u2"),
        image.astype(np.int32) - 30000,
        image.astype(np.float64) * 1e-9,
        image.astype(np.float32) / 65535,
        image[:, ::-1][:, ::-1],
        np.asfortranarray(image),
    ):
        labels = run(segmenter, same).labels
        assert ((labels > 0) == (expected > 0)).mean() > 0.999
        assert labels.max() == expected.max()


def test_axes_orders_of_a_stack_give_the_same_objects(segmenter: Segmenter) -> None:
    stack = np.stack([np.stack([disks(n=n), np.zeros((96, 120), np.uint16)]) for n in (4, 2)])
    expected = run(segmenter, stack, "ZCYX", channel="1")
    assert expected.axes == "ZYX"
    assert expected.n_objects == 6
    turned = run(segmenter, stack.transpose(3, 1, 0, 2), "XCZY", channel="1")
    np.testing.assert_array_equal(turned.labels, expected.labels)
    assert turned.flows.shape == (2, 2, 96, 120)
    assert turned.logits.shape == turned.labels.shape == turned.probability.shape
    series = run(segmenter, stack[:, 0], "TYX")
    assert series.axes == "TYX"
    assert series.objects["t"].tolist() == [0] * 4 + [1] * 2


def test_dark_objects_are_inverted_and_it_is_said(segmenter: Segmenter) -> None:
    image = 4000 - disks((240, 240), n=6)
    result = run(segmenter, image)
    assert result.provenance["inverted"] is True
    assert any("intensities were inverted" in warning for warning in result.warnings)
    assert result.n_objects == 6
    as_it_is = run(segmenter, image, invert="no")  # the network may know dark disks, too
    assert as_it_is.provenance["inverted"] is False and as_it_is.warnings == ()
    assert not np.allclose(as_it_is.logits, result.logits, atol=1)
    assert run(segmenter, image, invert="yes").warnings == ()


def test_rgb_images_use_the_chosen_stain(segmenter: Segmenter) -> None:
    rgb = np.zeros((96, 120, 3), np.uint8)
    rgb[..., 1] = disks() // 16
    result = run(segmenter, rgb, "YXS", channel="green")
    assert result.n_objects == 4
    assert {"intensity_mean_red", "intensity_mean_green"} <= result.objects.keys()
    assert result.objects["intensity_mean_red"].max() == 0
    assert run(segmenter, rgb, "YXS", channel="blue").n_objects == 0


def test_progress_is_told_and_cancel_stops_between_tiles(segmenter: Segmenter) -> None:
    seen: list[Progress] = []
    image = np.tile(disks((200, 200)), (3, 3))
    segmenter.segment(image, progress=seen.append)
    stages = [progress.stage for progress in seen]
    assert stages == sorted(stages, key=["size", "network", "labels"].index)
    network = [p.done / p.total for p in seen if p.stage == "network"]
    assert network == sorted(network)
    assert network[-1] == 1

    calls = 0

    def enough() -> bool:
        nonlocal calls
        calls += 1
        return calls > 3

    with pytest.raises(CancelledError, match="cancelled"):
        segmenter.segment(image, is_cancelled=enough)
    assert calls == 4


def test_the_diameter_is_estimated_from_the_objects(segmenter: Segmenter) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    image = rng.normal(100, 3, (256, 256))
    for cy in range(30, 256, 55):
        for cx in range(30, 256, 55):
            image += 900.0 * ((y - cy) ** 2 + ((x - cx) * 1.2) ** 2 < 14**2)
    result = run(segmenter, image, diameter_px=0)
    assert result.provenance["diameter_source"] == "estimate"
    assert result.diameter_px == pytest.approx(2 * 14 / np.sqrt(1.2), rel=0.2)
    assert result.n_objects == 25


def test_without_a_size_model_the_training_mean_is_used_and_it_is_said(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter.model, "size_model", None)
    result = run(segmenter, disks(), diameter_px=0)
    assert result.diameter_px == pytest.approx(segmenter.model.card.diam_labels_px)
    assert "has no size model" in result.warnings[0]


def test_an_estimate_outside_the_trained_range_is_said(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert segmenter.model.size_model is not None
    narrow = replace(segmenter.model.size_model, range_px=(90.0, 91.0))
    monkeypatch.setattr(segmenter.model, "size_model", narrow)
    result = run(segmenter, disks((240, 240), n=6), diameter_px=0)
    assert any("outside the 90.0 to 91.0 px" in warning for warning in result.warnings)


def test_fields_can_be_dropped(segmenter: Segmenter) -> None:
    result = segmenter.segment(disks(), keep_fields=False)
    assert result.flows.size == result.logits.size == 0
    assert result.n_objects == 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 9), (17, 225)])
def test_tiny_and_narrow_images(segmenter: Segmenter, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 1000, shape).astype(np.uint16)
    assert run(segmenter, image, diameter_px=17).labels.shape == shape


def test_a_diameter_that_does_not_fit_is_refused(segmenter: Segmenter) -> None:
    with pytest.raises(SettingsError, match="diameter_px = 5000 does not fit the image"):
        run(segmenter, disks(), diameter_px=5000)


def test_a_diameter_in_micrometres_is_refused_before_the_image_is_enlarged(
    segmenter: Segmenter,
) -> None:
    with pytest.raises(SettingsError, match=r"0.2 is too small: the smallest .* in pixels, not in"):
        run(segmenter, disks(), diameter_px=0.2)


@pytest.mark.parametrize("value", [4e9, 1e39, -1e300])
def test_absurd_pixels_are_limited_and_it_is_said(segmenter: Segmenter, value: float) -> None:
    image = np.concatenate([disks(), disks(), disks()], axis=1).astype(np.float64)
    image[50, 350] = value
    result = run(segmenter, image)
    assert any("10,000 times the contrast" in warning for warning in result.warnings)
    assert np.isfinite(result.logits).all()
    assert np.isfinite(result.flows).all()
    assert result.n_objects >= 8


def test_the_record_names_the_loaded_model(segmenter: Segmenter) -> None:
    other = make_settings(model="another", precision="bf16", diameter_px=24)
    result = segmenter.segment(disks(), settings=other)
    assert (result.settings.model, result.settings.precision) == ("nuclei", "auto")


def test_settings_may_be_a_mapping_and_channels_numbers() -> None:
    from cellseg_engine import segment

    stack = np.stack([np.zeros((96, 120), np.uint16), disks()])
    result = segment(stack, "CYX", {"channel": 2, "diameter_px": 24, "device": "cpu"})
    assert result.n_objects == 4


def test_channel_names_must_fit(segmenter: Segmenter) -> None:
    with pytest.raises(ValueError, match="3 channel names were given for an image with 1 channel"):
        segmenter.segment(disks(), channel_names=("A", "B", "C"))


def test_errors_are_also_the_builtins_people_catch(segmenter: Segmenter) -> None:
    with pytest.raises(ValueError, match="dimensions"):
        segmenter.segment(np.zeros((2, 3, 4)))
    with pytest.raises(CellSegError):
        segmenter.segment(np.full((20, 20), np.nan))


def test_the_record_names_the_packages_that_run(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(segmenter, disks()).provenance["packages"]
    assert before["numpy"] == np.__version__
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "99.0")  # installed meanwhile
    assert run(segmenter, disks()).provenance["packages"] == before
