"""The planes or volumes of one image, collected into a `Segmentation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellseg_engine.core.axes import PlaneStack
from cellseg_engine.core.sums import mean_of_objects, mean_of_voxels
from cellseg_engine.pipeline.linking import link_planes
from cellseg_engine.pipeline.masks import PlaneObjects, describe_objects
from cellseg_engine.pipeline.plane_fields import PlaneFields
from cellseg_engine.pipeline.prepare import Preparation, PreparedPlane
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.pipeline.size import SizeEstimate
from cellseg_engine.pipeline.tracking import follow_objects
from cellseg_engine.pipeline.volume_fields import VolumeFields
from cellseg_engine.pipeline.volume_masks import VolumeObjects, describe_volume
from cellseg_engine.settings import Settings


@dataclass(frozen=True)
class _Part:
    """What is kept of a plane or volume besides its labels and fields."""

    table: dict[str, np.ndarray]
    style: np.ndarray
    has_contrast: bool
    is_extreme: bool


class StackWork:
    """Collects the planes or volumes of one image into a `Segmentation`.

    One that is added again takes the place of the former.

    Parameters
    ----------
    stack
        The image.
    keep_fields
        Whether flows and logits are part of the result.
    channel_names
        One per channel, or none. Where two are the same, the columns have numbers, from 1.
    n_flows
        Components of the flow: 2 of planes, 3 of volumes.
    """

    def __init__(
        self, stack: PlaneStack, keep_fields: bool, channel_names: Sequence[str], n_flows: int
    ) -> None:
        self._stack = stack
        self._is_volume = n_flows == 3
        shape = stack.pixels.shape[:2] + stack.pixels.shape[-2:]
        self._labels = np.zeros(shape, np.int32)
        fields_shape = shape if keep_fields else (0, 0, 0, 0)
        self._flows = np.zeros((n_flows, *fields_shape), np.float32)
        self._logits = np.zeros(fields_shape, np.float32)
        self.keeps_fields = keep_fields
        self._parts: dict[int, _Part] = {}
        self._objects: dict[str, np.ndarray] = {}
        self._tracks: dict[str, np.ndarray] = {}
        self._notes: dict[str, None] = {}
        n_channels = stack.pixels.shape[2]
        names = tuple(channel_names) or tuple(("red", "green", "blue") if stack.is_rgb else ())
        if not len(set(names)) == len(names) == n_channels:  # each channel has its own column
            names = tuple(str(n + 1) for n in range(n_channels))
        self._names = names

    @property
    def n_added(self) -> int:
        """How many planes or volumes there are so far."""
        return len(self._parts)

    @property
    def labels(self) -> np.ndarray:
        """Of each plane or volume, int32 of shape (n, Y, X) or (n, Z, Y, X), ids from 1."""
        frames = self._labels
        return frames if self._is_volume else frames.reshape(-1, *frames.shape[-2:])

    def add_plane(
        self,
        index: int,
        pixels: np.ndarray,
        fields: PlaneFields,
        plane: PlaneObjects,
        prepared: PreparedPlane,
    ) -> None:
        """Take over one plane."""
        t, z = divmod(index, self._stack.pixels.shape[1])
        table = describe_objects(plane, fields)
        n_objects = len(table["label"])
        for letter, value in (("t", t), ("z", z)):
            if letter.upper() in self._stack.axes:
                table[letter] = np.full(n_objects, value)
        for name, channel in zip(self._names, pixels, strict=True):
            table[f"intensity_mean_{name}"] = mean_of_objects(plane.labels, channel.__getitem__)
        if self.keeps_fields:
            fields.write(self._flows[:, t, z], self._logits[t, z])
        self._take(index, plane.labels, table, fields.fields.style, prepared)

    def add_volume(
        self,
        t: int,
        fields: VolumeFields,
        objects: VolumeObjects,
        anisotropy: float,
        prepared: PreparedPlane,
    ) -> None:
        """Take over the volume of one time point."""
        table = describe_volume(objects, fields, anisotropy)
        if "T" in self._stack.axes:
            times = np.full(len(table["label"]), t)
            table = {"label": table.pop("label"), "t": times, **table}
        pixels = self._stack.pixels[t]
        for number, name in enumerate(self._names):
            table[f"intensity_mean_{name}"] = mean_of_voxels(
                objects.labels, pixels[:, number].__getitem__
            )
        if self.keeps_fields:
            fields.write(self._flows[:, t], self._logits[t])
        self._take(t, objects.labels, table, fields.style, prepared)

    def _take(
        self,
        index: int,
        labels: np.ndarray,
        table: dict[str, np.ndarray],
        style: np.ndarray,
        prepared: PreparedPlane,
    ) -> None:
        self.labels[index] = labels
        self._parts[index] = _Part(table, style, prepared.has_contrast, prepared.is_extreme)

    def note(self, sentences: Sequence[str]) -> None:
        """Keep sentences for the user, each once."""
        self._notes.update(dict.fromkeys(sentences))

    def link(self, settings: Settings) -> None:
        """Number the objects of all parts.

        An object has one id through its planes, and through time, if wanted.
        """
        self._objects = self._number()
        has_planes = self._stack.pixels.shape[1] > 1 and not self._is_volume
        if settings.stitch_threshold > 0 and has_planes:
            self._objects = link_planes(self._labels, self._objects, settings.stitch_threshold)
        if settings.track_threshold > 0:
            self._objects, self._tracks = follow_objects(self._labels, self._objects, settings)

    def _number(self) -> dict[str, np.ndarray]:
        """Let the ids of each part go on after those before; give the table of all."""
        tables, count = [], 0
        for labels, part in zip(self.labels, self._in_order(), strict=True):
            np.add(labels, count, out=labels, where=labels > 0)
            tables.append(part.table | {"label": part.table["label"] + count})
            count += len(part.table["label"])
        return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}

    def _in_order(self) -> list[_Part]:
        return [self._parts[index] for index in sorted(self._parts)]

    def finish(
        self,
        preparation: Preparation,
        size: SizeEstimate,
        provenance: dict[str, Any],
        warnings: tuple[str, ...],
    ) -> Segmentation:
        """Give the result of all planes."""
        shape = self._stack.label_shape
        n_flows = len(self._flows)
        has_fields = self.keeps_fields
        style = np.sum([part.style for part in self._in_order()], axis=0)
        return Segmentation(
            labels=self._labels.reshape(shape),
            axes=self._stack.axes,
            flows=self._flows.reshape(n_flows, *shape) if has_fields else self._flows,
            logits=self._logits.reshape(shape) if has_fields else self._logits,
            style=(style / np.linalg.norm(style)).astype(np.float32),
            diameter_px=size.diameter_px,
            objects=self._objects,
            tracks=self._tracks,
            settings=preparation.settings,
            provenance=provenance,
            warnings=(*warnings, *self._warnings(preparation, size)),
        )

    def _warnings(self, preparation: Preparation, size: SizeEstimate) -> tuple[str, ...]:
        settings = preparation.settings
        warnings = [*size.warnings, *self._notes]
        parts = self._in_order()
        n_blank = sum(not part.has_contrast for part in parts)
        if preparation.invert and settings.invert == "auto":
            warnings.append(
                "The background looks bright, so intensities were inverted; set invert to no if "
                "the objects are bright."
            )
        if any(part.is_extreme for part in parts):
            warnings.append(
                "Some pixels are more than 10,000 times the contrast of the image away from its "
                "other values and were limited to that; objects around them may be missing. "
                "Replace such pixels by the background."
            )
        if n_blank:
            kind = "volumes" if self._is_volume else "planes"
            which = f"{n_blank} of {len(parts)} {kind} have"
            if len(parts) == 1:
                which = "The image has"
            warnings.append(
                f"{which} no contrast between the percentiles {settings.percentile_low:g} and "
                f"{settings.percentile_high:g}, which counts as empty; if there are a few small "
                "objects on a constant background, use percentiles 0 and 100."
            )
        if self._objects["label"].size == 0:
            warnings.append("No objects were found.")
        return tuple(warnings)
