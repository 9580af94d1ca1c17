"""The planes or volumes of one image, collected into a `Segmentation`."""

from __future__ import annotations

from collections.abc import Sequence
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


class StackWork:
    """Collects the planes or volumes of one image into a `Segmentation`.

    Parameters
    ----------
    stack
        The image.
    keep_fields
        Whether flows and logits are part of the result.
    channel_names
        One per channel, or none.
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
        self._style = np.zeros(0)
        self._tables: list[dict[str, np.ndarray]] = []
        self._tracks: dict[str, np.ndarray] = {}
        self._blank: list[int] = []
        self._extreme: list[int] = []
        self._notes: dict[str, None] = {}
        self._count = 0
        n_channels = stack.pixels.shape[2]
        names = tuple(channel_names) or tuple(("red", "green", "blue") if stack.is_rgb else ())
        self._names = (
            names if len(names) == n_channels else tuple(str(n + 1) for n in range(n_channels))
        )

    def add_plane(
        self,
        index: int,
        pixels: np.ndarray,
        fields: PlaneFields,
        plane: PlaneObjects,
        prepared: PreparedPlane,
    ) -> None:
        """Take over one plane; its ids continue after those of the planes before."""
        t, z = divmod(index, self._stack.pixels.shape[1])
        table = describe_objects(plane, fields)
        n_objects = len(table["label"])
        for letter, value in (("t", t), ("z", z)):
            if letter.upper() in self._stack.axes:
                table[letter] = np.full(n_objects, value)
        for name, channel in zip(self._names, pixels, strict=True):
            table[f"intensity_mean_{name}"] = mean_of_objects(plane.labels, channel.__getitem__)
        self._take(table, plane.labels, self._labels[t, z])
        if self.keeps_fields:
            fields.write(self._flows[:, t, z], self._logits[t, z])
        self._note_input(index, fields.fields.style, prepared)

    def add_volume(
        self,
        t: int,
        fields: VolumeFields,
        objects: VolumeObjects,
        anisotropy: float,
        prepared: PreparedPlane,
    ) -> None:
        """Take over the volume of one time point; its ids continue after those before."""
        table = describe_volume(objects, fields, anisotropy)
        if "T" in self._stack.axes:
            times = np.full(len(table["label"]), t)
            table = {"label": table.pop("label"), "t": times, **table}
        pixels = self._stack.pixels[t]
        for number, name in enumerate(self._names):
            table[f"intensity_mean_{name}"] = mean_of_voxels(
                objects.labels, pixels[:, number].__getitem__
            )
        self._take(table, objects.labels, self._labels[t])
        if self.keeps_fields:
            fields.write(self._flows[:, t], self._logits[t])
        self._note_input(t, fields.style, prepared)

    def _take(self, table: dict[str, np.ndarray], labels: np.ndarray, out: np.ndarray) -> None:
        """Keep a table and its labels, with ids that go on."""
        table["label"] = table["label"] + self._count
        np.add(labels, self._count, out=out, where=labels > 0)
        self._count += len(table["label"])
        self._tables.append(table)

    def _note_input(self, index: int, style: np.ndarray, prepared: PreparedPlane) -> None:
        self._style = style + (self._style if self._style.size else 0)
        if not prepared.has_contrast:
            self._blank.append(index)
        if prepared.is_extreme:
            self._extreme.append(index)

    def note(self, sentences: Sequence[str]) -> None:
        """Keep sentences for the user, each once."""
        self._notes.update(dict.fromkeys(sentences))

    def link(self, settings: Settings) -> None:
        """Give an object one id through its planes, and through time, if wanted."""
        has_planes = self._stack.pixels.shape[1] > 1 and not self._is_volume
        if settings.stitch_threshold > 0 and has_planes:
            linked = link_planes(self._labels, _join(self._tables), settings.stitch_threshold)
            self._tables = [linked]
        if settings.track_threshold > 0:
            objects = _join(self._tables)
            followed, self._tracks = follow_objects(self._labels, objects, settings)
            self._tables = [followed]

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
        return Segmentation(
            labels=self._labels.reshape(shape),
            axes=self._stack.axes,
            flows=self._flows.reshape(n_flows, *shape) if has_fields else self._flows,
            logits=self._logits.reshape(shape) if has_fields else self._logits,
            style=(self._style / np.linalg.norm(self._style)).astype(np.float32),
            diameter_px=size.diameter_px,
            objects=_join(self._tables),
            tracks=self._tracks,
            settings=preparation.settings,
            provenance=provenance,
            warnings=(*warnings, *self._warnings(preparation, size)),
        )

    def _warnings(self, preparation: Preparation, size: SizeEstimate) -> tuple[str, ...]:
        settings = preparation.settings
        warnings = [*size.warnings, *self._notes]
        if preparation.invert and settings.invert == "auto":
            warnings.append(
                "The background looks bright, so intensities were inverted; set invert to no if "
                "the objects are bright."
            )
        if self._extreme:
            warnings.append(
                "Some pixels are more than 10,000 times the contrast of the image away from its "
                "other values and were limited to that; objects around them may be missing. "
                "Replace such pixels by the background."
            )
        if self._blank:
            n, kind = self._stack.n_planes, "planes"
            if self._is_volume:
                n, kind = len(self._labels), "volumes"
            which = "The image has" if n == 1 else f"{len(self._blank)} of {n} {kind} have"
            warnings.append(
                f"{which} no contrast between the percentiles {settings.percentile_low:g} and "
                f"{settings.percentile_high:g}, which counts as empty; if there are a few small "
                "objects on a constant background, use percentiles 0 and 100."
            )
        if self._count == 0:
            warnings.append("No objects were found.")
        return tuple(warnings)


def _join(tables: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Give one table with the rows of several that have the same columns."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
