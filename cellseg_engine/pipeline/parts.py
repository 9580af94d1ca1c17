"""What is segmented by itself: the planes of an image, or the volumes of its time points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cellseg_engine.backends.flow_unet import FlowUNet
from cellseg_engine.core.axes import PlaneStack
from cellseg_engine.core.normalize import sample_pixels
from cellseg_engine.pipeline.blocks import trace_plane
from cellseg_engine.pipeline.collect import StackWork
from cellseg_engine.pipeline.masks import derive_iterations, derive_min_area
from cellseg_engine.pipeline.plane_fields import PlaneFields
from cellseg_engine.pipeline.prepare import Preparation, predict_at_scale
from cellseg_engine.pipeline.progress import Clock, Ticker
from cellseg_engine.pipeline.volume import (
    Anisotropy,
    VolumeNetwork,
    sample_volume,
    tall_plane,
    variant_of,
)
from cellseg_engine.pipeline.volume_masks import Tracing, trace_volume, voxel_um3
from cellseg_engine.settings import Settings


@dataclass(frozen=True)
class Call:
    """What is the same for each look at an image; see `Segmenter.segment`.

    Attributes
    ----------
    work
        What the results are collected in.
    anisotropy
        Of volumes; None where planes are segmented one by one.
    """

    stack: PlaneStack
    work: StackWork
    settings: Settings
    pixel_size_um: Mapping[str, float]
    anisotropy: Anisotropy | None
    diameter_source: str
    ticker: Ticker
    clock: Clock


@dataclass(frozen=True)
class Found:
    """What was found in a plane or volume.

    Attributes
    ----------
    labels
        int32 of its shape, ids 1 to n.
    keep
        Makes it the result of that plane or volume.
    """

    labels: np.ndarray
    keep: Callable[[], None]


class Planes:
    """The planes of an image, segmented one by one at one diameter.

    Parameters
    ----------
    model
        The network.
    call
        The image and what is known of it.
    diameter_px
        Of the objects.

    Attributes
    ----------
    facts
        For the record.
    """

    kind = "planes"

    def __init__(self, model: FlowUNet, call: Call, diameter_px: float) -> None:
        settings = call.settings
        self._model = model
        self._call = call
        self._diameter_px = diameter_px
        self._iterations = derive_iterations(settings, diameter_px, model.card.diam_mean_px)
        min_area_px = derive_min_area(settings, diameter_px)
        self._settings = settings.model_copy(update={"min_area_px": min_area_px})
        self._planes = list(call.stack.planes())
        self.facts: dict[str, Any] = {"iterations": self._iterations, "min_area_px": min_area_px}

    def __len__(self) -> int:
        return len(self._planes)

    def planes_of(self, index: int) -> Sequence[int]:
        """Give the numbers of the planes of a part."""
        return (index,)

    def pixels(self, index: int) -> np.ndarray:
        """Give the pixels (C, Y, X) of a plane."""
        return self._planes[index]

    def sample(self, index: int) -> np.ndarray:
        """Give the pixels (C, y, x) that its percentiles are taken from."""
        return sample_pixels(self._planes[index])

    def segment(self, index: int, preparation: Preparation) -> Found:
        """Find the objects of a plane that are seen with one contrast."""
        call, card = self._call, self._model.card
        plane = preparation.plane(self._planes[index])
        call.ticker.start("network", index, len(self))
        scale = card.diam_mean_px / self._diameter_px
        with call.clock("network"):
            fields = PlaneFields(
                predict_at_scale(self._model, plane, scale, self._settings, call.ticker),
                plane.shape[1:],
            )
        call.ticker.start("labels", index, len(self))
        with call.clock("labels"):
            objects, notes = trace_plane(
                fields,
                self._settings,
                iterations=self._iterations,
                diameter_px=self._diameter_px,
                variant=card.flow_variant,
                on_block=call.ticker.tiles,
            )

        def keep() -> None:
            with call.clock("labels"):
                call.work.add_plane(index, self._planes[index], fields, objects, plane)
            call.work.note(notes)

        return Found(objects.labels, keep)


class Volumes:
    """The volumes of the time points of an image, segmented one by one at one diameter.

    Parameters
    ----------
    network
        The models.
    call, diameter_px
        As of `Planes`.
    anisotropy
        Depth of a voxel over its width.

    Attributes
    ----------
    facts
        For the record.
    """

    kind = "volumes"

    def __init__(
        self, network: VolumeNetwork, call: Call, anisotropy: Anisotropy, diameter_px: float
    ) -> None:
        self._network = network
        self._call = call
        self._diameter_px = diameter_px
        self._plan = network.plan(
            call.stack.pixels, diameter_px, anisotropy.value, keeps_fields=call.work.keeps_fields
        )
        card = network.model.card
        self._tracing = Tracing(
            call.settings,
            anisotropy.value,
            derive_iterations(call.settings, diameter_px, card.diam_mean_px),
            variant_of(network.model),
            voxel_um3(call.pixel_size_um),
        )
        self.facts: dict[str, Any] = {
            "iterations": self._tracing.iterations,
            "volume": network.facts(self._plan, anisotropy),
        }

    def __len__(self) -> int:
        return len(self._call.stack.pixels)

    def planes_of(self, index: int) -> Sequence[int]:
        """Give the numbers of the planes of a volume."""
        n_planes = self._call.stack.pixels.shape[1]
        return range(index * n_planes, (index + 1) * n_planes)

    def pixels(self, index: int) -> np.ndarray:
        """Give a volume as one plane, see `tall_plane`."""
        return tall_plane(self._call.stack.pixels[index])

    def sample(self, index: int) -> np.ndarray:
        """Give the pixels (C, y, x) that its percentiles are taken from."""
        return sample_volume(self._call.stack.pixels[index])

    def segment(self, index: int, preparation: Preparation) -> Found:
        """Find the objects of a volume that are seen with one contrast."""
        call, ticker = self._call, self._call.ticker
        n_left = max(1, len(self) - call.work.n_added)
        left = replace(self._plan, n_frames=n_left)
        with call.clock("network"):
            fields, prepared = self._network.predict(
                call.stack.pixels[index], preparation, left, ticker
            )
        ticker.start("labels", index, len(self))
        with call.clock("labels"):
            objects, notes = trace_volume(
                fields,
                self._tracing,
                diameter_px=self._diameter_px,
                max_voxels=self._plan.block_voxels,
                on_block=ticker.tiles,
            )

        def keep() -> None:
            with call.clock("labels"):
                call.work.add_volume(index, fields, objects, self._tracing.anisotropy, prepared)
            call.work.note(notes)

        return Found(objects.labels, keep)


Parts = Planes | Volumes
