"""Resizing, by the conventions that the trained networks expect."""

from __future__ import annotations

import numpy as np


def scaled_shape(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """Give the shape (Y, X) after scaling, rounded down as Cellpose does."""
    return int(shape[0] * scale), int(shape[1] * scale)


def resize_bilinear(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize the last two axes by bilinear interpolation.

    Pixel centres lie at half integers, edges repeat, and there is no smoothing before
    shrinking: the convention of OpenCV's ``INTER_LINEAR``, with which the networks of the
    Cellpose family were trained.

    Parameters
    ----------
    image
        float32 of shape (..., Y, X).
    shape
        The new (Y, X), each at least 1.

    Returns
    -------
    float32 of shape (..., shape[0], shape[1]).
    """
    if image.shape[-2:] == tuple(shape):
        return image.astype(np.float32, copy=True)
    y0, y1, wy = _neighbours(image.shape[-2], shape[0])
    x0, x1, wx = _neighbours(image.shape[-1], shape[1])
    resized = np.empty((*image.shape[:-2], *shape), np.float32)
    for index in np.ndindex(*image.shape[:-2]):
        plane = image[index].astype(np.float32, copy=False)
        columns = plane[:, x0] * (1 - wx) + plane[:, x1] * wx
        resized[index] = columns[y0] * (1 - wy)[:, None] + columns[y1] * wy[:, None]
    return resized


def resize_nearest(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a label image (Y, X) by taking the pixel at ``floor(i * old / new)``.

    The product is rounded as OpenCV's ``INTER_NEAREST`` rounds it, in float64 from the inverse
    of the scale.
    """
    rows, columns = (
        np.minimum(np.arange(new) * (1 / (new / old)), old - 1).astype(np.intp)
        for old, new in zip(labels.shape, shape, strict=True)
    )
    return np.asarray(labels[rows][:, columns])


def _neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give lower index, upper index and the upper one's weight (float32) for each new pixel."""
    position = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    lower = np.minimum(position.astype(np.intp), old - 1)
    upper = np.minimum(lower + 1, old - 1)
    return lower, upper, (position - lower).astype(np.float32)
