"""The style of an image: what kind of image it is, in 256 numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellseg_engine.core.axes import check_finite, to_planes
from cellseg_engine.pipeline.prepare import predict_at_scale, prepare_stack
from cellseg_engine.pipeline.progress import Ticker
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.pipeline.size import MAX_PLANES, SizeEstimate, choose_planes
from cellseg_engine.settings import Settings

MAX_SIDE_PX = 2048
"""Longest side that is looked at, at the network's scale: the middle of larger planes."""


@dataclass(frozen=True)
class ImageStyle:
    """The style of an image and how it was seen.

    Attributes
    ----------
    style
        float32 of shape (256,), unit length: mean over planes and tiles.
    diameter_px
        That the image was scaled by.
    diameter_source
        ``given``, ``estimate`` or ``training mean``.
    has_contrast
        Whether any plane shows anything.
    """

    style: np.ndarray
    diameter_px: float
    diameter_source: str
    has_contrast: bool


def image_style(
    segmenter: Segmenter,
    image: np.ndarray,
    axes: str | None = None,
    *,
    settings: Settings | None = None,
    channel_names: Sequence[str] = (),
) -> ImageStyle:
    """Give the style of an image, seen with its objects at the size that the network knows.

    Parameters
    ----------
    segmenter
        With the network whose style it is.
    image, axes, settings, channel_names
        As of `Segmenter.segment`; the diameter is estimated if it is 0. Of a stack or series up to
        5 planes count.

    Raises
    ------
    AxesError, ChannelError, ImageError, SettingsError
        As `Segmenter.segment`.
    """
    settings = settings or segmenter.settings
    model = segmenter.model
    stack = to_planes(image, axes)
    check_finite(stack.pixels)
    preparation = prepare_stack(stack, settings, channel_names, model.card.n_channels)
    size = SizeEstimate(settings.diameter_px, "given", 0.0, True)
    if settings.diameter_px == 0:
        size = segmenter.estimate(image, axes, settings=settings, channel_names=channel_names)
    scale = model.card.diam_mean_px / size.diameter_px
    all_planes = list(stack.planes())
    chosen = choose_planes(len(all_planes))[:MAX_PLANES]
    total = np.zeros(0)
    has_contrast = False
    for index in chosen:
        plane = preparation.plane(all_planes[index])
        has_contrast = has_contrast or plane.has_contrast
        pixels = _middle(plane.pixels, round(MAX_SIDE_PX / scale))
        style = predict_at_scale(model, pixels, scale, settings, Ticker(None, None)).style
        total = style.astype(np.float64) + (total if total.size else 0)
    style = (total / np.linalg.norm(total)).astype(np.float32)
    return ImageStyle(style, size.diameter_px, size.source, has_contrast)


def _middle(pixels: np.ndarray, side: int) -> np.ndarray:
    """Give the middle of a plane (C, Y, X), at most ``side`` long."""
    window = [slice(None)]
    for length in pixels.shape[1:]:
        kept = min(length, max(1, side))
        start = (length - kept) // 2
        window.append(slice(start, start + kept))
    return pixels[tuple(window)]
