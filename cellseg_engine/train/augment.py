"""Random views of a training image: rotated, scaled, flipped, moved, with the vectors turned.

Stringer et al. 2021, "Image augmentations for training": the objects are brought to a common
size, scaled once more by 0.75 to 1.25, rotated by any angle, and a square is cut out at a random
place; here also mirrored in half of the cases, as in Cellpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

SCALE_RANGE = (0.75, 1.25)
WHOLE = (slice(None), slice(None))


@dataclass(frozen=True)
class View:
    """Which part of an image is seen, and how.

    Attributes
    ----------
    angle
        Rotation in radians, from the y axis towards the x axis.
    scale
        Pixels of the view per pixel of the image.
    flip
        Mirrored along x before the rotation.
    shift
        Where the middle of the view lies, along y and x: 0 is the middle of the image, -0.5 and
        0.5 the places where an unrotated view reaches its border.
    crop_px
        Side of the view.
    """

    angle: float
    scale: float
    flip: bool
    shift: tuple[float, float]
    crop_px: int

    def matrix(self) -> np.ndarray:
        """Give the rotation and reflection of vectors (y, x); float64 of shape (2, 2)."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        mirror = -1.0 if self.flip else 1.0
        return np.array([[cos, -sin * mirror], [sin, cos * mirror]])


def draw_view(
    rng: np.random.Generator,
    *,
    common_scale: float,
    crop_px: int,
    scale_range: tuple[float, float] = SCALE_RANGE,
) -> View:
    """Draw a random view.

    Parameters
    ----------
    rng
        Always asked for the same number of values, in the same order.
    common_scale
        Brings the image's objects to the common diameter.
    """
    angle = rng.uniform(0, 2 * np.pi)
    scale = common_scale * rng.uniform(*scale_range)
    flip = bool(rng.random() < 0.5)
    shift_y, shift_x = rng.uniform(-0.5, 0.5, 2)
    return View(angle, scale, flip, (float(shift_y), float(shift_x)), crop_px)


def plain_view(common_scale: float, crop_px: int) -> View:
    """Give the view of the middle of an image, neither rotated nor mirrored."""
    return View(0.0, common_scale, False, (0.0, 0.0), crop_px)


def apply_view(
    view: View,
    pixels: np.ndarray,
    labels: np.ndarray,
    flows: ArrayLike,
    area: tuple[slice, slice] = WHOLE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give what a view shows.

    Parameters
    ----------
    pixels
        float32 of shape (C, Y, X).
    labels
        int32 of shape (Y, X).
    flows
        float32 of shape (2, Y, X), the y and x component; kept ones are read here.
    area
        Rows and columns that the shift of the view counts in: the whole image, or the part of
        it that is annotated.

    Returns
    -------
    pixels, labels, flows
        Of shape (C, V, V), (V, V) and (2, V, V), the dtypes as given; V is ``crop_px``. Pixels
        and flows are interpolated linearly, labels are those of the nearest pixel, and all are 0
        outside the image. The flows are turned and mirrored with the image.
    """
    matrix = view.matrix()
    limits = [one.indices(side) for one, side in zip(area, labels.shape, strict=True)]
    start, stop = np.array(limits, float)[:, :2].T
    room = np.maximum(0.0, (stop - start) * view.scale - view.crop_px) / view.scale
    centre = (start + stop - 1) / 2 + np.array(view.shift) * room
    shown = np.zeros((len(pixels) + 2, view.crop_px, view.crop_px), np.float32)
    shown_labels = np.zeros((view.crop_px, view.crop_px), np.int32)
    _sample(pixels, labels, np.asarray(flows), matrix / view.scale, centre, shown, shown_labels)
    turned = np.einsum("ij,jyx->iyx", matrix.astype(np.float32), shown[-2:])
    return shown[:-2], shown_labels, turned


@njit(cache=True, nogil=True)
def _sample(pixels, labels, flows, inverse, centre, shown, shown_labels):  # type: ignore[no-untyped-def]
    # The inverse of a rotation or reflection is its transpose, hence [0, 0] and [1, 0] for y.
    n_channels, height, width = pixels.shape
    crop = shown_labels.shape[0]
    middle = (crop - 1) / 2
    for row in range(crop):
        for column in range(crop):
            dy, dx = row - middle, column - middle
            y = centre[0] + inverse[0, 0] * dy + inverse[1, 0] * dx
            x = centre[1] + inverse[0, 1] * dy + inverse[1, 1] * dx
            if y <= -1 or x <= -1 or y >= height or x >= width:
                continue
            y0, x0 = int(np.floor(y)), int(np.floor(x))
            fy, fx = np.float32(y - y0), np.float32(x - x0)
            for dy0 in range(2):
                for dx0 in range(2):
                    yy, xx = y0 + dy0, x0 + dx0
                    if yy < 0 or xx < 0 or yy >= height or xx >= width:
                        continue
                    weight_y = fy if dy0 == 1 else np.float32(1) - fy
                    weight_x = fx if dx0 == 1 else np.float32(1) - fx
                    weight = weight_y * weight_x
                    for channel in range(n_channels):
                        shown[channel, row, column] += weight * pixels[channel, yy, xx]
                    for axis in range(2):
                        shown[n_channels + axis, row, column] += weight * flows[axis, yy, xx]
            near_y, near_x = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
            if 0 <= near_y < height and 0 <= near_x < width:
                shown_labels[row, column] = labels[near_y, near_x]
