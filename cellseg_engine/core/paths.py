"""Kernels of the dynamics: blocks of points stepped through a flow field.

A step is three loops: where the points are, the field there, where they go. Only the middle one
reads here and there; the others use the vector units of the processor. No operation is contracted
or reordered, so the results are those of NumPy in float32, on every processor.

Positions of a block are kept for the last `WINDOW` steps, ``history[axis, step, point]``. A point
that is where it was p steps ago, exactly, will go round with period p for ever: it is finished by
arithmetic, which changes no result. (Between pixels that are not interpolated, orbits do not repeat
themselves within hundreds of steps, so there it is not looked for.)

All of this is one file because Numba's cache on disk sees changes of the file of the outermost
kernel only.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from cellseg_engine.core.kernels import parallel_kernel

WINDOW = 8
STRIP = 256
"""Points whose field values fit the fastest cache."""

MAX_EXTENSIONS = 64
MIN_SPEED = 0.25
"""Pixels per step, over a stretch of steps, of a point that is still on its way."""

_U = np.uint64
_U4 = np.uint32
_F4 = np.float32
_I4 = np.int32
_HALF = np.uint64(32)
_ZERO = np.float32(0)
_ONE = np.float32(1)


@parallel_kernel
def follow_all(  # type: ignore[no-untyped-def]
    pairs,
    depths,
    mask,
    margin,
    origin,
    scale,
    shift,
    offsets,
    order,
    counts,
    tile,
    tiles,
    iterations,
    linear,
    to_rest,
    starts,
    ends,
):
    """Follow the points of each tile of a mask.

    Parameters
    ----------
    pairs, depths
        The field, as `dynamics` packs it: uint64 and float32, flat.
    mask
        bool of shape (Z, Y, X).
    margin
        Voxels that the field is wider than the mask, on every side: 0 or 1.
    origin
        Where the first voxel (z, y, x), of the mask and of the field, is counted to be.
    scale, shift
        float32 along (z, y, x), and float32: a point begins at its voxel times ``scale`` plus
        ``shift``.
    offsets
        int64 (Z, Y, tiles in a row): the number of the first point of each row in each tile, in
        the order of the results.
    order
        int64: the tiles that have points.
    counts
        Number of points of every tile.
    tile, tiles
        Extent of a tile and number of tiles along (z, y, x).
    iterations
        Steps.
    linear
        Whether the field is interpolated, else read at the truncated position.
    to_rest
        Whether points that are still on their way after these steps go on.
    starts, ends
        int32 and float32 (axes, N), written.
    """
    axes = starts.shape[0]
    for turn in prange(order.size):
        number = order[turn]
        k = number % tiles[2]
        z0 = number // tiles[2] // tiles[1] * tile[0]
        y0 = number // tiles[2] % tiles[1] * tile[1]
        # Sized by the points: rows a power of two apart would compete for places in the cache.
        history = np.empty((axes, WINDOW + 1, counts[number]), np.float32)
        places = np.empty(counts[number], np.int64)
        n = 0
        for z in range(z0, min(z0 + tile[0], mask.shape[0])):
            for y in range(y0, min(y0 + tile[1], mask.shape[1])):
                place = offsets[z, y, k]
                for x in range(k * tile[2], min((k + 1) * tile[2], mask.shape[2])):
                    if mask[z, y, x]:
                        starts[axes - 2, place], starts[axes - 1, place] = y, x
                        history[axes - 2, 0, n] = (y + origin[1]) * scale[1] + shift
                        history[axes - 1, 0, n] = (x + origin[2]) * scale[2] + shift
                        if axes == 3:
                            starts[0, place] = z
                            history[0, 0, n] = (z + origin[0]) * scale[0] + shift
                        places[n] = place
                        place += 1
                        n += 1
        n = places.size
        found = np.empty((axes, n), np.float32)
        sides = (mask.shape[0] + 2 * margin, mask.shape[1] + 2 * margin, mask.shape[2] + 2 * margin)
        shape = (*sides, *origin)
        _follow_block(pairs, depths, shape, history, iterations, linear, to_rest, found)
        for axis in range(axes):
            for j in range(n):
                ends[axis, places[j]] = found[axis, j]


@njit(cache=True, nogil=True)
def _follow_block(pairs, depths, shape, history, iterations, linear, to_rest, ends):  # type: ignore[no-untyped-def]
    """Follow the n points of ``history[:, 0]`` and write their ``ends``, (axes, n)."""
    axes, n = ends.shape
    slots = np.arange(n)
    period = np.empty(n, np.int32)
    before = np.empty((axes, n), np.float32)
    index = np.empty(STRIP, np.int32)
    corners = np.empty((8, STRIP + 8), np.uint64)
    deep = np.empty((8, STRIP + 8), np.float32)
    stretch = max(iterations // 4, WINDOW) if to_rest else 0
    scratch = (slots, period, index, corners, deep)
    # A plain 0 would be a type of its own, with its own compiled copy of all below.
    done, stop, goal = iterations - iterations, max(0, iterations - stretch), iterations
    for lap in range(MAX_EXTENSIONS + 2 if to_rest else 1):
        n = _run(pairs, depths, shape, history, n, done, stop, goal, linear, scratch, ends)
        if lap > 0:
            n = _finish_slow(history, n, slots, before, _F4(MIN_SPEED * stretch), ends)
            goal += stretch
        for axis in range(axes):
            for j in range(n):
                before[axis, slots[j]] = history[axis, 0, j]
        done, stop = stop, goal
    for axis in range(axes):
        for j in range(n):
            ends[axis, slots[j]] = history[axis, 0, j]


@njit(cache=True, nogil=True)
def _run(pairs, depths, shape, history, n, done, stop, goal, linear, scratch, ends):  # type: ignore[no-untyped-def]
    """Advance the first ``n`` points from step ``done`` to ``stop``; gives how many are left.

    Points whose orbit repeats itself end where they are at step ``goal``.
    """
    slots, period, index, corners, deep = scratch
    while done < stop and n > 0:
        steps = min(WINDOW, stop - done)
        for step in range(1, steps + 1):
            _advance(pairs, depths, shape, history, step, n, linear, index, corners, deep)
        done += steps
        if linear:
            n = _finish_resting(history, n, steps, goal - done, slots, period, ends)
        else:
            history[:, 0, :n] = history[:, steps, :n]
    return n


@njit(cache=True, nogil=True)
def _finish_resting(history, n, steps, left, slots, period, ends):  # type: ignore[no-untyped-def]
    """Write the ends of points whose orbit repeats itself; the others move to the front.

    Their last positions become their first. Gives how many are left.
    """
    axes = history.shape[0]
    _find_periods(history, n, steps, period)
    kept = 0
    for j in range(n):
        if period[j] > 0:
            step = steps - period[j] + left % period[j]
            for axis in range(axes):
                ends[axis, slots[j]] = history[axis, step, j]
        else:
            for axis in range(axes):
                history[axis, 0, kept] = history[axis, steps, j]
            slots[kept] = slots[j]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _find_periods(history, n, steps, period):  # type: ignore[no-untyped-def]
    """Write how many steps ago each point was where it is now, at the least; 0 if never."""
    axes = history.shape[0]
    for j in range(n):
        period[j] = 0
    for back in range(steps, 0, -1):
        y0, x0 = history[axes - 2, steps], history[axes - 1, steps]
        y1, x1 = history[axes - 2, steps - back], history[axes - 1, steps - back]
        if axes == 2:
            for j in range(n):
                if (y0[j] == y1[j]) & (x0[j] == x1[j]):
                    period[j] = back
        else:
            z0, z1 = history[0, steps], history[0, steps - back]
            for j in range(n):
                if (z0[j] == z1[j]) & (y0[j] == y1[j]) & (x0[j] == x1[j]):
                    period[j] = back


@njit(cache=True, nogil=True)
def _finish_slow(history, n, slots, before, far, ends):  # type: ignore[no-untyped-def]
    """Write the ends of points less than ``far`` from where they were; as `_finish_resting`."""
    axes = history.shape[0]
    kept = 0
    for j in range(n):
        moved = _ZERO
        for axis in range(axes):
            moved += (history[axis, 0, j] - before[axis, slots[j]]) ** 2
        if moved < far * far:
            for axis in range(axes):
                ends[axis, slots[j]] = history[axis, 0, j]
        else:
            for axis in range(axes):
                history[axis, 0, kept] = history[axis, 0, j]
            slots[kept] = slots[j]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _advance(pairs, depths, shape, history, step, n, linear, index, corners, deep):  # type: ignore[no-untyped-def]
    """Write ``history[:, step, :n]`` from the step before.

    ``shape`` is that of the field, (Z, Y, X), and then the place of its first voxel.
    """
    axes = history.shape[0]
    line = shape[2] + 1
    sheet = (shape[1] + 1) * line
    base = shape[3] * sheet + shape[4] * line + shape[5]
    for start in range(0, n, STRIP):
        stop = min(n, start + STRIP)
        y0, x0 = history[axes - 2, step - 1, start:stop], history[axes - 1, step - 1, start:stop]
        y1, x1 = history[axes - 2, step, start:stop], history[axes - 1, step, start:stop]
        place = index[: stop - start]
        if axes == 2:
            _locate(y0, x0, line, base, place)
            if linear:
                _gather(pairs, place, line, corners)
                _move_bilinear(y0, x0, corners, shape, y1, x1)
            else:
                _gather_one(pairs, place, corners)
                _move_nearest(y0, x0, corners, shape, y1, x1)
        else:
            z0, z1 = history[0, step - 1, start:stop], history[0, step, start:stop]
            _locate_in_volume(z0, y0, x0, sheet, line, base, place)
            if linear:
                _gather(pairs, place, line, corners)
                _gather(pairs[sheet:], place, line, corners[4:])
                _gather(depths, place, line, deep)
                _gather(depths[sheet:], place, line, deep[4:])
                _move_trilinear(z0, y0, x0, corners, deep, shape, z1, y1, x1)
            else:
                _gather_one(pairs, place, corners)
                _gather_one(depths, place, deep)
                _move_nearest(y0, x0, corners, shape, y1, x1)
                _move_depth(z0, deep, shape, z1)


@njit(cache=True, nogil=True, error_model="numpy")
def _locate(ys, xs, line, base, index):  # type: ignore[no-untyped-def]
    for j in range(index.size):
        index[j] = _I4(ys[j]) * _I4(line) + _I4(xs[j]) - _I4(base)


@njit(cache=True, nogil=True, error_model="numpy")
def _locate_in_volume(zs, ys, xs, sheet, line, base, index):  # type: ignore[no-untyped-def]
    for j in range(index.size):
        place = _I4(zs[j]) * _I4(sheet) + _I4(ys[j]) * _I4(line) + _I4(xs[j])
        index[j] = place - _I4(base)


@njit(cache=True, nogil=True, error_model="numpy")
def _gather(values, index, line, corners):  # type: ignore[no-untyped-def]
    """Write the values at the four corners of each place."""
    for k in range(index.size):
        j = _U(k)
        at = _U(_U4(index[j]))
        corners[0, j] = values[at]
        corners[1, j] = values[at + _U(1)]
        corners[2, j] = values[at + _U(line)]
        corners[3, j] = values[at + _U(line) + _U(1)]


@njit(cache=True, nogil=True, error_model="numpy")
def _gather_one(values, index, corners):  # type: ignore[no-untyped-def]
    for k in range(index.size):
        corners[0, _U(k)] = values[_U(_U4(index[_U(k)]))]


@njit(cache=True, nogil=True, error_model="numpy")
def _move_bilinear(ys, xs, corners, shape, new_ys, new_xs):  # type: ignore[no-untyped-def]
    first_y, first_x = _F4(shape[4]), _F4(shape[5])
    last_y, last_x = _F4(shape[4] + shape[1] - 1), _F4(shape[5] + shape[2] - 1)
    for k in range(ys.size):
        j = _U(k)
        y, x = ys[j], xs[j]
        fy, fx = y - _F4(_I4(y)), x - _F4(_I4(x))
        gy, gx = _ONE - fy, _ONE - fx
        w0, w1, w2, w3 = gy * gx, gy * fx, fy * gx, fy * fx
        c0, c1, c2, c3 = corners[0, j], corners[1, j], corners[2, j], corners[3, j]
        dy = _low(c0) * w0 + _low(c1) * w1 + _low(c2) * w2 + _low(c3) * w3
        dx = _high(c0) * w0 + _high(c1) * w1 + _high(c2) * w2 + _high(c3) * w3
        new_ys[j] = min(last_y, max(first_y, y + dy))
        new_xs[j] = min(last_x, max(first_x, x + dx))


@njit(cache=True, nogil=True, error_model="numpy")
def _move_trilinear(zs, ys, xs, corners, deep, shape, new_zs, new_ys, new_xs):  # type: ignore[no-untyped-def]
    first_z, first_y, first_x = _F4(shape[3]), _F4(shape[4]), _F4(shape[5])
    last_y, last_x = _F4(shape[4] + shape[1] - 1), _F4(shape[5] + shape[2] - 1)
    last_z = _F4(shape[3] + shape[0] - 1)
    for k in range(ys.size):
        j = _U(k)
        z, y, x = zs[j], ys[j], xs[j]
        fz, fy, fx = z - _F4(_I4(z)), y - _F4(_I4(y)), x - _F4(_I4(x))
        gz, gy, gx = _ONE - fz, _ONE - fy, _ONE - fx
        w0, w1, w2, w3 = gz * gy * gx, gz * gy * fx, gz * fy * gx, gz * fy * fx
        w4, w5, w6, w7 = fz * gy * gx, fz * gy * fx, fz * fy * gx, fz * fy * fx
        c0, c1, c2, c3 = corners[0, j], corners[1, j], corners[2, j], corners[3, j]
        c4, c5, c6, c7 = corners[4, j], corners[5, j], corners[6, j], corners[7, j]
        dz = deep[0, j] * w0 + deep[1, j] * w1 + deep[2, j] * w2 + deep[3, j] * w3
        dz = dz + deep[4, j] * w4 + deep[5, j] * w5 + deep[6, j] * w6 + deep[7, j] * w7
        dy = _low(c0) * w0 + _low(c1) * w1 + _low(c2) * w2 + _low(c3) * w3
        dy = dy + _low(c4) * w4 + _low(c5) * w5 + _low(c6) * w6 + _low(c7) * w7
        dx = _high(c0) * w0 + _high(c1) * w1 + _high(c2) * w2 + _high(c3) * w3
        dx = dx + _high(c4) * w4 + _high(c5) * w5 + _high(c6) * w6 + _high(c7) * w7
        new_zs[j] = min(last_z, max(first_z, z + dz))
        new_ys[j] = min(last_y, max(first_y, y + dy))
        new_xs[j] = min(last_x, max(first_x, x + dx))


@njit(cache=True, nogil=True, error_model="numpy")
def _move_nearest(ys, xs, corners, shape, new_ys, new_xs):  # type: ignore[no-untyped-def]
    first_y, first_x = _F4(shape[4]), _F4(shape[5])
    last_y, last_x = _F4(shape[4] + shape[1] - 1), _F4(shape[5] + shape[2] - 1)
    for k in range(ys.size):
        j = _U(k)
        new_ys[j] = min(last_y, max(first_y, ys[j] + _low(corners[0, j])))
        new_xs[j] = min(last_x, max(first_x, xs[j] + _high(corners[0, j])))


@njit(cache=True, nogil=True, error_model="numpy")
def _move_depth(zs, deep, shape, new_zs):  # type: ignore[no-untyped-def]
    first_z, last_z = _F4(shape[3]), _F4(shape[3] + shape[0] - 1)
    for k in range(zs.size):
        j = _U(k)
        new_zs[j] = min(last_z, max(first_z, zs[j] + deep[0, j]))


@njit(cache=True, inline="always")
def _low(pair):  # type: ignore[no-untyped-def]
    """Give the y component of a pair."""
    return _U4(pair).view(_F4)


@njit(cache=True, inline="always")
def _high(pair):  # type: ignore[no-untyped-def]
    """Give the x component of a pair."""
    return _U4(pair >> _HALF).view(_F4)
