"""A real service whose model costs nothing and gives round objects, for `fiji.py`."""

from __future__ import annotations

import sys

import numpy as np
from _service_stub import Stub

from cellseg_service.__main__ import main

RADIUS_PX = 12
N_PLANE = 2000
N_STACK_PLANE = 8


def disks(shape: tuple[int, ...], n_objects: int) -> np.ndarray:
    """Give labels of disks on a grid, int32 as the engine's are."""
    labels = np.zeros(shape, np.int32)
    columns = int(np.ceil(np.sqrt(n_objects)))
    step = min(shape) / columns
    y, x = np.mgrid[-RADIUS_PX : RADIUS_PX + 1, -RADIUS_PX : RADIUS_PX + 1]
    disk = y**2 + x**2 <= RADIUS_PX**2
    for index in range(n_objects):
        top, left = (int((place + 0.5) * step) - RADIUS_PX for place in divmod(index, columns))
        labels[top : top + 2 * RADIUS_PX + 1, left : left + 2 * RADIUS_PX + 1][disk] = index + 1
    return labels


class Disks(Stub):
    """Gives disks, for ROIs to be made of."""

    diameter_px = 2.0 * RADIUS_PX + 1

    def make_labels(self, shape: tuple[int, ...]) -> np.ndarray:
        """Give many disks in a plane, and a few in each of a stack."""
        if len(shape) == 2:
            return disks(shape, N_PLANE)
        plane = disks(shape[1:], N_STACK_PLANE)
        return np.stack([np.where(plane, plane + n * N_STACK_PLANE, 0) for n in range(shape[0])])


if __name__ == "__main__":
    sys.exit(main(None, Disks))
