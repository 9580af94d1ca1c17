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
        shape = image.shape
        if shape not in self._labels:
            flat = np.arange(image.size, dtype=np.int32)
            self._labels[shape] = (flat // 7 % (N_OBJECTS + 1)).reshape(shape)
        nothing = np.zeros(0, np.float32)
        return Segmentation(
            labels=self._labels[shape],
            axes=axes or "YX",
            flows=nothing,
            logits=nothing,
            style=nothing,
            diameter_px=1.0,
            objects={"label": np.arange(1, N_OBJECTS + 1)},
            settings=settings or self._settings,
        )


if __name__ == "__main__":
    sys.exit(main(None, Stub))
