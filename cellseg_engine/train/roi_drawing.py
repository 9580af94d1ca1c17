"""The pixels of a ROI of ImageJ: those that ImageJ 1.54p fills.

tests/unit/test_roi_drawing.py compares them with masks of ImageJ, pixel by pixel.
"""

from __future__ import annotations

import numpy as np
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from cellseg_engine.core.overlaps import Region

_TIE_PX = 1e-8
"""ImageJ takes crossings that are so little left of a centre for crossings at it."""
_ARC_CORNERS = 33
_SPLINE_CORNERS = 100


def draw_roi(roi: ImagejRoi, shape: tuple[int, int]) -> Region:
    """Give the pixels of a ROI in an image.

    A pixel belongs to a ROI when its centre lies inside the outline. A centre on the outline
    belongs to what lies left of it or above it, so areas with a common edge share no pixel and
    leave none out. Parts of a composite that lie inside others are holes.

    Parameters
    ----------
    shape
        (Y, X) of the image.
    """
    box = np.array([[roi.left, roi.top], [roi.right, roi.bottom]], np.float64)
    is_oval = roi.roitype == ROI_TYPE.OVAL
    loops = [] if is_oval else _outlines(roi)
    corners = np.concatenate(loops) if loops else box
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    x0, y0 = np.maximum(low, 0).astype(int)
    x1, y1 = np.maximum(np.minimum(high, shape[::-1]).astype(int), (x0, y0))
    if is_oval:
        centre, radius = box.mean(axis=0), (box[1] - box[0]) / 2
        y, x = (axis + 0.5 for axis in np.ogrid[y0:y1, x0:x1])
        mask = ((y - centre[1]) / radius[1]) ** 2 + ((x - centre[0]) / radius[0]) ** 2 <= 1
    else:
        mask = fill_outlines([loop - (x0, y0) for loop in loops], (y1 - y0, x1 - x0))
    return Region(int(y0), int(x0), mask)


def fill_outlines(loops: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Give the pixels whose centres lie inside an odd number of closed outlines.

    Parameters
    ----------
    loops
        float64 of shape (n, 2) each: corners (x, y) in px from the edge of the image, so that the
        first centre is (0.5, 0.5). The last is joined to the first.
    shape
        (Y, X) of the image.

    Returns
    -------
    bool of that shape. A centre on an outline belongs to the left of it, or to what is above.
    """
    height, width = shape
    if not loops:
        return np.zeros(shape, bool)
    ends = np.concatenate([np.stack([loop, np.roll(loop, -1, axis=0)], axis=1) for loop in loops])
    # Downwards, so that an edge that two areas share crosses rows at the same places.
    upwards = ends[:, 0, 1] > ends[:, 1, 1]
    ends[upwards] = ends[upwards, ::-1]
    (x0, y0), (x1, y1) = ends[:, 0].T, ends[:, 1].T
    first, stop = (np.clip(np.floor(y + 0.5), 0, height).astype(np.int64) for y in (y0, y1))
    counts = stop - first
    edge = np.repeat(np.arange(len(ends)), counts)
    row = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts - first, counts)
    across = (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.clip(np.floor(x0[edge] + across + 0.5 + _TIE_PX), 0, width).astype(np.int64)
    crossings = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    inside = crossings.reshape(height, width + 1).cumsum(axis=1) % 2 == 1
    return np.asarray(inside[:, :width])


def _outlines(roi: ImagejRoi) -> list[np.ndarray]:
    """Give the closed outlines of a ROI that is no oval: float64 (n, 2), corners (x, y)."""
    if roi.roitype == ROI_TYPE.RECT and roi.rounded_rect_arc_size > 0 and not roi.composite:
        return [_rounded(roi)]
    loops = [np.asarray(loop, np.float64) for loop in roi.coordinates(multi=True) if len(loop) > 2]
    if roi.options & ROI_OPTIONS.SPLINE_FIT and not roi.composite:
        return [_spline(loop) for loop in loops]
    return loops


def _rounded(roi: ImagejRoi) -> np.ndarray:
    """Give the outline of a rectangle with quarters of ellipses as corners."""
    half_x, half_y = (roi.right - roi.left) / 2, (roi.bottom - roi.top) / 2
    radius_x, radius_y = (min(roi.rounded_rect_arc_size / 2, half) for half in (half_x, half_y))
    angles = np.linspace(0, np.pi / 2, _ARC_CORNERS)
    quarters = np.concatenate([angles + n * np.pi / 2 for n in range(4)])
    side_x = np.repeat([1, -1, -1, 1], _ARC_CORNERS)
    side_y = np.repeat([1, 1, -1, -1], _ARC_CORNERS)
    x = roi.left + half_x + side_x * (half_x - radius_x) + radius_x * np.cos(quarters)
    y = roi.top + half_y + side_y * (half_y - radius_y) + radius_y * np.sin(quarters)
    return np.column_stack([x, y])


def _spline(corners: np.ndarray) -> np.ndarray:
    """Give the closed cubic spline through corners, whose knots are apart by roots of distances."""
    from scipy.interpolate import CubicSpline  # the service starts sooner without it

    closed = np.concatenate([corners, corners[:1]])
    steps = np.diff(closed, axis=0)
    sides = np.hypot(steps[:, 0], steps[:, 1])
    apart = np.append(True, sides > 0)  # a corner that is there twice is one knot
    knots = np.append(0, np.cumsum(np.sqrt(sides)))[apart]
    if len(knots) < 4:
        return corners
    count = max(_SPLINE_CORNERS, int(sides.sum() / 2))
    through = CubicSpline(knots, closed[apart], bc_type="periodic")
    return np.asarray(through(np.linspace(0, knots[-1], count)))
