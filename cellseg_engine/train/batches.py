"""Batches of views, made in threads while the network works on the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cellseg_engine.core.labels import NOT_ANNOTATED
from cellseg_engine.train.augment import apply_view, draw_view
from cellseg_engine.train.dataset import TrainingImage
from cellseg_engine.train.intensity import vary_intensity
from cellseg_engine.train.sampling import view_rng

_AHEAD = 4


@dataclass(frozen=True)
class Batch:
    """What the network sees in one step.

    Attributes
    ----------
    pixels
        float32 of shape (N, C, V, V).
    targets
        float32 of shape (N, 3, V, V): flow y and x, 1 inside objects.
    annotated
        float32 of shape (N, V, V), 1 where the targets are known, else 0; None for everywhere.
    """

    pixels: np.ndarray
    targets: np.ndarray
    annotated: np.ndarray | None = None


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batches of an epoch; the same ones for the same seed, epoch and step."""

    images: Sequence[TrainingImage]
    n_channels: int
    diam_mean_px: float
    crop_px: int
    batch_size: int
    seed: int
    vary_intensity: bool = False

    def make(self, order: np.ndarray, epoch: int, step: int) -> Batch:
        """Give the batch of a step; ``order`` as of `epoch_order`."""
        start = step * self.batch_size
        places = range(start, start + self.batch_size)
        side = self.crop_px
        pixels = np.zeros((self.batch_size, self.n_channels, side, side), np.float32)
        targets = np.zeros((self.batch_size, 3, side, side), np.float32)
        annotated = np.ones((self.batch_size, side, side), np.float32)
        for n, place in enumerate(places):
            image = self.images[order[place]]
            rng = view_rng(self.seed, epoch, place)
            view = draw_view(
                rng,
                common_scale=self.diam_mean_px / image.diameter_px,
                crop_px=side,
            )
            shown, labels, flows = apply_view(
                view, image.pixels, image.marked_labels, image.flows, image.annotated_area
            )
            annotated[n] = labels != NOT_ANNOTATED
            if self.vary_intensity:
                shown = vary_intensity(rng, shown, np.maximum(labels, 0))
            pixels[n, : len(shown)] = shown
            targets[n, :2] = flows
            targets[n, 2] = labels > 0
        return Batch(pixels, targets, None if annotated.all() else annotated)

    def batches(self, order: np.ndarray, epoch: int, first_step: int) -> Generator[Batch]:
        """Give the batches of an epoch in order, from a step on."""
        n_steps = len(order) // self.batch_size
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(2, "cellseg-batches") as pool:
            try:
                for step in range(first_step, n_steps):
                    waiting.append(pool.submit(self.make, order, epoch, step))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
