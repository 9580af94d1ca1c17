"""The pipeline: one image and its settings in, a `Segmentation` out.

image + axes -> planes -> channels -> normalise -> (size estimate) -> resize -> tiles -> network
-> blend -> resize back -> dynamics -> clusters -> flow check -> holes, sizes -> linked planes
-> tracks -> labels, table; and a second look where what stands out was not found. With a
``volume_mode`` a stack is looked at from three sides, the fields are fused, and the steps after
them are those of volumes.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cellseg_engine._version import __version__
from cellseg_engine.backends.flow_unet import FlowUNet
from cellseg_engine.core.axes import PlaneStack, check_finite, to_planes
from cellseg_engine.pipeline.collect import StackWork
from cellseg_engine.pipeline.parts import Call, Parts, Planes, Volumes
from cellseg_engine.pipeline.prepare import Preparation, PreparedPlane, prepare_stack
from cellseg_engine.pipeline.progress import Clock, ProgressCallback, Ticker
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.pipeline.second_look import (
    SecondLook,
    Story,
    look_again,
    plan_second_looks,
)
from cellseg_engine.pipeline.size import SizeEstimate, choose_planes, estimate_diameter
from cellseg_engine.pipeline.tracking import check_trackable
from cellseg_engine.pipeline.unused import unused_warnings
from cellseg_engine.pipeline.volume import (
    VolumeNetwork,
    check_side_model,
    check_volume,
    find_anisotropy,
)
from cellseg_engine.pipeline.volume_masks import limits_px, voxel_um3
from cellseg_engine.settings import SAME_MODEL, Settings, make_settings
from cellseg_engine.zoo.store import load_model

_PACKAGES = {
    name: importlib.metadata.version(name)
    for name in ("torch", "numpy", "numba", "scipy", "scikit-image", "tifffile")
}
"""Versions, read once: in a process that lives long, others may be installed meanwhile."""


class Segmenter:
    """A model loaded on a device, ready for many images.

    Parameters
    ----------
    settings
        ``model``, ``device``, ``precision`` and, for volumes, ``model_side_views`` say what is
        loaded; the others are defaults that `segment` may be given anew.
    runtime
        What executes the network: ``torch``, ``openvino`` or ``auto``; empty takes the environment
        variable ``CELLSEG_NETWORK_RUNTIME``, or ``auto``.

    Raises
    ------
    ModelNotFoundError, WeightsError, DeviceError, SettingsError, MissingDependencyError
        The model cannot be loaded.
    """

    def __init__(self, settings: Settings, *, runtime: str = "") -> None:
        self.settings = settings
        self.model: FlowUNet = load_model(
            settings.model, settings.device, settings.precision, runtime
        )
        self.side_model = self.model
        if settings.model_side_views != SAME_MODEL:
            self.side_model = load_model(
                settings.model_side_views, settings.device, settings.precision, runtime
            )
            check_side_model(self.model, self.side_model)

    @property
    def weights_sha256(self) -> tuple[str, ...]:
        """SHA-256 of the files of all networks, those of the side views last."""
        if self.side_model is self.model:
            return self.model.weights_sha256
        return self.model.weights_sha256 + self.side_model.weights_sha256

    @property
    def size_model_sha256(self) -> str | None:
        """SHA-256 of the values of the size model, which an official model has in another file."""
        return self.model.size_model.sha256 if self.model.size_model else None

    def segment(  # noqa: PLR0913 - the image and what is known of it, one by one
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
        diameter_source: str = "given",
    ) -> Segmentation:
        """Find the objects of an image.

        Parameters
        ----------
        image
            ndarray of real numbers, any dtype; finite.
        axes
            What the dimensions are, for example ``"CYX"``; may be left out for 2-D images.
        settings
            Instead of the segmenter's own (model, device and precision stay as loaded).
        channel_names
            Names that the ``channel`` setting may use.
        pixel_size_um
            Size of a pixel in µm along ``Z``, ``Y`` and ``X``, as far as it is known; for volumes.
        keep_fields
            Keep flows and logits in the result (12 bytes a pixel; 16 of a volume).
        progress, is_cancelled
            Called between tiles.
        diameter_source
            Where a diameter in the settings comes from, for the record.

        Raises
        ------
        AxesError, ChannelError, ImageError, SettingsError
            The image or a setting cannot be used; one sentence says why.
        CancelledError
            ``is_cancelled`` said so.
        """
        settings = self._with_loaded_model(settings)
        stack = to_planes(image, axes)
        check_trackable(stack, settings)
        check_finite(stack.pixels)
        anisotropy, sizes = None, pixel_size_um or {}
        if settings.volume_mode != "planes":
            check_volume(stack, settings)
            anisotropy = find_anisotropy(settings, sizes)
            limits_px(settings, voxel_um3(sizes))
        work = StackWork(stack, keep_fields, channel_names, 2 if anisotropy is None else 3)
        work.note(() if anisotropy is None else anisotropy.warnings)
        work.note(unused_warnings(stack, settings))
        call = Call(
            stack,
            work,
            settings,
            sizes,
            anisotropy,
            diameter_source,
            Ticker(progress, is_cancelled),
            Clock(),
        )
        preparation = prepare_stack(stack, settings, channel_names, self.model.card.n_channels)
        return self._look(call, preparation)

    def _look(self, call: Call, preparation: Preparation) -> Segmentation:
        """Find the objects, looking again where what stands out was not found."""
        work, stack = call.work, call.stack
        size = self._size(call, [(index, preparation) for index in range(stack.n_planes)])
        parts = self._parts(call, size)
        for index in range(len(parts)):
            parts.segment(index, preparation).keep()
        looks = plan_second_looks(parts, work.labels, preparation)
        story = Story((), len(parts), parts.kind)
        if looks:
            new_size = self._size_again(call, size, parts, looks)
            again = self._parts(call, new_size)
            story = replace(story, outcomes=look_again(again, work.labels, looks))
            if story.taken:
                size, parts = new_size, again
                preparation = replace(preparation, invert=story.is_inverted)
        with call.clock("labels"):
            work.link(call.settings)
        facts = parts.facts | story.facts()
        provenance = self._provenance(preparation, size, facts, call.clock)
        warnings = (*story.warnings(), *self._model_warnings())
        return work.finish(preparation, size, provenance, warnings)

    def _parts(self, call: Call, size: SizeEstimate) -> Parts:
        """Give what is segmented by itself, at one diameter."""
        if call.anisotropy is None:
            return Planes(self.model, call, size.diameter_px)
        network = VolumeNetwork(self.model, self.side_model, call.settings)
        return Volumes(network, call, call.anisotropy, size.diameter_px)

    def _size(self, call: Call, shown: Sequence[tuple[int, Preparation]]) -> SizeEstimate:
        """Give the diameter of the objects of an image; see `_estimate`."""
        given_px = call.settings.diameter_px
        with call.clock("size"):
            if given_px > 0:
                return SizeEstimate(given_px, call.diameter_source, 0.0, True)
            return self._estimate(call.stack, shown, call.settings, call.ticker)

    def _size_again(
        self, call: Call, size: SizeEstimate, parts: Parts, looks: Mapping[int, SecondLook]
    ) -> SizeEstimate:
        """Give the diameter for second looks: as before, where that is also of other parts."""
        if size.found_objects and len(looks) < len(parts):
            return size
        shown = [
            (plane, look.preparation)
            for index, look in looks.items()
            for plane in parts.planes_of(index)
        ]
        return self._size(call, shown)

    def _model_warnings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.model.warnings, *self.side_model.warnings)))

    def estimate(
        self,
        image: np.ndarray,
        axes: str | None = None,
        *,
        settings: Settings | None = None,
        channel_names: Sequence[str] = (),
        is_cancelled: Callable[[], bool] | None = None,
    ) -> SizeEstimate:
        """Estimate the diameter of the objects of an image; parameters as `segment`'s."""
        settings = self._with_loaded_model(settings)
        stack = to_planes(image, axes)
        check_finite(stack.pixels)
        preparation = prepare_stack(stack, settings, channel_names, self.model.card.n_channels)
        shown = [(index, preparation) for index in range(stack.n_planes)]
        return self._estimate(stack, shown, settings, Ticker(None, is_cancelled))

    def _with_loaded_model(self, settings: Settings | None) -> Settings:
        """Give the settings of a call; models, device and precision are those loaded."""
        if settings is None:
            return self.settings
        names = ("model", "model_side_views", "device", "precision")
        loaded = {name: getattr(self.settings, name) for name in names}
        return settings.model_copy(update=loaded)

    def _estimate(
        self,
        stack: PlaneStack,
        shown: Sequence[tuple[int, Preparation]],
        settings: Settings,
        ticker: Ticker,
    ) -> SizeEstimate:
        """Estimate the diameter on some planes of a stack, each with its preparation."""
        all_planes = list(stack.planes())

        def prepared() -> Iterator[PreparedPlane]:
            for place in choose_planes(len(shown)):
                index, preparation = shown[place]
                ticker.start("size", index, stack.n_planes)
                yield preparation.plane(all_planes[index])

        return estimate_diameter(self.model, prepared(), settings, ticker)

    def _provenance(
        self,
        preparation: Preparation,
        size: SizeEstimate,
        facts: dict[str, Any],
        clock: Clock,
    ) -> dict[str, Any]:
        card = self.model.card
        return {
            "cellseg_engine": __version__,
            "python": platform.python_version(),
            "packages": dict(_PACKAGES),
            "platform": platform.platform(),
            "model": {
                "name": card.name,
                "version": card.version,
                "licence": card.licence,
                "origin": card.origin,
                "weights_sha256": list(self.weights_sha256),
                "size_model_sha256": self.size_model_sha256,
                "flow_variant": card.flow_variant,
                "diam_mean_px": card.diam_mean_px,
            },
            "device": self.model.device,
            "precision": self.model.precision,
            "runtime": self.model.runtime,
            "inverted": preparation.invert,
            "diameter_px": size.diameter_px,
            "diameter_source": size.source,
            "style_diameter_px": size.style_diameter_px,
            **facts,
            "seconds": {stage: round(value, 4) for stage, value in clock.seconds.items()},
        }


def segment(
    image: np.ndarray,
    axes: str | None = None,
    settings: Settings | dict[str, Any] | None = None,
    **options: Any,
) -> Segmentation:
    """Find the objects of one image with a model loaded for this call.

    For many images make one `Segmenter` and call its ``segment``.

    Parameters
    ----------
    image
        ndarray of real numbers, for example uint16 of shape (C, Y, X).
    axes
        What the dimensions are, for example ``"CYX"``; may be left out for 2-D images.
    settings
        Settings, or a mapping of their names to values; defaults if left out.
    **options
        Keyword arguments of `Segmenter.segment`.

    Raises
    ------
    CellSegError
        See `Segmenter` and `Segmenter.segment`.
    """
    return Segmenter(make_settings(settings)).segment(image, axes, **options)
