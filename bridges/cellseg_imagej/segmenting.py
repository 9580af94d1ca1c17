"""One image of ImageJ through the engine: in this process, or by the engine's service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cellseg_engine.errors import SettingsError
from cellseg_engine.settings import SAME_MODEL, Settings, make_settings
from cellseg_imagej.arrays import to_array
from cellseg_imagej.errors import JavaTypeError
from cellseg_imagej.java import check_imageplus, describe_type
from cellseg_imagej.labels import labels_to_imageplus
from cellseg_imagej.rois import decode_rois, labels_to_rois, place_rois, show_rois
from cellseg_imagej.source import Source, channel_names

if TYPE_CHECKING:
    import cellseg_client
    import cellseg_engine

_MAX_TITLE = 500


@dataclass(frozen=True)
class Outcome:
    """The objects of one image of ImageJ.

    Attributes
    ----------
    labels
        ImagePlus with the labels, calibration, slices and frames of the image; not shown.
    rois
        ``ij.gui.Roi`` of every object in every plane, each at its slice and frame.
    objects
        Columns of the object table, the same that `cellseg segment` writes: one entry per object,
        in px and, where the calibration has a length, in µm.
    diameter_px
        Diameter that the image was scaled by.
    provenance, warnings
        What ran, and sentences that the user should read.
    tracks
        Columns of the table of tracks; empty where objects were not followed through time.
    """

    labels: Any
    rois: tuple[Any, ...]
    objects: dict[str, np.ndarray]
    diameter_px: float
    provenance: dict[str, Any]
    warnings: tuple[str, ...]
    tracks: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_objects(self) -> int:
        """Number of objects; one that goes through several linked planes counts once."""
        return len(self.objects["label"])


@dataclass(frozen=True)
class _Job:
    """What either engine is asked."""

    array: np.ndarray
    axes: str
    settings: Settings | Mapping[str, Any] | None
    channel_names: tuple[str, ...]
    pixel_size_um: dict[str, float]
    title: str
    progress: Callable[[Any], None] | None
    is_cancelled: Callable[[], bool] | None


@dataclass(frozen=True)
class _Found:
    """What either engine gives back."""

    labels: np.ndarray
    axes: str
    rois: bytes | None
    objects: dict[str, np.ndarray]
    diameter_px: float
    provenance: dict[str, Any]
    warnings: tuple[str, ...]
    tracks: dict[str, np.ndarray]


def segment_imageplus(
    image: Any,
    settings: Settings | Mapping[str, Any] | None = None,
    *,
    engine: cellseg_engine.Segmenter | cellseg_client.Engine | None = None,
    overlay: bool = True,
    progress: Callable[[Any], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> Outcome:
    """Find the objects of an ImagePlus.

    The whole image is segmented, whatever is selected in it (``image.crop("stack")`` gives a
    part). Slices and frames are segmented one by one; ``stitch_threshold`` links slices, and a
    ``volume_mode`` takes the slices of a frame as one volume.

    Parameters
    ----------
    image
        ``ij.ImagePlus`` of any type; with several channels ``settings`` must say which.
    settings
        Names and values as `cellseg_engine.make_settings` takes them; defaults if left out.
    engine
        A `cellseg_engine.Segmenter`, which keeps its model loaded in this process (settings that
        ask for another model, device or precision are refused); an engine of
        `cellseg_client.ensure`, which is shared with Fiji, CellProfiler and others; or None: in
        this process, with the model loaded for this call.
    overlay
        Draw the outlines on the image, in place of those of an earlier run.
    progress, is_cancelled
        Called between tiles, as `cellseg_engine.Segmenter.segment` and
        `cellseg_client.Engine.segment` call them.

    Raises
    ------
    JavaTypeError, ClosedImageError
        It is no ImagePlus, or was closed.
    CellSegError
        In this process: the image or a setting cannot be used, or the run was cancelled.
    cellseg_client.EngineError
        The same from the service (``RefusedError``), or it is lost.
    """
    check_imageplus(image, "segment_imageplus")
    source = Source(image)
    array, axes, calibration = to_array(image)
    job = _Job(
        array=array,
        axes=axes,
        settings=settings,
        channel_names=channel_names(image) if "C" in axes else (),
        pixel_size_um=calibration.pixel_size_um(axes),
        title=str(image.getTitle())[:_MAX_TITLE],
        progress=progress,
        is_cancelled=is_cancelled,
    )
    found = _find(engine, job)
    if found.rois is None:
        rois = labels_to_rois(found.labels, found.axes, like=image)
    else:
        n_frames, n_slices, n_channels = source.lengths
        rois = decode_rois(found.rois)
        place_rois(rois, n_channels, n_slices, n_frames)
    if overlay:
        show_rois(image, rois)
    read = (source.describe_virtual(),) if source.is_virtual else ()
    return Outcome(
        labels_to_imageplus(found.labels, found.axes, like=image),
        tuple(rois),
        found.objects,
        found.diameter_px,
        found.provenance,
        read + found.warnings,
        found.tracks,
    )


def _find(engine: Any, job: _Job) -> _Found:
    import cellseg_client
    from cellseg_engine import Segmenter

    if engine is None or isinstance(engine, Segmenter):
        return _in_process(engine, job)
    if isinstance(engine, cellseg_client.Engine):
        return _by_service(engine, job)
    raise JavaTypeError(
        "An engine is a cellseg_engine.Segmenter or what cellseg_client.ensure gives; this is "
        f"{describe_type(engine)}."
    )


def _in_process(segmenter: cellseg_engine.Segmenter | None, job: _Job) -> _Found:
    from cellseg_engine import Segmenter
    from cellseg_engine.batch.outputs import with_microns

    settings = None if job.settings is None else _check_settings(job.settings)
    if segmenter is None:
        segmenter = Segmenter(settings or make_settings())
    elif settings is not None:
        _check_loaded(segmenter, settings)
    result = segmenter.segment(
        job.array,
        job.axes,
        settings=settings,
        channel_names=job.channel_names,
        pixel_size_um=job.pixel_size_um,
        keep_fields=False,
        progress=job.progress,
        is_cancelled=job.is_cancelled,
    )
    objects = with_microns(result.objects, job.pixel_size_um)
    return _Found(
        result.labels,
        result.axes,
        None,
        objects,
        result.diameter_px,
        result.provenance,
        result.warnings,
        with_microns(result.tracks, job.pixel_size_um),
    )


def _by_service(engine: cellseg_client.Engine, job: _Job) -> _Found:
    settings = job.settings or {}
    if isinstance(settings, Settings):
        settings = settings.model_dump(include=settings.model_fields_set)
    result = engine.segment(
        job.array,
        job.axes,
        settings,
        ("labels", "rois", "table"),
        job.progress,
        job.is_cancelled,
        channel_names=job.channel_names,
        pixel_size_um=job.pixel_size_um,
        title=job.title,
    )
    return _Found(
        np.asarray(result.labels),
        result.axes,
        result.rois,
        dict(result.table or {}),
        result.diameter_px,
        result.provenance,
        tuple(result.warnings),
        dict(result.tracks or {}),
    )


def _check_settings(settings: Settings | Mapping[str, Any]) -> Settings:
    return make_settings(settings if isinstance(settings, Settings) else dict(settings))


def _check_loaded(segmenter: cellseg_engine.Segmenter, settings: Settings) -> None:
    """Refuse a model, device or precision that was given and is not the one that is loaded."""
    held, network = segmenter.settings, segmenter.model
    loaded = {
        "model": (held.model,),
        "model_side_views": _alike(held.model_side_views, SAME_MODEL, held.model),
        "device": (*_alike(network.device, "cuda", "cuda:0"), held.device, "auto"),
        "precision": (network.precision, held.precision, "auto"),
    }
    for name, values in loaded.items():
        given = getattr(settings, name)
        if name in settings.model_fields_set and given not in values:
            raise SettingsError(
                f"The settings ask for {name} {given}, and the engine given was loaded with "
                f"{values[0]}.",
                hint=f"Leave {name} out of the settings, or give a Segmenter made with it.",
            )


def _alike(value: str, *names: str) -> tuple[str, ...]:
    """Give all names of what is called so: ``names`` mean the same."""
    return names if value in names else (value,)
