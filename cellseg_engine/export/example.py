"""What a model package shows of its model: a test input, and a picture of what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np

from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.axes import check_finite, to_planes
from cellseg_engine.core.resize import resize_bilinear, scaled_shape
from cellseg_engine.errors import SettingsError
from cellseg_engine.io.images import read_image
from cellseg_engine.io.overlays import render_overlay
from cellseg_engine.nets.card import ModelCard
from cellseg_engine.nets.unet import FLOW_SCALE
from cellseg_engine.pipeline.masks import BASE_ITERATIONS, fields_to_labels
from cellseg_engine.pipeline.prepare import MAX_ENLARGEMENT, prepare_stack
from cellseg_engine.settings import make_settings

EXAMPLE = Path(__file__).parents[1] / "demo/sparse_small_nuclei_e4ae1ceddb27.tif"
EXAMPLE_DIAMETER_PX = 14.0
PERCENTILE_LOW, PERCENTILE_HIGH = 1.0, 99.0
EPSILON = 1e-6
"""Added to the contrast by the ``scale_range`` of BioImage.IO."""

MIN_SIDE_PX, STEP_PX = 64, 8
"""Sides that a package allows."""

_SIDE_PX = 256


@dataclass(frozen=True)
class Example:
    """A real image as a model takes it.

    Attributes
    ----------
    raw
        float32 of shape (1, C, Y, X), intensities as measured, inverted where the background is
        bright, at the scale of the model, Y and X multiples of 8.
    normalized
        The same as the network sees it.
    """

    raw: np.ndarray
    normalized: np.ndarray


def make_example(card: ModelCard, sample: Path | None = None, diameter_px: float = 0) -> Example:
    """Give the middle of an image, at the scale of a model.

    Parameters
    ----------
    card
        Of the model.
    sample
        The image: its middle plane; grey, colours (their mean), or one channel for each that the
        model takes; channels that it lacks are zero. One with a bright background is inverted, as
        ``invert: auto`` does. Without, a demo image of nuclei.
    diameter_px
        Of the objects in the sample.

    Raises
    ------
    ReadError, AxesError
        The sample cannot be read.
    SettingsError
        Its diameter is missing or does not fit it.
    """
    if sample is not None and not diameter_px > 0:
        raise SettingsError(
            f"The diameter of the objects in {sample} is needed, to bring it to the model's size.",
            hint="Give --sample-diameter-px.",
        )
    image = read_image(sample or EXAMPLE)
    stack = to_planes(image.pixels, image.axes)
    check_finite(stack.pixels)
    pixels = stack.pixels[len(stack.pixels) // 2, stack.pixels.shape[1] // 2].astype(np.float32)
    if stack.is_rgb:
        pixels = pixels.mean(axis=0, keepdims=True)
    if _is_bright(pixels[0]):
        ends = pixels.min(axis=(1, 2), keepdims=True) + pixels.max(axis=(1, 2), keepdims=True)
        pixels = ends - pixels
    scale = card.diam_mean_px / (diameter_px if sample else EXAMPLE_DIAMETER_PX)
    shape = scaled_shape((pixels.shape[1], pixels.shape[2]), scale)
    sides = [min(length, _SIDE_PX) // STEP_PX * STEP_PX for length in shape]
    if min(sides) < MIN_SIDE_PX or scale > MAX_ENLARGEMENT:
        raise SettingsError(
            f"At {card.diam_mean_px:g} px, the diameter of the model, the sample would be "
            f"{shape[0]} x {shape[1]} px; {MIN_SIDE_PX} px are the least.",
            hint="Check --sample-diameter-px, or take another image.",
        )
    starts = [(length - side) // 2 for length, side in zip(shape, sides, strict=True)]
    window = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    raw = np.zeros((1, card.n_channels, *sides), np.float32)
    for channel, plane in enumerate(pixels[: card.n_channels]):
        raw[0, channel] = resize_bilinear(plane, shape)[window]
    return Example(raw, scale_range(raw))


def _is_bright(plane: np.ndarray) -> bool:
    """Say whether ``invert: auto`` would invert a plane (Y, X)."""
    return prepare_stack(to_planes(plane, "YX"), make_settings(), (), 1).invert


def scale_range(raw: np.ndarray) -> np.ndarray:
    """Normalise each channel of each image (N, C, Y, X) as BioImage.IO's ``scale_range`` does.

    It differs from `cellseg_engine.core.normalize` by a millionth of a grey level, which is added
    to the contrast.
    """
    low, high = np.percentile(raw, (PERCENTILE_LOW, PERCENTILE_HIGH), axis=(2, 3), keepdims=True)
    return np.asarray((raw - low) / (high - low + EPSILON), np.float32)


def draw_cover(example: Example, fields: np.ndarray, flow_variant: str) -> bytes:
    """Draw the image, and beside it the image with the outlines of the objects found.

    Parameters
    ----------
    fields
        float32 of shape (1, 3, Y, X), what the network gives for the example.
    flow_variant
        Flow targets of the model.

    Returns
    -------
    A PNG file, twice as wide as high.
    """
    flows = fields[0, :2] / np.float32(FLOW_SCALE)
    plane = Fields(np.ascontiguousarray(flows), np.ascontiguousarray(fields[0, 2]), np.zeros(0))
    labels = fields_to_labels(plane, make_settings(), BASE_ITERATIONS, flow_variant).labels
    image = example.raw[0, 0]
    plain = render_overlay(image, np.zeros(image.shape, np.int32))
    pair = np.concatenate([plain, render_overlay(image, labels)], axis=1)
    return bytes(imagecodecs.png_encode(pair.repeat(2, axis=0).repeat(2, axis=1), level=6))
