"""The fused fields of a volume, at the network's scale, and parts of them at the volume's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellseg_engine.core.volumes import resize_volume_window
from cellseg_engine.pipeline.memory import Shape3


@dataclass(frozen=True)
class VolumeFields:
    """Fields that are kept at the network's scale and resized where they are needed.

    Attributes
    ----------
    fields
        float32 of shape (4, Z, Y, X), at the network's scale: the flow's z, y and x component,
        each in steps of the width of a voxel, and the logit. May lie in a file.
    shape
        (Z, Y, X) of the volume.
    style
        float32 of shape (256,), unit length.
    """

    fields: np.ndarray
    shape: Shape3
    style: np.ndarray

    def window(self, window: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Give flows (3, Z, Y, X) and logits (Z, Y, X) of a part, the same as in the whole.

        To be read only, see `cellseg_engine.core.volumes.resize_volume_window`.
        """
        part = resize_volume_window(self.fields, self.shape, window)
        return part[:3], part[3]

    def logit(self, z: int) -> np.ndarray:
        """Give the logits of a plane; float32 of shape (Y, X)."""
        window = (slice(z, z + 1), *(slice(0, n) for n in self.shape[1:]))
        return np.asarray(resize_volume_window(self.fields[3:], self.shape, window)[0, 0])

    def write(self, flows: np.ndarray, logits: np.ndarray) -> None:
        """Write them, plane by plane, into arrays of shape (3, Z, Y, X) and (Z, Y, X)."""
        for z in range(self.shape[0]):
            window = (slice(z, z + 1), *(slice(0, n) for n in self.shape[1:]))
            part, logit = self.window(window)
            flows[:, z], logits[z] = part[:, 0], logit[0]
