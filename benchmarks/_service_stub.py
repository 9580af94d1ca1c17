"""A real service whose model costs nothing, so that what is measured is the boundary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from cellseg_engine.pipeline.progress import ProgressCallback
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.settings import Settings
from cellseg_service.__main__ import main

N_OBJECTS = 2000


class Stub:
    """Gives prepared labels of the image's shape, int32 as the engine's are."""

    diameter_px = 1.0

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
            self._labels[image.shape] = self.make_labels(image.shape)
        labels = self._labels[image.shape]
        nothing = np.zeros(0, np.float32)
        return Segmentation(
            labels=labels,
            axes=axes or "YX",
            flows=nothing,
            logits=nothing,
            style=nothing,
            diameter_px=self.diameter_px,
            objects={"label": np.arange(1, int(labels.max()) + 1)},
            settings=settings or self._settings,
        )

    def make_labels(self, shape: tuple[int, ...]) -> np.ndarray:
        """Give labels that only have to be carried."""
        flat = np.arange(np.prod(shape), dtype=np.int32)
        return (flat // 7 % (N_OBJECTS + 1)).reshape(shape)


if __name__ == "__main__":
    sys.exit(main(None, Stub))
