"""From the pixels of a plane to what the network sees, and back to the plane's own scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellseg_engine.backends.flow_unet import Fields, FlowUNet
from cellseg_engine.core.axes import PlaneStack
from cellseg_engine.core.normalize import (
    apply_bounds,
    bounds_have_contrast,
    contrast_bounds,
    has_bright_background,
    invert_intensities,
    sample_pixels,
)
from cellseg_engine.core.resize import resize_bilinear, scaled_shape
from cellseg_engine.core.rows import Rows, scale_rows
from cellseg_engine.core.sums import row_strips
from cellseg_engine.errors import ChannelError, ImageError, SettingsError
from cellseg_engine.pipeline.channels import select_channels
from cellseg_engine.pipeline.progress import Ticker
from cellseg_engine.settings import Settings

MAX_SCALED_PIXELS = 250_000_000
MAX_ENLARGEMENT = 15.0
EXTREME_CONTRAST = 1e4
"""Values are limited to this many times the contrast; larger ones would overflow the network."""


class PreparedPlane:
    """A plane as the network sees it: its rows are normalised when they are asked for.

    Parameters
    ----------
    pixels
        ndarray of shape (channels of the image, Y, X).
    preparation
        The choices made for the image.
    sample
        What the percentiles are taken from, (channels of the image, y, x), if that is not
        `sample_pixels` of it.

    Attributes
    ----------
    shape
        (channels of the model, Y, X).
    has_contrast
        Whether the first channel shows anything.
    is_extreme
        Whether it has pixels far outside its contrast, such as a defect of the camera; they
        are limited.
    """

    def __init__(
        self, pixels: np.ndarray, preparation: Preparation, sample: np.ndarray | None = None
    ) -> None:
        self._pixels = pixels
        self._preparation = preparation
        settings = preparation.settings
        sample = sample_pixels(pixels) if sample is None else sample
        sample = choose_channels(sample, preparation)
        # the sample of a small plane is all of it, so that channels are chosen only once
        self._chosen = sample if sample.shape[1:] == pixels.shape[1:] else None
        self._bounds = contrast_bounds(sample, settings.percentile_low, settings.percentile_high)
        self.shape = (len(sample), int(pixels.shape[1]), int(pixels.shape[2]))
        self.has_contrast = bool(bounds_have_contrast(self._bounds)[0])
        self.is_extreme = self._find_extremes()

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Give rows as the network sees them; float32 of shape (C, n, X), a new array."""
        chosen = self._choose_rows(slice(start, stop))
        normalized = apply_bounds(chosen, self._bounds)
        if self.is_extreme:
            np.clip(normalized, -EXTREME_CONTRAST, EXTREME_CONTRAST, out=normalized)
        if self._preparation.invert:
            return invert_intensities(normalized, bounds_have_contrast(self._bounds))
        return normalized

    @property
    def pixels(self) -> np.ndarray:
        """All of it; float32 of shape (C, Y, X)."""
        return self.rows(0, self.shape[1])

    def first_channel(self) -> np.ndarray:
        """Give the first channel alone; float32 of shape (Y, X)."""
        plane = np.empty(self.shape[1:], np.float32)
        for strip in row_strips(self.shape[1:]):
            plane[strip] = self.rows(strip.start, strip.stop)[0]
        return plane

    def _choose_rows(self, rows: slice) -> np.ndarray:
        if self._chosen is not None:
            return self._chosen[:, rows]
        return choose_channels(self._pixels[:, rows], self._preparation)

    def _find_extremes(self) -> bool:
        """Look at the smallest and largest value of each channel of each strip."""
        for strip in row_strips(self.shape[1:]):
            chosen = self._choose_rows(strip)
            ends = np.stack([chosen.min(axis=(1, 2)), chosen.max(axis=(1, 2))], axis=1)
            if (np.abs(apply_bounds(ends[:, None], self._bounds)) > EXTREME_CONTRAST).any():
                return True
        return False


@dataclass(frozen=True)
class Preparation:
    """The choices made once for all planes of an image."""

    settings: Settings
    is_rgb: bool
    channel_names: tuple[str, ...]
    n_channels: int
    invert: bool

    def plane(self, pixels: np.ndarray, sample: np.ndarray | None = None) -> PreparedPlane:
        """Prepare one plane (C, Y, X); for the sample see `PreparedPlane`."""
        return PreparedPlane(pixels, self, sample)


def prepare_stack(
    stack: PlaneStack, settings: Settings, channel_names: Sequence[str], n_channels: int
) -> Preparation:
    """Decide what holds for all planes: the channels, and whether to invert.

    ``invert: auto`` looks at the plane nearest to the middle that shows anything.

    Raises
    ------
    ChannelError
        See `cellseg_engine.pipeline.channels.select_channels`.
    """
    n_image_channels = stack.pixels.shape[2]
    if channel_names and len(channel_names) != n_image_channels:
        raise ChannelError(
            f"{len(channel_names)} channel names were given for an image with {n_image_channels} "
            f"channel{'s' * (n_image_channels != 1)}.",
            hint="Give one name per channel, or none.",
        )
    preparation = Preparation(
        settings, stack.is_rgb, tuple(channel_names), n_channels, settings.invert == "yes"
    )
    if settings.invert != "auto":
        choose_channels(stack.pixels[0, 0, :, :1], preparation)
        return preparation
    planes = (preparation.plane(pixels) for pixels in _from_the_middle(stack))
    shown = next((plane for plane in planes if plane.has_contrast), None)
    is_bright = shown is not None and has_bright_background(shown.first_channel())
    return replace(preparation, invert=is_bright)


def _from_the_middle(stack: PlaneStack) -> Iterator[np.ndarray]:
    """Yield all planes (C, Y, X), the one in the middle of time and depth first."""
    n_frames, n_planes = stack.pixels.shape[:2]
    away = [
        (abs(t - n_frames // 2), abs(z - n_planes // 2), t, z)
        for t in range(n_frames)
        for z in range(n_planes)
    ]
    for *_, t, z in sorted(away):
        yield stack.pixels[t, z]


def predict_at_scale(
    model: FlowUNet, plane: np.ndarray | Rows, scale: float, settings: Settings, ticker: Ticker
) -> Fields:
    """Run the network on a plane (C, Y, X) scaled by a factor; the fields stay at that scale.

    Raises
    ------
    SettingsError
        The scaled image would be empty or too large, because the diameter does not fit it.
    ImageError
        The network's answer is not finite.
    """
    height, width = plane.shape[1:]
    shape = scaled_shape((height, width), scale) if scale != 1 else (height, width)
    if min(shape) < 1 and settings.diameter_px == 0:
        raise SettingsError(
            f"The image of {height} x {width} px is too narrow to estimate the diameter of its "
            "objects.",
            hint="Give diameter_px.",
        )
    check_scale(model.card.diam_mean_px, scale, (height, width))
    fields = model.predict(
        scale_rows(plane, shape),
        overlap=settings.tile_overlap,
        tiling=settings.tiling,
        augmentation=settings.test_time_augmentation,
        batch_size=settings.batch_size,
        on_batch=ticker.tiles,
    )
    if not all(np.isfinite(values).all() for values in (*fields.flows, fields.logit)):
        raise ImageError(
            f"The network {model.card.name} gave values that are NaN or infinite for this image "
            f"({model.precision} on {model.device}).",
            hint="Check the image for extreme values; with precision fp16 or bf16 try fp32.",
        )
    return fields


def check_scale(diam_mean_px: float, scale: float, shape: tuple[int, int]) -> None:
    """Refuse to look at a plane at a scale at which it is too large, or nothing.

    Parameters
    ----------
    diam_mean_px
        At which the network sees objects.
    scale
        Pixels that the network sees per pixel of the plane.
    shape
        Of the plane (Y, X).

    Raises
    ------
    SettingsError
        The diameter that leads to this scale does not fit.
    """
    scaled = scaled_shape(shape, scale) if scale != 1 else shape
    diameter = diam_mean_px / scale
    if scale > MAX_ENLARGEMENT:
        raise SettingsError(
            f"diameter_px = {diameter:g} is too small: the smallest for this model is "
            f"{diam_mean_px / MAX_ENLARGEMENT:.2g} px.",
            hint="The diameter is in pixels, not in µm; 0 estimates it.",
        )
    if min(scaled) < 1:
        raise SettingsError(
            f"diameter_px = {diameter:g} does not fit the image: {shape[0]} x {shape[1]} px "
            f"shrinks to nothing at the model's own diameter of {diam_mean_px:g} px.",
            hint="Give the diameter of the objects in pixels, or 0 to estimate it.",
        )
    if scaled[0] * scaled[1] > MAX_SCALED_PIXELS:
        raise SettingsError(
            f"With diameter_px = {diameter:g} the image of {shape[0]} x {shape[1]} px would grow "
            f"to {scaled[0]} x {scaled[1]} px at the model's own diameter of {diam_mean_px:g} px; "
            f"{MAX_SCALED_PIXELS / 1e6:.0f} million pixels is the limit.",
            hint="Segment it in parts, or check the diameter.",
        )


def resize_fields(fields: Fields, shape: tuple[int, int]) -> Fields:
    """Give the fields resized to a plane's own shape (Y, X)."""
    if fields.logit.shape == shape:
        return fields
    return Fields(
        resize_bilinear(fields.flows, shape), resize_bilinear(fields.logit, shape), fields.style
    )


def choose_channels(pixels: np.ndarray, preparation: Preparation) -> np.ndarray:
    """Give the channels of the model (C, Y, X), as they are in the image."""
    return select_channels(
        pixels,
        is_rgb=preparation.is_rgb,
        names=preparation.channel_names,
        channel=preparation.settings.channel,
        nuclear_channel=preparation.settings.nuclear_channel,
        n_channels=preparation.n_channels,
    )
