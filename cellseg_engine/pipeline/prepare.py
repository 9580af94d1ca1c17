"""From the pixels of a plane to what the network sees, and back to the plane's own scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellseg_engine.backends.flow_unet import Fields, FlowUNet
from cellseg_engine.core.axes import PlaneStack
from cellseg_engine.core.normalize import (
    has_bright_background,
    invert_intensities,
    normalize_percentiles,
)
from cellseg_engine.core.resize import resize_bilinear, scaled_shape
from cellseg_engine.errors import SettingsError
from cellseg_engine.pipeline.channels import select_channels
from cellseg_engine.pipeline.progress import Ticker
from cellseg_engine.settings import Settings

MAX_SCALED_PIXELS = 250_000_000


@dataclass(frozen=True)
class Preparation:
    """The choices made once for all planes of an image."""

    settings: Settings
    is_rgb: bool
    channel_names: tuple[str, ...]
    n_channels: int
    invert: bool

    def plane(self, pixels: np.ndarray) -> tuple[np.ndarray, bool]:
        """Give a plane (C, Y, X) as the network sees it, and whether it has any contrast."""
        chosen = _choose(pixels, self)
        normalized, has_contrast = normalize_percentiles(
            chosen, self.settings.percentile_low, self.settings.percentile_high
        )
        if self.invert:
            normalized = invert_intensities(normalized, has_contrast)
        return normalized, bool(has_contrast[0])


def prepare_stack(
    stack: PlaneStack, settings: Settings, channel_names: Sequence[str], n_channels: int
) -> Preparation:
    """Decide what holds for all planes: the channels, and whether to invert.

    ``invert: auto`` looks at the middle plane.

    Raises
    ------
    ChannelError
        See `cellseg_engine.pipeline.channels.select_channels`.
    """
    preparation = Preparation(
        settings, stack.is_rgb, tuple(channel_names), n_channels, settings.invert == "yes"
    )
    middle = stack.pixels[len(stack.pixels) // 2, stack.pixels.shape[1] // 2]
    if settings.invert != "auto":
        _choose(middle, preparation)
        return preparation
    normalized, has_contrast = preparation.plane(middle)
    bright = has_contrast and has_bright_background(normalized[0])
    return Preparation(settings, stack.is_rgb, tuple(channel_names), n_channels, bright)


def predict_at_scale(
    model: FlowUNet, plane: np.ndarray, scale: float, settings: Settings, ticker: Ticker
) -> Fields:
    """Run the network on a plane scaled by a factor; the fields stay at that scale.

    Raises
    ------
    SettingsError
        The scaled image would be empty or too large, because the diameter does not fit it.
    """
    height, width = plane.shape[1:]
    shape = scaled_shape((height, width), scale) if scale != 1 else (height, width)
    if min(shape) < 1 or shape[0] * shape[1] > MAX_SCALED_PIXELS:
        diameter = model.card.diam_mean_px / scale
        what = "shrinks to nothing" if min(shape) < 1 else f"would grow to {shape[0]} x {shape[1]}"
        raise SettingsError(
            f"diameter_px = {diameter:g} does not fit the image: {height} x {width} px {what} at "
            f"the model's own diameter of {model.card.diam_mean_px:g} px.",
            hint="Give the diameter of the objects in pixels, or 0 to estimate it.",
        )
    return model.predict(
        resize_bilinear(plane, shape),
        overlap=settings.tile_overlap,
        augmentation=settings.test_time_augmentation,
        batch_size=settings.batch_size,
        on_batch=ticker.tiles,
    )


def resize_fields(fields: Fields, shape: tuple[int, int]) -> Fields:
    """Give the fields resized to a plane's own shape (Y, X)."""
    if fields.logit.shape == shape:
        return fields
    return Fields(
        resize_bilinear(fields.flows, shape), resize_bilinear(fields.logit, shape), fields.style
    )


def _choose(pixels: np.ndarray, preparation: Preparation) -> np.ndarray:
    return select_channels(
        pixels,
        is_rgb=preparation.is_rgb,
        names=preparation.channel_names,
        channel=preparation.settings.channel,
        nuclear_channel=preparation.settings.nuclear_channel,
        n_channels=preparation.n_channels,
    )
