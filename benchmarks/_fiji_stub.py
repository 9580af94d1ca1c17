"""A real service whose model costs nothing and gives round objects, for `fiji.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from cellseg_engine.pipeline.progress import ProgressCallback
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.settings import Settings
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


class Stub:
    """Gives prepared labels of the image's shape."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._labels: dict[tuple[int, ...], np.ndarray] = {}

    def segment(
        self,
        image: np.ndarray,
        axes: str | None = None,
        *,
        settings: Settings | None = None,
        channel_names: Sequence[str] = (),
        keep_fields: bool = True,
        progress: ProgressCallback | None = None,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> Segmentation:
        if image.shape not in self._labels:
            self._labels[image.shape] = self._make(image.shape)
        labels = self._labels[image.shape]
        nothing = np.zeros(0, np.float32)
        return Segmentation(
            labels=labels,
            axes=axes or "YX",
            flows=nothing,
            logits=nothing,
            style=nothing,
            diameter_px=2.0 * RADIUS_PX + 1,
            objects={"label": np.arange(1, int(labels.max()) + 1)},
            settings=settings or self._settings,
        )

    def _make(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 2:
            return disks(shape, N_PLANE)
        plane = disks(shape[1:], N_STACK_PLANE)
        return np.stack([np.where(plane, plane + n * N_STACK_PLANE, 0) for n in range(shape[0])])


if __name__ == "__main__":
    sys.exit(main(None, Stub))
