"""Resizing, by the conventions that the trained networks expect."""

from __future__ import annotations

import numpy as np

Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]


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
    return resize_window(image, shape, slice(0, shape[0]), slice(0, shape[1]))


def resize_window(
    image: np.ndarray, shape: tuple[int, int], rows: slice, columns: slice
) -> np.ndarray:
    """Give a part of what `resize_bilinear` gives, without the rest.

    Parameters
    ----------
    image, shape
        As there.
    rows, columns
        The part, with a start and a stop inside ``shape``, not empty.

    Returns
    -------
    float32 of shape (..., rows, columns).
    """
    if image.shape[-2:] == tuple(shape):
        return image[..., rows, columns].astype(np.float32, copy=True)
    y, x = (
        tuple(part[chosen] for part in neighbours(old, new))
        for old, new, chosen in zip(image.shape[-2:], shape, (rows, columns), strict=True)
    )
    first = int(y[0][0])
    near = image[..., first : int(y[1][-1]) + 1, :]
    return interpolate(near, (y[0] - first, y[1] - first, y[2]), (x[0], x[1], x[2]))


def interpolate(image: np.ndarray, y: Neighbours, x: Neighbours) -> np.ndarray:
    """Give the weighted mean of each pixel's neighbours, see `neighbours`; float32."""
    (y0, y1, wy), (x0, x1, wx) = y, x
    resized = np.empty((*image.shape[:-2], y0.size, x0.size), np.float32)
    for index in np.ndindex(*image.shape[:-2]):
        plane = image[index].astype(np.float32, copy=False)
        across = plane[:, x0] * (1 - wx) + plane[:, x1] * wx
        resized[index] = across[y0] * (1 - wy)[:, None] + across[y1] * wy[:, None]
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


def nearest_indices(old: int, new: int) -> np.ndarray:
    """Give for each of ``new`` samples the one of ``old`` that its centre lies in; intp."""
    return ((np.arange(new) + 0.5) * old / new).astype(np.intp)


def neighbours(old: int, new: int) -> Neighbours:
    """Give lower index, upper index and the upper one's weight (float32) for each new pixel."""
    position = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    lower = np.minimum(position.astype(np.intp), old - 1)
    upper = np.minimum(lower + 1, old - 1)
    return lower, upper, (position - lower).astype(np.float32)
