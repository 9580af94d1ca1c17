"""What a model package shows of its model: a test input, and a picture of what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.resize import resize_bilinear, scaled_shape
from cellseg_engine.io.overlays import render_overlay
from cellseg_engine.nets.card import ModelCard
from cellseg_engine.nets.unet import FLOW_SCALE
from cellseg_engine.pipeline.masks import BASE_ITERATIONS, fields_to_labels
from cellseg_engine.settings import make_settings

EXAMPLE = Path(__file__).parents[1] / "demo/sparse_small_nuclei_e4ae1ceddb27.tif"
EXAMPLE_DIAMETER_PX = 14.0
PERCENTILE_LOW, PERCENTILE_HIGH = 1.0, 99.0
EPSILON = 1e-6
"""Added to the contrast by the ``scale_range`` of BioImage.IO."""

_SIDE_PX = 256


@dataclass(frozen=True)
class Example:
    """A real image as a model takes it.

    Attributes
    ----------
    raw
        float32 of shape (1, C, Y, X), intensities as measured, at the scale of the model, Y and X
        multiples of 8.
    normalized
        The same as the network sees it.
    """

    raw: np.ndarray
    normalized: np.ndarray


def make_example(card: ModelCard) -> Example:
    """Give a demo image of nuclei in the first channel; other channels are zero."""
    pixels = tifffile.imread(EXAMPLE).astype(np.float32)
    shape = scaled_shape(
        (pixels.shape[0], pixels.shape[1]), card.diam_mean_px / EXAMPLE_DIAMETER_PX
    )
    plane = resize_bilinear(pixels, shape)[:_SIDE_PX, :_SIDE_PX]
    height, width = (length // 8 * 8 for length in plane.shape)
    raw = np.zeros((1, card.n_channels, height, width), np.float32)
    raw[0, 0] = plane[:height, :width]
    return Example(raw, scale_range(raw))


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
