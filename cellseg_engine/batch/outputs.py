"""The files of one image: labels, ROIs, overlay, table, run.json; all of them or none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_engine.batch.plan import OUTPUT_ENDINGS, Job
from cellseg_engine.batch.record import FORMAT
from cellseg_engine.errors import ChannelError
from cellseg_engine.io.images import ImageData
from cellseg_engine.io.labels import write_labels
from cellseg_engine.io.overlays import orthogonal_views, write_overlay
from cellseg_engine.io.rois import write_geojson, write_rois
from cellseg_engine.io.staging import staged
from cellseg_engine.io.tables import write_table
from cellseg_engine.pipeline.channels import select_channels
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.settings import Settings

DEFAULT_OUTPUTS = ("labels", "rois", "overlay", "table")
OPTIONAL_OUTPUTS = ("geojson",)
_SQUARE = 1e-3


def output_path(out: Path, job: Job, kind: str) -> Path:
    """Give the path of one output file of a job."""
    return out / f"{job.name}{OUTPUT_ENDINGS[kind]}"


def with_tracks(kinds: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Give the kinds of files of a run: where objects are followed, each table has its tracks."""
    is_followed = settings.track_threshold > 0 and "table" in kinds
    return (*kinds, "tracks") if is_followed else tuple(kinds)


def write_outputs(  # noqa: PLR0913 - the result and what is there already, one by one
    out: Path,
    job: Job,
    image: ImageData,
    result: Segmentation,
    kinds: Sequence[str],
    *,
    sources: list[dict[str, Any]],
    axes: str | None = None,
    earlier: Collection[str] = (),
    confirm: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Write the results of one image.

    Every file is first written under a temporary name; only when all are complete do they get
    their names, run.json last. Until then a run.json with ``"complete": false`` is there.

    Parameters
    ----------
    out
        Output folder, made if needed.
    kinds
        Of ``labels``, ``rois``, ``overlay``, ``table``, ``tracks``, ``geojson``; run.json always.
    sources
        Of `describe_sources`, from before the image was read.
    axes
        As given by the user, or None.
    earlier
        Names of the files of an earlier run; those not written now are removed.
    confirm
        Called when all are complete, before the first gets its name; an error leaves all as it was.

    Returns
    -------
    Path of each kind of file written.

    Raises
    ------
    WriteError
        No space or no permission; the folder is as it was.
    """
    final = {kind: output_path(out, job, kind) for kind in (*kinds, "run")}
    with staged(final["run"].parent) as stage:
        paths = {kind: stage.path(path.name) for kind, path in final.items()}
        if "labels" in paths:
            write_labels(paths["labels"], result.labels, result.axes, image.pixel_size_um)
        if "rois" in paths:
            write_rois(paths["rois"], result.labels, result.axes)
        if "overlay" in paths:
            pixels, labels = shown_views(image, result)
            write_overlay(paths["overlay"], pixels, labels, shown_paths(result, labels))
        rows = list(object_rows(result, image.pixel_size_um, job.fields))
        if "table" in paths:
            write_table(
                paths["table"], object_columns(result, image.pixel_size_um, job.fields), rows
            )
        if "tracks" in paths:
            sizes = image.pixel_size_um
            write_table(paths["tracks"], track_columns(result, sizes), track_rows(result, sizes))
        if "geojson" in paths:
            write_geojson(paths["geojson"], result.labels, result.axes, rows)
        record = run_record(job, image, result, final, sources, axes)
        paths["run"].write_text(_as_json(record), encoding="utf-8")
        ours = {kind: output_path(out, job, kind).name for kind in OUTPUT_ENDINGS}
        there = {kind: name for kind, name in ours.items() if name in earlier or kind in final}
        begun = {"format": FORMAT, "complete": False, "sources": sources, "outputs": there}
        stage.announce(final["run"].name, _as_json(begun))
        for kind, name in there.items():
            if kind not in final:
                stage.remove(name)
        confirm()
    return {kind: str(path) for kind, path in final.items()}


def _as_json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def run_record(
    job: Job,
    image: ImageData,
    result: Segmentation,
    outputs: dict[str, Path],
    sources: list[dict[str, Any]],
    axes: str | None,
) -> dict[str, Any]:
    """Give the content of run.json: everything needed to make the same labels again."""
    return {
        "format": FORMAT,
        "complete": True,
        "sources": sources,
        "files_given": len(job.files),
        "fields": job.fields,
        "axes_given": axes,
        "axes": image.axes,
        "shape": list(image.pixels.shape),
        "dtype": str(image.pixels.dtype),
        "channel_names": list(image.channel_names),
        "pixel_size_um": image.pixel_size_um,
        "settings": result.settings.model_dump(),
        **result.provenance,
        "objects": result.n_objects,
        "warnings": [*image.warnings, *result.warnings],
        "outputs": {kind: path.name for kind, path in outputs.items()},
    }


def object_columns(
    result: Segmentation, pixel_size_um: dict[str, float], fields: dict[str, str]
) -> list[str]:
    """Give the columns of the object table: plate fields, then the object's, µm beside px."""
    return [*fields, *with_microns(result.objects, pixel_size_um)]


def object_rows(
    result: Segmentation, pixel_size_um: dict[str, float], fields: dict[str, str]
) -> Iterator[dict[str, object]]:
    """Yield one row per object."""
    for row in _rows(with_microns(result.objects, pixel_size_um)):
        yield {**fields, **row}


def track_columns(result: Segmentation, pixel_size_um: dict[str, float]) -> list[str]:
    """Give the columns of the table of tracks, µm beside px."""
    return list(with_microns(result.tracks, pixel_size_um))


def track_rows(
    result: Segmentation, pixel_size_um: dict[str, float]
) -> Iterator[dict[str, object]]:
    """Yield one row per track."""
    return _rows(with_microns(result.tracks, pixel_size_um))


def track_paths(result: Segmentation) -> dict[int, np.ndarray] | None:
    """Give where each track goes: its centroids (y, x), frame by frame; None without tracks."""
    if not result.tracks:
        return None
    objects = result.objects
    order = np.argsort(objects["label"], kind="stable")
    centres = np.column_stack([objects["centroid_y_px"], objects["centroid_x_px"]])[order]
    ids, starts = np.unique(objects["label"][order], return_index=True)
    return dict(zip(ids.tolist(), np.split(centres, starts[1:]), strict=True)) if len(ids) else {}


def with_microns(
    table: dict[str, np.ndarray], pixel_size_um: dict[str, float]
) -> dict[str, np.ndarray]:
    """Give the columns of a table, each with its twin in µm behind it."""
    columns: dict[str, np.ndarray] = {}
    for name, values in table.items():
        columns[name] = values
        for micron, factor in _in_microns(name, pixel_size_um):
            columns[micron] = values * factor
    return columns


def _rows(columns: dict[str, np.ndarray]) -> Iterator[dict[str, object]]:
    names = list(columns)
    for values in zip(*(column.tolist() for column in columns.values()), strict=True):
        yield dict(zip(names, values, strict=True))


def _in_microns(name: str, pixel_size_um: dict[str, float]) -> list[tuple[str, float]]:
    """Give the name and factor of a column's twin in µm, if the calibration is known.

    A diameter stays that of a disk of equal area; what extends in Z has one only where the
    distance of the planes is known, and lengths across Y and X where pixels are square.
    """
    z, y, x = (pixel_size_um.get(letter, 0.0) for letter in "ZYX")
    if not (y and x):
        return []
    twins = {
        "centroid_y_px": ("centroid_y_um", y),
        "centroid_x_px": ("centroid_x_um", x),
        "area_px": ("area_um2", y * x),
        "diameter_px": ("diameter_um", float(np.sqrt(y * x))),
        "displacement_y_px": ("displacement_y_um", y),
        "displacement_x_px": ("displacement_x_um", x),
    }
    if math.isclose(y, x, rel_tol=_SQUARE):
        twins |= {"displacement_px": ("displacement_um", y), "path_px": ("path_um", y)}
    if z:
        twins |= {
            "centroid_z_px": ("centroid_z_um", z),
            "volume_px": ("volume_um3", z * y * x),
            "displacement_z_px": ("displacement_z_um", z),
            "surface_px": ("surface_um2", y * x),
        }
    return [twins[name]] if name in twins else []


def shown_views(image: ImageData, result: Segmentation) -> tuple[np.ndarray, np.ndarray]:
    """Give what the overlay shows: the middle plane, or three views of a volume, and labels."""
    if not result.is_volume:
        return middle_plane(image, result)
    anisotropy = float(result.provenance["volume"]["anisotropy"])
    return orthogonal_views(*_middle(image, result, "T"), anisotropy)


def shown_paths(result: Segmentation, labels: np.ndarray) -> dict[int, np.ndarray] | None:
    """Give the paths of tracks for an overlay with these labels; of a volume in the XY view only.

    Returns
    -------
    As `track_paths` does.
    """
    paths = track_paths(result)
    if paths is None or not result.is_volume:
        return paths
    height, width = result.labels.shape[-2:]
    ids = np.unique(labels[:height, :width]).tolist()
    return {label: paths[label] for label in ids if label}


def middle_plane(image: ImageData, result: Segmentation) -> tuple[np.ndarray, np.ndarray]:
    """Give the middle plane for the overlay: (Y, X) or (Y, X, 3) pixels, and its labels."""
    return _middle(image, result, "TZ")


def _middle(image: ImageData, result: Segmentation, letters: str) -> tuple[np.ndarray, np.ndarray]:
    """Give the middle of the image along some axes, in one channel or colours, and its labels."""
    pixels = image.pixels
    axes = image.axes
    labels = result.labels
    label_axes = result.axes
    for letter in letters:
        if letter in axes:
            index = pixels.shape[axes.index(letter)] // 2
            pixels = np.take(pixels, index, axis=axes.index(letter))
            labels = np.take(labels, index, axis=label_axes.index(letter))
            axes, label_axes = axes.replace(letter, ""), label_axes.replace(letter, "")
    if "C" in axes and "S" in axes:
        pixels, axes = pixels.squeeze(axes.index("C")), axes.replace("C", "")
    if "C" in axes:
        pixels = _show_channels(np.moveaxis(pixels, axes.index("C"), 0), image, result)
        axes = axes.replace("C", "")
    pixels = pixels.transpose([axes.index(letter) for letter in "ZYXS" if letter in axes])
    return (pixels[..., :3] if "S" in axes else pixels), labels


def _show_channels(pixels: np.ndarray, image: ImageData, result: Segmentation) -> np.ndarray:
    """Give the channel that was segmented, or the mean where it is not a single one."""
    try:
        chosen = select_channels(
            pixels,
            is_rgb=False,
            names=image.channel_names,
            channel=result.settings.channel,
            nuclear_channel="none",
            n_channels=1,
        )
    except ChannelError:  # a list
        return np.asarray(pixels.mean(axis=0, dtype=np.float32))
    return np.asarray(chosen[0])
