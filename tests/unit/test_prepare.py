"""What the network sees of stacks and volumes, and what settings do nothing for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core import normalize
from cellseg_engine.core.axes import to_planes
from cellseg_engine.core.normalize import sample_pixels
from cellseg_engine.errors import ImageError
from cellseg_engine.pipeline.prepare import predict_at_scale, prepare_stack
from cellseg_engine.pipeline.progress import Ticker
from cellseg_engine.pipeline.unused import unused_warnings
from cellseg_engine.pipeline.volume import sample_volume, show_volume, tall_plane
from cellseg_engine.settings import make_settings


def bright_planes(n: int) -> np.ndarray:
    """Planes with dark disks on a bright background; uint8 of shape (n, 80, 80)."""
    y, x = np.mgrid[:80, :80]
    planes = np.random.default_rng(0).normal(200, 3, (n, 80, 80))
    planes[:, np.hypot(y % 40 - 20, x % 40 - 20) < 8] -= 120
    return planes.astype(np.uint8)


def is_inverted(image: np.ndarray, axes: str) -> bool:
    return prepare_stack(to_planes(image, axes), make_settings(), (), 1).invert


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
@pytest.mark.parametrize(("n", "blank"), [(5, [2]), (4, [2]), (5, [1, 2, 3, 4]), (3, [])])
def test_blank_planes_do_not_say_how_bright_the_background_is(
    axes: str, n: int, blank: list[int]
) -> None:
    stack = bright_planes(n)
    stack[blank] = 0
    assert is_inverted(stack, axes)
    assert not is_inverted(255 - stack, axes)


def test_the_plane_nearest_to_the_middle_counts() -> None:
    stack = bright_planes(7)
    stack[[0, 1, 5, 6]] = 255 - stack[[0, 1, 5, 6]]
    stack[3] = 0
    assert is_inverted(stack, "ZYX")
    assert not is_inverted(255 - np.where(stack == 0, 255, stack), "ZYX")


def test_a_stack_without_any_contrast_is_not_inverted() -> None:
    assert not is_inverted(np.full((3, 20, 20), 255, np.uint8), "ZYX")


def test_volumes_are_sampled_along_each_axis() -> None:
    whole = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (448, 1, 256, 512))
    sample = sample_volume(whole)
    assert sample.shape == (1, 224 * 256, 256)
    assert np.unique(sample).size == 256
    plane = np.zeros((1, 3400, 4500))
    assert sample_pixels(plane).shape == (1, -(-3400 // 15), -(-4500 // 20))


def test_a_black_first_row_does_not_change_what_is_seen_of_a_large_volume(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(normalize, "LARGE_PIXELS", 1000)
    volume = np.random.default_rng(0).normal(100, 5, (224, 24, 20)).astype(np.float32)
    volume[40:200, 8:16, 8:16] += 300
    volume[:, 0] = 0
    stack = to_planes(volume, "ZYX")
    preparation = prepare_stack(stack, make_settings(invert="no"), (), 1)
    seen = np.zeros((1, *volume.shape), np.float32)
    tall = show_volume(stack.pixels[0], preparation, seen)
    assert tall.has_contrast
    low, high = np.percentile(volume, (1, 99))
    np.testing.assert_allclose(seen[0], (volume - low) / (high - low), atol=0.05)
    assert tall.shape == tall_plane(stack.pixels[0]).shape


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_fields_that_are_not_finite_are_an_error(where: int, value: float) -> None:
    answer = np.zeros((3, 20, 20), np.float32)
    answer[where, 3, 4] = value
    model: Any = SimpleNamespace(
        card=SimpleNamespace(name="broken", diam_mean_px=17.0),
        precision="fp16",
        device="cpu",
        predict=lambda *_, **__: Fields(answer[:2], answer[2], np.zeros(256)),
    )
    with pytest.raises(ImageError, match="The network broken gave values that are NaN or inf"):
        predict_at_scale(
            model, np.zeros((1, 20, 20), np.float32), 1.0, make_settings(), Ticker(None, None)
        )


def unused(axes: str, **values: Any) -> list[str]:
    """Give the names of the settings that are said to do nothing."""
    shape = [{"T": 3, "Z": 4}.get(letter, 9) for letter in axes]
    warnings = unused_warnings(to_planes(np.zeros(shape), axes), make_settings(values))
    return [warning.split()[0] for warning in warnings]


def test_settings_that_do_nothing_are_named() -> None:
    volumes = {"anisotropy": "3", "min_volume_px": 100, "max_volume_um3": 6, "flow_smoothing_px": 3}
    assert sorted(unused("TYX", **volumes)) == sorted(volumes)
    assert unused("ZYX", volume_mode="fuse", **volumes) == []
    assert unused("ZYX", min_volume_px=0) == []
    assert unused("ZYX") == unused("TYX") == unused("YX") == []
    assert unused("TYX", stitch_threshold=0.3) == ["stitch_threshold"]
    assert unused("TZYX", stitch_threshold=0.3) == []
    assert unused("CYX", stitch_threshold=0.3, **volumes) == []
    areas = {"min_area_px": 40, "max_area_px": 50}
    assert unused("ZYX", volume_mode="fuse", **areas) == ["min_area_px", "max_area_px"]
    assert unused("ZYX", volume_mode="fuse", min_area_px=1) == unused("ZYX", **areas) == []
