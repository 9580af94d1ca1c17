"""Outlines of objects for other programs: ImageJ ROI archives and GeoJSON for QuPath."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from cellseg_engine.core.axes import check_axes
from cellseg_engine.core.outlines import signed_area, split_at_pinches, trace_outlines
from cellseg_engine.errors import AxesError
from cellseg_engine.io.roi_archive import Place, encode_traced, make_archive

MIN_LABEL_DIGITS = 4
_LARGEST_INTEGER_PX = 60_535
_MOST_CORNERS = 65_535
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def write_rois(path: Path, labels: np.ndarray, axes: str) -> None:
    """Write the outlines as an ImageJ ROI archive; see `encode_rois`.

    Raises
    ------
    AxesError
        The axes do not fit the labels.
    OSError
        The file cannot be written; inside `staged` it is a `WriteError`.
    """
    path.write_bytes(encode_rois(labels, axes))


def encode_rois(labels: np.ndarray, axes: str) -> bytes:
    """Give the outlines as the bytes of an ImageJ ROI archive (.zip), for the ROI Manager.

    One ROI per object and plane: a traced polygon, or a composite where the object has holes or
    several parts. ImageJ's mask of the ROI is exactly the object's pixels. The ROIs of a 3-D
    object have its label in all their names.

    Parameters
    ----------
    labels
        int of the axes' shape, 0 is background.
    axes
        Of ``T``, ``Z``, ``Y``, ``X``.

    Returns
    -------
    bytes, the same for the same labels. Names are the label with leading zeros, for stacks
    ``LABEL-Z-T`` counted from 1. The position is set for any channel: the number of the plane
    where there is one stack axis (ImageJ takes it for the slice or the frame, whichever the
    image has), slice and frame where there are two.

    Raises
    ------
    AxesError
        The axes do not fit the labels.
    """
    digits = max(MIN_LABEL_DIGITS, len(str(int(np.max(labels, initial=0)))))
    entries: list[tuple[str, bytes]] = []
    for plane in _planes(labels, axes):
        outlines = trace_outlines(plane.labels)
        names = [f"{label:0{digits}}{plane.suffix}" for label in outlines]
        encoded = _encode_plane(list(outlines.values()), names, plane.place)
        entries += [(f"{name}.roi", data) for name, data in zip(names, encoded, strict=True)]
    return make_archive(entries)


def _encode_plane(
    outlines: Sequence[Sequence[np.ndarray]], names: Sequence[str], place: Place
) -> list[bytes]:
    """Give the bytes of each object's ROI; most are traced polygons, which are quick."""
    is_traced = [
        len(loops) == 1
        and len(loops[0]) <= _MOST_CORNERS
        and int(loops[0].max()) <= _LARGEST_INTEGER_PX
        for loops in outlines
    ]
    traced = [n for n, is_simple in enumerate(is_traced) if is_simple]
    quick = iter(
        encode_traced(
            [outlines[n][0] for n in traced], [names[n] for n in traced], [place] * len(traced)
        )
    )
    return [
        next(quick) if is_simple else _make_composite(loops, name, place).tobytes()
        for loops, name, is_simple in zip(outlines, names, is_traced, strict=True)
    ]


def write_geojson(
    path: Path, labels: np.ndarray, axes: str, rows: Iterable[Mapping[str, object]] = ()
) -> None:
    """Write the outlines as a GeoJSON FeatureCollection of detections, as QuPath imports it.

    One feature per object and plane, a Polygon or MultiPolygon along the pixel edges, in pixels:
    (0, 0) is the outer corner of the first pixel. Features of stacks carry their plane; those of
    a 3-D object share its name and the measurements of the whole.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    labels
        int of the axes' shape, 0 is background.
    axes
        Of ``T``, ``Z``, ``Y``, ``X``.
    rows
        Rows of the object table; the one with the same ``label``, and ``t`` if it has one, gives
        the measurements, all its finite numbers.

    Raises
    ------
    AxesError
        The axes do not fit the labels.
    OSError
        The file cannot be written; inside `staged` it is a `WriteError`.
    """
    by_label = {(row["label"], row.get("t")): _measurements(row) for row in rows}
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for plane in _planes(labels, axes):
            for label, loops in trace_outlines(plane.labels, connectivity=1).items():
                found = by_label.get((label, plane.t), by_label.get((label, None), {}))
                feature = _feature(label, loops, plane, found)
                stream.write(separator + json.dumps(feature, separators=(",", ":")))
                separator = ",\n"
        stream.write("\n]}\n")


@dataclass(frozen=True)
class _Plane:
    """One plane of a label image; ``indices`` are its places along T and Z, those it has."""

    labels: np.ndarray
    indices: dict[str, int]
    suffix: str

    @property
    def place(self) -> Place:
        """Position, Z and T position of ROIs: the number of the plane, or two."""
        if len(self.indices) == 1:
            return self.z + self.t + 1, 0, 0
        return (0, self.z + 1, self.t + 1) if self.indices else (0, 0, 0)

    @property
    def z(self) -> int:
        return self.indices.get("Z", 0)

    @property
    def t(self) -> int:
        return self.indices.get("T", 0)


def _planes(labels: np.ndarray, axes: str) -> Iterator[_Plane]:
    labels = np.asarray(labels)
    axes = check_axes(axes, labels.shape)
    if set(axes) - set("TZYX"):
        raise AxesError(f"A label image has axes of T, Z, Y, X; these are {axes}.")
    ordered = [letter for letter in "TZYX" if letter in axes]
    labels = labels.transpose([axes.index(letter) for letter in ordered])
    sizes = dict(zip(ordered, labels.shape, strict=True))
    width_z, width_t = (len(str(sizes.get(letter, 1))) for letter in "ZT")
    for place in np.ndindex(labels.shape[:-2]):
        indices = dict(zip(ordered, place, strict=False))
        z, t = indices.get("Z", 0) + 1, indices.get("T", 0) + 1
        suffix = f"-{z:0{width_z}}-{t:0{width_t}}" if indices else ""
        yield _Plane(labels[place], indices, suffix)


def _make_composite(loops: Sequence[np.ndarray], name: str, place: Place) -> ImagejRoi:
    """Give an object with holes or several parts, or one that a traced ROI cannot hold."""
    corners = loops[0] if len(loops) == 1 else np.concatenate(loops)
    top, left = corners.min(axis=0).tolist()
    bottom, right = corners.max(axis=0).tolist()
    roi = ImagejRoi(top=top, left=left, bottom=bottom, right=right)
    roi.roitype = ROI_TYPE.RECT
    roi.multi_coordinates = _path(loops)
    roi.shape_roi_size = len(roi.multi_coordinates)
    roi.name = name
    roi.position, roi.z_position, roi.t_position = place
    return roi


def _path(loops: Sequence[np.ndarray]) -> np.ndarray:
    """Give the loops as ImageJ's row of float32: move or line, x, y for each point, then close."""
    path: list[float] = []
    for loop in loops:
        steps = np.column_stack([np.full(len(loop), _LINE), loop[:, ::-1]])
        steps[0, 0] = _MOVE
        path += [*steps.ravel().tolist(), _CLOSE]
    return np.array(path, np.float32)


def _feature(
    label: int, loops: Sequence[np.ndarray], plane: _Plane, measurements: Mapping[str, float]
) -> dict[str, Any]:
    polygons = _polygons(loops)
    geometry: dict[str, Any] = (
        {"type": "Polygon", "coordinates": polygons[0]}
        if len(polygons) == 1
        else {"type": "MultiPolygon", "coordinates": polygons}
    )
    if plane.indices:
        geometry["plane"] = {"c": -1, "z": plane.z, "t": plane.t}
    properties = {"objectType": "detection", "name": str(label), "measurements": measurements}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _polygons(loops: Sequence[np.ndarray]) -> list[list[list[list[int]]]]:
    """Give the polygons of an object, each its outer ring and then its holes, closed, as (x, y)."""
    pieces = [piece for loop in loops for piece in split_at_pinches(loop)]
    if len(pieces) == 1:
        return [[_ring(pieces[0])]]
    areas = [signed_area(piece) for piece in pieces]
    smallest_first = sorted((area, n) for n, area in enumerate(areas) if area > 0)
    members = {n: [pieces[n]] for _, n in sorted(smallest_first, key=lambda item: item[1])}
    for hole, area in zip(pieces, areas, strict=True):
        if area < 0:
            owner = next(n for _, n in smallest_first if _surrounds(pieces[n], hole))
            members[owner].append(hole)
    return [[_ring(piece) for piece in polygon] for polygon in members.values()]


def _ring(loop: np.ndarray) -> list[list[int]]:
    corners: list[list[int]] = loop[:, ::-1].tolist()
    return [*corners, corners[0]]


def _surrounds(outer: np.ndarray, hole: np.ndarray) -> bool:
    """Say whether the object's pixel at the hole's first edge lies inside an outer ring.

    The ring is crossed an odd number of times on the way from there to the right.
    """
    (y0, x0), (y1, x1) = hole[0], hole[1]
    step_y, step_x = np.sign(y1 - y0), np.sign(x1 - x0)
    y = y0 + (step_y + step_x) / 2
    x = x0 + (step_x - step_y) / 2
    ends = np.roll(outer, -1, axis=0)
    is_vertical = outer[:, 1] == ends[:, 1]
    low, high = np.minimum(outer[:, 0], ends[:, 0]), np.maximum(outer[:, 0], ends[:, 0])
    crossed = is_vertical & (outer[:, 1] > x) & (low < y) & (y < high)
    return bool(np.count_nonzero(crossed) % 2)


def _measurements(row: Mapping[str, object]) -> dict[str, float]:
    return {
        name: int(value) if isinstance(value, bool) else value
        for name, value in row.items()
        if name != "label" and isinstance(value, int | float) and math.isfinite(value)
    }
