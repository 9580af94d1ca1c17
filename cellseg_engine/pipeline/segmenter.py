"""The pipeline: one image and its settings in, a `Segmentation` out.

image + axes -> planes -> channels -> normalise -> (size estimate) -> resize -> tiles -> network
-> blend -> resize back -> dynamics -> clusters -> flow check -> holes, sizes -> linked planes
-> tracks -> labels, table.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from cellseg_engine._version import __version__
from cellseg_engine.backends.flow_unet import FlowUNet
from cellseg_engine.core.axes import PlaneStack, check_finite, to_planes
from cellseg_engine.core.sums import mean_of_objects
from cellseg_engine.pipeline.blocks import trace_plane
from cellseg_engine.pipeline.linking import link_planes
from cellseg_engine.pipeline.masks import (
    PlaneObjects,
    derive_iterations,
    describe_objects,
)
from cellseg_engine.pipeline.plane_fields import PlaneFields
from cellseg_engine.pipeline.prepare import (
    Preparation,
    PreparedPlane,
    predict_at_scale,
    prepare_stack,
)
from cellseg_engine.pipeline.progress import ProgressCallback, Ticker
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.pipeline.size import SizeEstimate, estimate_diameter
from cellseg_engine.pipeline.tracking import check_trackable, follow_objects
from cellseg_engine.settings import Settings, make_settings
from cellseg_engine.zoo.store import load_model

MAX_ESTIMATE_PLANES = 5
_PACKAGES = ("torch", "numpy", "numba", "scipy", "scikit-image", "tifffile")


class Segmenter:
    """A model loaded on a device, ready for many images.

    Parameters
    ----------
    settings
        ``model``, ``device`` and ``precision`` say what is loaded; the others are defaults that
        `segment` may be given anew.
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

    def segment(
        self,
        image: np.ndarray,
        axes: str | None = None,
        *,
        settings: Settings | None = None,
        channel_names: Sequence[str] = (),
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
        keep_fields
            Keep flows and logits in the result (12 bytes a pixel).
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
        clock = _Clock()
        ticker = Ticker(progress, is_cancelled)
        preparation = prepare_stack(stack, settings, channel_names, self.model.card.n_channels)
        with clock("size"):
            if settings.diameter_px > 0:
                size = SizeEstimate(settings.diameter_px, diameter_source, 0.0, True)
            else:
                size = self._estimate(stack, preparation, settings, ticker)
        work = _StackWork(stack, keep_fields, channel_names)
        for index, pixels in enumerate(stack.planes()):
            plane = preparation.plane(pixels)
            ticker.start("network", index, stack.n_planes)
            with clock("network"):
                scale = self.model.card.diam_mean_px / size.diameter_px
                fields = PlaneFields(
                    predict_at_scale(self.model, plane, scale, settings, ticker), plane.shape[1:]
                )
            ticker.start("labels", index, stack.n_planes)
            with clock("labels"):
                iterations = derive_iterations(
                    settings, size.diameter_px, self.model.card.diam_mean_px
                )
                objects, notes = trace_plane(
                    fields,
                    settings,
                    iterations=iterations,
                    diameter_px=size.diameter_px,
                    variant=self.model.card.flow_variant,
                    on_block=ticker.tiles,
                )
                work.add(index, pixels, fields, objects, plane)
            work.note(notes)
        with clock("labels"):
            work.link(settings)
        provenance = self._provenance(preparation, size, iterations, clock)
        return work.finish(preparation, size, provenance, self.model.warnings)

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
        """Give the settings of a call; the model, device and precision are those loaded."""
        if settings is None:
            return self.settings
        loaded = {name: getattr(self.settings, name) for name in ("model", "device", "precision")}
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
        self, preparation: Preparation, size: SizeEstimate, iterations: int, clock: _Clock
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
                "weights_sha256": list(self.model.weights_sha256),
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
            "iterations": iterations,
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


class _StackWork:
    """Collects the planes of one image into a `Segmentation`."""

    def __init__(self, stack: PlaneStack, keep_fields: bool, channel_names: Sequence[str]) -> None:
        self._stack = stack
        shape = stack.pixels.shape[:2] + stack.pixels.shape[-2:]
        self._labels = np.zeros(shape, np.int32)
        fields_shape = shape if keep_fields else (0, 0, 0, 0)
        self._flows = np.zeros((2, *fields_shape), np.float32)
        self._logits = np.zeros(fields_shape, np.float32)
        self._keep_fields = keep_fields
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

    def add(
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
        table["label"] = table["label"] + self._count
        is_object = plane.labels > 0
        np.add(plane.labels, self._count, out=self._labels[t, z], where=is_object)
        self._count += n_objects
        self._tables.append(table)
        if self._keep_fields:
            fields.write(self._flows[:, t, z], self._logits[t, z])
        self._style = fields.fields.style + (self._style if self._style.size else 0)
        if not prepared.has_contrast:
            self._blank.append(index)
        if prepared.is_extreme:
            self._extreme.append(index)

    def note(self, sentences: Sequence[str]) -> None:
        """Keep sentences for the user, each once."""
        self._notes.update(dict.fromkeys(sentences))

    def link(self, settings: Settings) -> None:
        """Give an object one id through its planes, and through time, if wanted."""
        if settings.stitch_threshold > 0 and self._stack.pixels.shape[1] > 1:
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
        has_fields = self._keep_fields
        return Segmentation(
            labels=self._labels.reshape(shape),
            axes=self._stack.axes,
            flows=self._flows.reshape(2, *shape) if has_fields else self._flows,
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
            which = (
                "The image has"
                if self._stack.n_planes == 1
                else f"{len(self._blank)} of {self._stack.n_planes} planes have"
            )
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
