"""The network's fields of a plane, at the plane's own scale, as a whole or in parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.resize import resize_window
from cellseg_engine.core.sums import row_strips


@dataclass(frozen=True)
class PlaneFields:
    """Fields that are kept at the network's scale and resized where they are needed.

    Attributes
    ----------
    fields
        At the network's scale.
    shape
        (Y, X) of the plane.
    """

    fields: Fields
    shape: tuple[int, int]

    def window(self, rows: slice, columns: slice) -> Fields:
        """Give a part at the plane's scale, the same as that part of the whole."""
        return Fields(
            resize_window(self.fields.flows, self.shape, rows, columns),
            self.logit(rows, columns),
            self.fields.style,
        )

    def logit(self, rows: slice, columns: slice) -> np.ndarray:
        """Give a part of the logits at the plane's scale; float32."""
        return resize_window(self.fields.logit, self.shape, rows, columns)

    def whole(self) -> Fields:
        """Give all of them at the plane's scale; no copy if that is the network's."""
        if self.fields.logit.shape == self.shape:
            return self.fields
        return self.window(*(slice(0, n) for n in self.shape))

    def write(self, flows: np.ndarray, logits: np.ndarray) -> None:
        """Write them into arrays of shape (2, Y, X) and (Y, X)."""
        for rows in row_strips(self.shape):
            part = self.window(rows, slice(0, self.shape[1]))
            flows[:, rows], logits[rows] = part.flows, part.logit
