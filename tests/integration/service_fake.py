"""A real service whose models are made up, for what the real ones cannot be made to do.

The name of the model says what it does: ``slow`` (as many steps of 20 ms as ``iterations``),
``deaf`` (goes on, whatever it is told, until the file ``hear`` lies in the runtime folder),
``many`` (more than 65,535 objects), ``broken`` (an error of ours); any other one finds what is
above the mean at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cellseg_engine.pipeline.progress import ProgressCallback, Ticker
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.settings import Settings
from cellseg_service.__main__ import main

STEP_S = 0.02
N_MANY = 70_000


class FakeSegmenter:
    """Stands for `cellseg_engine.Segmenter`."""

    def __init__(self, settings: Settings) -> None:
        self._kind = settings.model

    def segment(
        self,
        image: np.ndarray,
        axes: str | None = None,
        *,
        settings: Settings | None = None,
        channel_names: Sequence[str] = (),
        pixel_size_um: Mapping[str, float] | None = None,
        keep_fields: bool = True,
        progress: ProgressCallback | None = None,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> Segmentation:
        settings = settings or Settings()
        ticker = Ticker(progress, None if self._kind == "deaf" else is_cancelled)
        ticker.start("network", 0, 1)
        while self._kind == "deaf" and not Path(os.environ["CELLSEG_RUNTIME"], "hear").exists():
            time.sleep(STEP_S)
            ticker.tiles(0, 1)
        for step in range(settings.iterations if self._kind == "slow" else 0):
            time.sleep(STEP_S)
            ticker.tiles(step + 1, settings.iterations)
        if self._kind == "broken":
            raise KeyError("made up")
        labels = (image > image.mean()).astype(np.int32)
        if self._kind == "many":
            labels = np.arange(image.size, dtype=np.int32).reshape(image.shape) % (N_MANY + 1)
        n_objects = int(labels.max(initial=0))
        empty = np.zeros((0,), np.float32)
        return Segmentation(
            labels=labels,
            axes=(axes or "YX").upper(),
            flows=np.zeros((2, *labels.shape), np.float32) if keep_fields else empty,
            logits=np.zeros(labels.shape, np.float32) if keep_fields else empty,
            style=empty,
            diameter_px=settings.diameter_px,
            objects={"label": np.arange(1, n_objects + 1)},
            settings=settings,
        )


if __name__ == "__main__":
    sys.exit(main(None, FakeSegmenter))
