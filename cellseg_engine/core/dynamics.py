"""Dynamics: follow the flow from every object pixel to where it comes to rest.

Euler steps of length 1 (Stringer et al. 2021, "Mask recovery from vector flows"). Points are
advanced in blocks that fit the cache; a point whose orbit repeats itself exactly is finished
early by arithmetic on the period, which changes no result.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import njit, prange

BLOCK = 1024
CHECK_EVERY = 12


def follow_flows(
    flows: np.ndarray,
    mask: np.ndarray,
    iterations: int,
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
) -> tuple[np.ndarray, np.ndarray]:
    """Give the start and the end of every pixel's path.

    Parameters
    ----------
    flows
        float32 of shape (2, Y, X): y and x component, unit length by convention. Pixels
        outside the mask count as zero.
    mask
        bool of shape (Y, X); its pixels are the starting points.
    iterations
        Number of steps.
    interpolation
        How the flow between pixels is read: ``bilinear`` (Cellpose's ``interp=True``), or
        ``nearest``, the pixel that contains the truncated position (the paper, and the size
        estimate).

    Returns
    -------
    starts
        int64 of shape (2, N): y and x of the mask's pixels, row by row.
    ends
        float32 of shape (2, N), clamped to the image.
    """
    height, width = mask.shape
    starts = np.stack(np.nonzero(mask))
    # One more row and column, so that the lower-right neighbour always exists.
    field = np.zeros((height + 1, width + 1, 2), np.float32)
    field[:height, :width] = np.where(mask, flows, np.float32(0)).transpose(1, 2, 0)
    field[height] = field[height - 1]
    field[:, width] = field[:, width - 1]
    ys, xs = starts.astype(np.float32)
    _follow_all(field, ys, xs, iterations, interpolation == "bilinear")
    return starts, np.stack((ys, xs))


@njit(parallel=True, cache=True)
def _follow_all(field, ys, xs, iterations, bilinear):  # type: ignore[no-untyped-def]
    blocks = (ys.size + BLOCK - 1) // BLOCK
    for block in prange(blocks):
        start = block * BLOCK
        stop = min(ys.size, start + BLOCK)
        _follow_block(field, ys[start:stop], xs[start:stop], iterations, bilinear)


@njit(cache=True)
def _follow_block(field, ys, xs, iterations, bilinear):  # type: ignore[no-untyped-def]
    n = ys.size
    y, x = ys.copy(), xs.copy()
    mark_y, mark_x = np.empty_like(ys), np.empty_like(xs)
    period = np.zeros(n, np.int64)
    slot = np.arange(n)
    done = 0
    while done < iterations and n > 0:
        steps = min(CHECK_EVERY, iterations - done)
        for j in range(n):
            mark_y[j], mark_x[j], period[j] = y[j], x[j], 0
        for step in range(1, steps + 1):
            _advance(field, y[:n], x[:n], bilinear)
            for j in range(n):
                if period[j] == 0 and y[j] == mark_y[j] and x[j] == mark_x[j]:
                    period[j] = step
        done += steps
        j = 0
        while j < n:
            if period[j] > 0:
                for _ in range((iterations - done) % period[j]):
                    _advance(field, y[j : j + 1], x[j : j + 1], bilinear)
                ys[slot[j]], xs[slot[j]] = y[j], x[j]
                n -= 1
                y[j], x[j], slot[j], period[j] = y[n], x[n], slot[n], period[n]
            else:
                j += 1
    for j in range(n):
        ys[slot[j]], xs[slot[j]] = y[j], x[j]


@njit(cache=True, fastmath={"contract"})
def _advance(field, ys, xs, bilinear):  # type: ignore[no-untyped-def]
    last_y = np.float32(field.shape[0] - 2)
    last_x = np.float32(field.shape[1] - 2)
    zero = np.float32(0)
    one = np.float32(1)
    for j in range(ys.size):
        y, x = ys[j], xs[j]
        row, column = np.int32(y), np.int32(x)
        if bilinear:
            fy, fx = y - np.float32(row), x - np.float32(column)
            w00, w01 = (one - fy) * (one - fx), (one - fy) * fx
            w10, w11 = fy * (one - fx), fy * fx
            dy = (
                field[row, column, 0] * w00
                + field[row, column + 1, 0] * w01
                + field[row + 1, column, 0] * w10
                + field[row + 1, column + 1, 0] * w11
            )
            dx = (
                field[row, column, 1] * w00
                + field[row, column + 1, 1] * w01
                + field[row + 1, column, 1] * w10
                + field[row + 1, column + 1, 1] * w11
            )
        else:
            dy, dx = field[row, column, 0], field[row, column, 1]
        ys[j] = min(last_y, max(zero, y + dy))
        xs[j] = min(last_x, max(zero, x + dx))
