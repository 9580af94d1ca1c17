"""From objects of frames to tracks: ids kept through time, and one row for each track."""

from __future__ import annotations

import numpy as np

from cellseg_engine.core.axes import PlaneStack
from cellseg_engine.core.tracking import track_objects
from cellseg_engine.errors import AxesError, SettingsError
from cellseg_engine.settings import Settings

_TURN_OFF = "With track_threshold 0 each frame is segmented by itself."


def check_trackable(stack: PlaneStack, settings: Settings) -> None:
    """Refuse an image whose objects cannot be followed, before anything is computed.

    Raises
    ------
    AxesError
        There is no time axis, or it has one frame.
    SettingsError
        It has planes that the settings neither link nor take as one volume.
    """
    if settings.track_threshold == 0:
        return
    n_frames, n_planes = stack.pixels.shape[:2]
    if "T" not in stack.axes:
        raise AxesError(
            f"Objects cannot be followed (track_threshold {settings.track_threshold:g}): the image "
            f"has no time axis, its axes are {stack.axes}.",
            hint=f"If another axis is time, call it T. {_TURN_OFF}",
        )
    if n_frames == 1:
        raise AxesError(
            f"Objects cannot be followed (track_threshold {settings.track_threshold:g}): the image "
            "has a single time point.",
            hint=_TURN_OFF,
        )
    is_linked = settings.stitch_threshold > 0 or settings.volume_mode != "planes"
    if n_planes > 1 and not is_linked:
        raise SettingsError(
            f"track_threshold {settings.track_threshold:g} needs a stitch_threshold above 0 or a "
            f"volume_mode here: each time point has {n_planes} planes, whose objects must be "
            "linked first.",
            hint="Set stitch_threshold, for example to 0.25, or segment one plane.",
        )


def follow_objects(
    labels: np.ndarray, objects: dict[str, np.ndarray], settings: Settings
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Give each object the number of its track, in place, and the table of the tracks.

    Parameters
    ----------
    labels
        int32 of shape (T, Z, Y, X), ids 1 to n, none in two frames; becomes the labels of the
        tracks.
    objects
        Table of the objects, one row for each id in order, with ``t``.
    settings
        Of them ``track_threshold`` and ``track_max_gap``.

    Returns
    -------
    The table of the objects with the numbers of the tracks as ``label``, its rows as before,
    and the table of the tracks; `Segmentation` names its columns.
    """
    tracks = track_objects(labels, settings.track_threshold, settings.track_max_gap)
    for frame in labels:
        for plane in frame:
            plane[...] = tracks.ids[plane]
    followed = objects | {"label": tracks.ids[objects["label"]].astype(np.int64)}
    return followed, _describe(followed, tracks.parents)


def _describe(objects: dict[str, np.ndarray], parents: np.ndarray) -> dict[str, np.ndarray]:
    """Give one row for each track; an object of a track per frame, frames ascending."""
    order = np.argsort(objects["label"], kind="stable")
    owners, frames = objects["label"][order] - 1, objects["t"][order]
    n_tracks = len(parents) - 1
    counts = np.bincount(owners, minlength=n_tracks)
    last = np.cumsum(counts) - 1
    first = last + 1 - counts
    y, x = (objects[f"centroid_{letter}_px"][order] for letter in "yx")
    goes_on = owners[1:] == owners[:-1]
    steps = np.hypot(np.diff(y), np.diff(x))[goes_on]
    table = {
        "track": np.arange(1, n_tracks + 1),
        "parent": parents[1:].astype(np.int64),
        "t_first": frames[first],
        "t_last": frames[last],
        "n_frames": counts,
        "n_missing": frames[last] - frames[first] + 1 - counts,
    }
    if "centroid_z_px" in objects:
        z = objects["centroid_z_px"][order]
        table["displacement_z_px"] = z[last] - z[first]
    return table | {
        "displacement_y_px": y[last] - y[first],
        "displacement_x_px": x[last] - x[first],
        "displacement_px": np.hypot(y[last] - y[first], x[last] - x[first]),
        "path_px": np.bincount(owners[1:][goes_on], steps, n_tracks),
    }
