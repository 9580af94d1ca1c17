"""The pipeline: one image and its settings in, a `Segmentation` out.

image + axes -> planes -> channels -> normalise -> (size estimate) -> resize -> tiles -> network
-> blend -> resize back -> dynamics -> clusters -> flow check -> holes, sizes -> linked planes
-> tracks -> labels, table; and a second look where what stands out was not found. With a
``volume_mode`` a stack is looked at from three sides, the fields are fused, and the steps after
them are those of volumes.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cellseg_engine._version import __version__
from cellseg_engine.backends.flow_unet import FlowUNet
from cellseg_engine.core.axes import PlaneStack, check_finite, to_planes
from cellseg_engine.pipeline.blocks import trace_plane
from cellseg_engine.pipeline.collect import StackWork
from cellseg_engine.pipeline.masks import derive_iterations, derive_min_area
from cellseg_engine.pipeline.plane_fields import PlaneFields
from cellseg_engine.pipeline.prepare import (
    Preparation,
    PreparedPlane,
    predict_at_scale,
    prepare_stack,
)
from cellseg_engine.pipeline.progress import ProgressCallback, Ticker
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.pipeline.second_look import plan_second_look
from cellseg_engine.pipeline.size import SizeEstimate, estimate_diameter
from cellseg_engine.pipeline.tracking import check_trackable
from cellseg_engine.pipeline.volume import (
    Anisotropy,
    VolumeNetwork,
    area_warnings,
    check_side_model,
    check_volume,
    find_anisotropy,
    variant_of,
)
from cellseg_engine.pipeline.volume_masks import Tracing, trace_volume
from cellseg_engine.settings import SAME_MODEL, Settings, make_settings
from cellseg_engine.zoo.store import load_model

MAX_ESTIMATE_PLANES = 5
_PACKAGES = ("torch", "numpy", "numba", "scipy", "scikit-image", "tifffile")


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
        anisotropy = None
        if settings.volume_mode != "planes":
            check_volume(stack, settings)
            anisotropy = find_anisotropy(settings, pixel_size_um or {})
        preparation = prepare_stack(stack, settings, channel_names, self.model.card.n_channels)
        look = _Look(
            stack,
            keep_fields,
            channel_names,
            pixel_size_um or {},
            anisotropy,
            diameter_source,
            Ticker(progress, is_cancelled),
            _Clock(),
        )
        found = self._look(look, preparation)
        again = plan_second_look(stack, preparation, found)
        if again is None:
            return found
        return again.choose(found, self._look(look, again.preparation))

    def _look(self, look: _Look, preparation: Preparation) -> Segmentation:
        """Find the objects that are seen with one contrast."""
        settings, stack = preparation.settings, look.stack
        with look.clock("size"):
            if settings.diameter_px > 0:
                size = SizeEstimate(settings.diameter_px, look.diameter_source, 0.0, True)
            else:
                size = self._estimate(stack, preparation, settings, look.ticker)
        is_volume = look.anisotropy is not None
        work = StackWork(stack, look.keep_fields, look.channel_names, 3 if is_volume else 2)
        if look.anisotropy is not None:
            facts = self._segment_volumes(
                work, look, look.anisotropy, preparation, size.diameter_px
            )
        else:
            facts = self._segment_planes(work, look, preparation, size.diameter_px)
        provenance = self._provenance(preparation, size, facts, look.clock)
        return work.finish(preparation, size, provenance, self._model_warnings())

    def _segment_planes(
        self,
        work: StackWork,
        look: _Look,
        preparation: Preparation,
        diameter_px: float,
    ) -> dict[str, Any]:
        """Segment plane by plane; give facts for the record."""
        settings, card = preparation.settings, self.model.card
        stack, ticker, clock = look.stack, look.ticker, look.clock
        iterations = derive_iterations(settings, diameter_px, card.diam_mean_px)
        min_area_px = derive_min_area(settings, diameter_px)
        settings = settings.model_copy(update={"min_area_px": min_area_px})
        for index, pixels in enumerate(stack.planes()):
            plane = preparation.plane(pixels)
            ticker.start("network", index, stack.n_planes)
            with clock("network"):
                fields = PlaneFields(
                    predict_at_scale(
                        self.model, plane, card.diam_mean_px / diameter_px, settings, ticker
                    ),
                    plane.shape[1:],
                )
            ticker.start("labels", index, stack.n_planes)
            with clock("labels"):
                objects, notes = trace_plane(
                    fields,
                    settings,
                    iterations=iterations,
                    diameter_px=diameter_px,
                    variant=card.flow_variant,
                    on_block=ticker.tiles,
                )
                work.add_plane(index, pixels, fields, objects, plane)
            work.note(notes)
        with clock("labels"):
            work.link(settings)
        return {"iterations": iterations, "min_area_px": min_area_px}

    def _segment_volumes(
        self,
        work: StackWork,
        look: _Look,
        anisotropy: Anisotropy,
        preparation: Preparation,
        diameter_px: float,
    ) -> dict[str, Any]:
        """Segment each time point as one volume; give facts for the record."""
        settings = preparation.settings
        stack, ticker, clock = look.stack, look.ticker, look.clock
        work.note((*anisotropy.warnings, *area_warnings(settings)))
        network = VolumeNetwork(self.model, self.side_model, settings)
        n_frames = len(stack.pixels)
        plan = network.plan(
            stack.pixels, diameter_px, anisotropy.value, keeps_fields=work.keeps_fields
        )
        tracing = Tracing(
            settings,
            anisotropy.value,
            derive_iterations(settings, diameter_px, self.model.card.diam_mean_px),
            variant_of(self.model),
            math.prod(look.pixel_size_um.get(letter, 0.0) for letter in "ZYX"),
        )
        for t in range(n_frames):
            left = replace(plan, n_frames=n_frames - t)
            with clock("network"):
                fields, prepared = network.predict(stack.pixels[t], preparation, left, ticker)
            ticker.start("labels", t, n_frames)
            with clock("labels"):
                objects, notes = trace_volume(
                    fields,
                    tracing,
                    diameter_px=diameter_px,
                    max_voxels=plan.block_voxels,
                    on_block=ticker.tiles,
                )
                work.add_volume(t, fields, objects, anisotropy.value, prepared)
            del fields, objects, prepared  # or they would stay while the next ones are made
            work.note(notes)
        with clock("labels"):
            work.link(settings)
        return {"iterations": tracing.iterations, "volume": network.facts(plan, anisotropy)}

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
        return self._estimate(stack, preparation, settings, Ticker(None, is_cancelled))

    def _with_loaded_model(self, settings: Settings | None) -> Settings:
        """Give the settings of a call; models, device and precision are those loaded."""
        if settings is None:
            return self.settings
        names = ("model", "model_side_views", "device", "precision")
        loaded = {name: getattr(self.settings, name) for name in names}
        return settings.model_copy(update=loaded)

    def _estimate(
        self, stack: PlaneStack, preparation: Preparation, settings: Settings, ticker: Ticker
    ) -> SizeEstimate:
        n_planes = stack.n_planes
        chosen = np.unique(np.linspace(0, n_planes - 1, MAX_ESTIMATE_PLANES + 2).astype(int)[1:-1])
        all_planes = list(stack.planes())

        def prepared() -> Iterator[PreparedPlane]:
            for index in chosen:
                ticker.start("size", int(index), n_planes)
                yield preparation.plane(all_planes[index])

        return estimate_diameter(self.model, prepared(), settings, ticker)

    def _provenance(
        self,
        preparation: Preparation,
        size: SizeEstimate,
        facts: dict[str, Any],
        clock: _Clock,
    ) -> dict[str, Any]:
        card = self.model.card
        return {
            "cellseg_engine": __version__,
            "python": platform.python_version(),
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "platform": platform.platform(),
            "model": {
                "name": card.name,
                "version": card.version,
                "licence": card.licence,
                "origin": card.origin,
                "weights_sha256": list(self.weights_sha256),
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


@dataclass(frozen=True)
class _Look:
    """What is the same for each look at an image; see `Segmenter.segment`.

    Attributes
    ----------
    anisotropy
        Of volumes; None where planes are segmented one by one.
    """

    stack: PlaneStack
    keep_fields: bool
    channel_names: Sequence[str]
    pixel_size_um: Mapping[str, float]
    anisotropy: Anisotropy | None
    diameter_source: str
    ticker: Ticker
    clock: _Clock


class _Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start
