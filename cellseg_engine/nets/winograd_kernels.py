"""Convolutions of 3 x 3 pixels with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3).

Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", section 4: for every
4 x 4 pixels of the result the 6 x 6 pixels around them are transformed, multiplied with the
transformed kernel one by one, summed over the channels of the input (36 products of matrices), and
transformed back. Arrays are (Y, X, C), so that a transform works on all channels of a pixel at
once.

What stands before a convolution in the network is applied while its input is read, and what
is added behind it while its result is written, so that an image passes through memory once for
each convolution.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from cellseg_engine.nets.lanes import N_LANES, on_rows, on_three, product_of
from cellseg_engine.nets.processor import has_wide_registers

STEP_PX = 4
"""Pixels of the result that one square gives, along y and x."""
WINDOW_PX = 6
"""Pixels of the input that it needs."""
N_PRODUCTS = WINDOW_PX**2
EVERYWHERE = 62
"""Halved so often, an image is one pixel."""

_KERNEL_TRANSFORM = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
"""G of Lavin and Gray 2016, section 4.3."""

_compiled = njit(cache=True, nogil=True, error_model="numpy")


def transform_kernel(weights: np.ndarray) -> np.ndarray:
    """Give G g G^T of a convolution's kernels g, of shape (C_out, C_in, 3, 3), in panels.

    Returns
    -------
    As of `in_panels`, of 36 matrices; calculated in float64.
    """
    both_ways = np.kron(_KERNEL_TRANSFORM, _KERNEL_TRANSFORM)
    products = both_ways @ weights.reshape(-1, 9).T.astype(np.float64)
    return in_panels(products.reshape(N_PRODUCTS, *weights.shape[:2]).transpose(0, 2, 1))


def in_panels(matrices: np.ndarray) -> np.ndarray:
    """Give matrices in the order in which products read them.

    Parameters
    ----------
    matrices
        Of shape (N, C_in, C_out).

    Returns
    -------
    float32 of shape (N, panels, C_in, `PANEL`), C-contiguous, with zeros for channels, of the input
    and of the output, that lack to whole panels.
    """
    lacking = [(0, -side % PANEL) for side in matrices.shape[1:]]
    full = np.pad(matrices.astype(np.float32), ((0, 0), *lacking))
    panels = full.reshape(*full.shape[:2], -1, PANEL).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(panels)


def n_squares(image: np.ndarray) -> int:
    """Give how many squares cover an image (Y, X, ...)."""
    return math.prod(-(-side // STEP_PX) for side in image.shape[:2])


def transform_input(d0: Any, d1: Any, d2: Any, d3: Any, d4: Any, d5: Any) -> tuple[Any, ...]:
    """Give B^T d (Lavin and Gray 2016, section 4.3) of six numbers, arrays or `Lanes`."""
    even, odd = d4 - 4 * d2, d3 - 4 * d1
    wide, tall = d4 - d2, 2 * (d3 - d1)
    return (
        4 * d0 - 5 * d2 + d4,
        even + odd,
        even - odd,
        wide + tall,
        wide - tall,
        4 * d1 - 5 * d3 + d5,
    )


def transform_output(m0: Any, m1: Any, m2: Any, m3: Any, m4: Any, m5: Any) -> tuple[Any, ...]:
    """Give A^T m, likewise: four of six."""
    near, near_odd, far, far_odd = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return m0 + near + far, near_odd + 2 * far_odd, near + 4 * far, near_odd + 8 * far_odd + m5


_ROWS, _VECTORS = (8, 2) if has_wide_registers() else (6, 1)
"""Sums of a product at a time: as many as there are registers for."""
PANEL = _VECTORS * N_LANES
KERNEL_NAME = f"winograd_4x4_f32_{_ROWS}x{PANEL}"
"""For ``run.json``."""
SQUARES = 48
"""How many are calculated together, a multiple of `_ROWS`: what they need fits a core's cache."""
ROWS = 240
"""Likewise of a convolution of single pixels."""

_product = product_of(_ROWS, _VECTORS)
_to_window = on_rows(transform_input, WINDOW_PX)
_to_square = on_rows(transform_output, WINDOW_PX)
_activate = on_three(lambda value, scale, shift: (value * scale + shift).rectified())
_sum = on_three(lambda a, b, c: a + b + c)


@_compiled
def convolve_squares(source, kernel, target, first, last):  # type: ignore[no-untyped-def]
    """Give a part of a convolution of 3 x 3 pixels.

    ``out = added + bias + kernel * max(0, scale * pixels + shift)``, for the squares ``first`` to
    ``last`` of 4 x 4 pixels, counted row by row; what is convolved is 0 outside of the image.

    Parameters
    ----------
    source
        ``(pixels, halved, scale, shift)``: float32 of shape (Y, X, C_in), or smaller; how often it
        was halved (once, and every pixel stands for 2 x 2); and a batch normalisation, float32
        of shape (C_in,).
    kernel
        float32 of `transform_kernel`.
    target
        ``(bias, added, halved, out)``: float32 of shape (C_out,); float32 of shape (Y, X, C_out) or
        smaller, and how often it was halved (`EVERYWHERE`, and one pixel stands for all); float32
        of shape (Y, X, C_out).

    Notes
    -----
    All arrays are C-contiguous, and C_in and C_out multiples of `PANEL`, which nobody checks. The
    result of a square does not depend on those that are calculated with it.
    """
    n_panels, n_in, panel = kernel.shape[1:]
    # One more, so that the 36 products do not compete for the same places of a cache.
    before = np.empty((N_PRODUCTS, SQUARES + 1, n_in), np.float32)
    after = np.empty((N_PRODUCTS, SQUARES + 1, n_panels * panel), np.float32)
    window = np.empty((N_PRODUCTS + WINDOW_PX) * N_LANES, np.float32)
    sides = target[3].shape[:2]
    per_row = (sides[1] + STEP_PX - 1) // STEP_PX
    for start in range(first, last, SQUARES):
        stop = min(start + SQUARES, last)
        for square in range(start, stop):
            row, column = divmod(square, per_row)
            corner = STEP_PX * row - 1, STEP_PX * column - 1
            _read_window(source, sides, corner, window, before, square - start)
        for k in range(N_PRODUCTS):
            _multiply(before, kernel, after, k, stop - start)
        for square in range(start, stop):
            row, column = divmod(square, per_row)
            corner = STEP_PX * row, STEP_PX * column
            _write_square(after, square - start, target, corner, window)


@_compiled
def _multiply(before, kernel, after, k, count):  # type: ignore[no-untyped-def]
    """Multiply the first ``count`` rows, and those that lack to whole `_ROWS`, of matrices k."""
    n_panels, n_in, panel = kernel.shape[1:]
    n_out = after.shape[2]
    for n in range(n_panels):
        matrix = (k * n_panels + n) * n_in * panel
        for row in range(0, count, _ROWS):
            source = (k * before.shape[1] + row) * n_in
            target = (k * after.shape[1] + row) * n_out + n * panel
            _product(before, source, n_in, kernel, matrix, after, target, n_out, n_in)


@_compiled
def _read_window(source, sides, corner, window, before, n):  # type: ignore[no-untyped-def]
    """Give B^T d B of 6 x 6 pixels d, whose first one is ``corner``, in ``before[:, n]``."""
    pixels, halved, scale, shift = source
    in_a_row, channels = pixels.shape[1:]
    plane = before.shape[1] * channels
    read = N_PRODUCTS * N_LANES
    for c in range(0, channels, N_LANES):
        for column in range(WINDOW_PX):
            x = corner[1] + column
            for row in range(WINDOW_PX):
                y = corner[0] + row
                at = read + row * N_LANES
                if 0 <= y < sides[0] and 0 <= x < sides[1]:
                    place = ((y >> halved) * in_a_row + (x >> halved)) * channels + c
                    _activate(pixels, place, scale, c, shift, c, window, at)
                else:
                    window[at : at + N_LANES] = 0
            _to_window(window, read, N_LANES, window, column * N_LANES, WINDOW_PX * N_LANES)
        for row in range(WINDOW_PX):
            k = WINDOW_PX * row
            target = k * plane + n * channels + c
            _to_window(window, k * N_LANES, N_LANES, before, target, plane)


@_compiled
def _write_square(after, n, target, corner, window):  # type: ignore[no-untyped-def]
    """Write A^T m A of ``m = after[:, n]``, and what is added, to 4 x 4 pixels from ``corner``."""
    bias, added, halved, out = target
    height, width, channels = out.shape
    in_a_row = added.shape[1]
    plane = after.shape[1] * channels
    written = N_PRODUCTS * N_LANES
    for c in range(0, channels, N_LANES):
        for column in range(WINDOW_PX):
            m, at = column * plane + n * channels + c, column * N_LANES
            _to_square(after, m, WINDOW_PX * plane, window, at, WINDOW_PX * N_LANES)
        for y in range(corner[0], min(corner[0] + STEP_PX, height)):
            row = WINDOW_PX * (y - corner[0]) * N_LANES
            _to_square(window, row, N_LANES, window, written, N_LANES)
            for x in range(corner[1], min(corner[1] + STEP_PX, width)):
                value = written + (x - corner[1]) * N_LANES
                more = ((y >> halved) * in_a_row + (x >> halved)) * channels + c
                _sum(window, value, bias, c, added, more, out, (y * width + x) * channels + c)


@_compiled
def multiply_rows(source, rectified, weights, bias, out, first, last):  # type: ignore[no-untyped-def]
    """Give a convolution of single pixels, ``out = bias + weights * (scale * pixels + shift)``.

    Parameters
    ----------
    source
        ``(pixels, scale, shift)``: float32 of shape (pixels, C_in), and twice (C_in,), C_in a
        multiple of `PANEL`.
    rectified
        Whether what is negative behind the normalisation becomes 0.
    weights
        float32 of `in_panels`, of one matrix.
    bias
        float32 of shape (C_out,).
    out
        float32 of shape (pixels, C_out).
    first, last
        The pixels that are calculated.
    """
    pixels, scale, shift = source
    n_panels, n_in, panel = weights.shape[1:]
    before = np.empty((1, ROWS, n_in), np.float32)
    after = np.empty((1, ROWS, n_panels * panel), np.float32)
    for start in range(first, last, ROWS):
        stop = min(start + ROWS, last)
        for n in range(start, stop):
            for c in range(n_in):
                value = pixels[n, c] * scale[c] + shift[c]
                before[0, n - start, c] = np.float32(0) if rectified and value < 0 else value
        _multiply(before, weights, after, 0, stop - start)
        for n in range(start, stop):
            for c in range(bias.size):
                out[n, c] = after[0, n - start, c] + bias[c]


@_compiled
def pool_rows(source, out, first, last):  # type: ignore[no-untyped-def]
    """Give the largest of 2 x 2 pixels each: (2 Y, 2 X, C) to (Y, X, C), rows first to last."""
    for y in range(first, last):
        for x in range(out.shape[1]):
            for c in range(out.shape[2]):
                upper = max(source[2 * y, 2 * x, c], source[2 * y, 2 * x + 1, c])
                lower = max(source[2 * y + 1, 2 * x, c], source[2 * y + 1, 2 * x + 1, c])
                out[y, x, c] = max(upper, lower)
