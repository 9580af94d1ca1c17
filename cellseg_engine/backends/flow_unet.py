"""The flow U-Net backend: tiles through the network, blended into fields of the whole image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cellseg_engine.core.rows import Rows, as_rows
from cellseg_engine.core.tiling import (
    Augmentation,
    TileBlender,
    TileCutter,
    Tiling,
    plan_tiles,
)
from cellseg_engine.nets.card import ModelCard
from cellseg_engine.nets.runtimes import Runtime, tiles_at_once
from cellseg_engine.nets.size_model import SizeModel
from cellseg_engine.nets.unet import FLOW_SCALE, N_OUTPUTS


@dataclass(frozen=True)
class Fields:
    """What the network says about an image.

    Attributes
    ----------
    flows
        float32 of shape (2, Y, X): y and x component, unit length by convention.
    logit
        float32 of shape (Y, X): logit of the probability that the pixel belongs to an object.
    style
        float32 of shape (256,), unit length.
    """

    flows: np.ndarray
    logit: np.ndarray
    style: np.ndarray


class FlowUNet:
    """One model, of one network or an ensemble whose outputs are averaged.

    Parameters
    ----------
    runtimes
        One per network. The style is the first one's: size models are trained on it.
    card
        Facts about the model.
    size_model
        For estimating the diameter, or None.
    weights_sha256
        Of each network's file.
    """

    def __init__(
        self,
        runtimes: Sequence[Runtime],
        card: ModelCard,
        size_model: SizeModel | None,
        weights_sha256: Sequence[str],
    ) -> None:
        self._runtimes = tuple(runtimes)
        self.card = card
        self.size_model = size_model
        self.weights_sha256 = tuple(weights_sha256)
        self.device = self._runtimes[0].device
        self.precision = self._runtimes[0].precision
        self.runtime = dict(self._runtimes[0].about)
        each = (warning for one in self._runtimes for warning in one.warnings)
        self.warnings = tuple(dict.fromkeys(each))

    def predict(
        self,
        image: np.ndarray | Rows,
        *,
        overlap: float = 0.1,
        augmentation: Augmentation = "none",
        tiling: Tiling = "fewest",
        batch_size: int = 0,
        on_batch: Callable[[int, int], None] = lambda *_: None,
    ) -> Fields:
        """Give the fields of an image.

        Parameters
        ----------
        image
            float32 of shape (C, Y, X): normalised, at the scale of the model, C as the model's.
            As rows only one row of tiles of it is kept.
        overlap, augmentation, tiling
            See `cellseg_engine.core.tiling.plan_tiles`.
        batch_size
            Tiles per call of the network; 0 takes what is fastest on the device, fewer of large
            ones.
        on_batch
            Called with (tiles done, tiles in all) before each batch and at the end; an
            exception raised there stops the work.
        """
        rows = as_rows(image)
        plan = plan_tiles(rows.shape[1:], overlap=overlap, augmentation=augmentation, tiling=tiling)
        n_tiles = len(plan.tiles)
        best = tiles_at_once(self._runtimes[0].best_batch, plan.tile_shape)
        batch_size = min(batch_size or best, n_tiles)
        cutter = TileCutter(rows, plan)
        blender = TileBlender(plan, N_OUTPUTS)
        buffer = np.empty((batch_size, rows.shape[0], *plan.tile_shape), np.float32)
        style_sum = np.zeros(0)
        for start in range(0, n_tiles, batch_size):
            on_batch(start, n_tiles)
            indices = range(start, min(start + batch_size, n_tiles))
            for place, index in enumerate(indices):
                cutter.cut(index, buffer[place])
            fields, styles = self._run_ensemble(buffer[: len(indices)])
            for index, output in zip(indices, fields, strict=True):
                blender.add(index, output)
            style_sum = styles.sum(axis=0, dtype=np.float64) + (style_sum if start else 0)
        on_batch(n_tiles, n_tiles)
        blended = blender.result()
        blended[:2] /= np.float32(FLOW_SCALE)
        style = (style_sum / np.linalg.norm(style_sum)).astype(np.float32)
        return Fields(blended[:2], blended[2], style)

    def _run_ensemble(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fields, styles = self._runtimes[0].run(batch)
        for runtime in self._runtimes[1:]:
            fields = fields + runtime.run(batch)[0]
        return fields / np.float32(len(self._runtimes)), styles
