"""Outlines of objects as ROIs of ImageJ: made from labels, on the image, in the ROI Manager."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_engine.io.rois import encode_rois
from cellseg_imagej.errors import JavaError, RoiError
from cellseg_imagej.java import check_imageplus, is_headless, java_class
from cellseg_imagej.labels import check_label_axes, make_colour
from cellseg_imagej.pixels import to_java

MARK = "cellseg"
"""Property of the ROIs in an overlay that came from here; those of the user lack it."""
NOTE = "cellseg_note"
"""Property of ROIs that only show something, such as the disk of Preview Cells in Fiji."""
_BARS = ("|SB|", "|CB|")
"""What ImageJ calls the parts of a scale bar and of a calibration bar."""
_NO_AREAS = ("Text", "Image")
"""Types of ROIs that ImageJ takes for rectangles."""
_NAME = re.compile(r"(\d+)(?:-(\d+)-(\d+))?\Z", re.ASCII)
_LAST_GROUP = 255
_COLOURS = 255


def labels_to_rois(
    labels: np.ndarray, axes: str | None = None, *, like: Any | None = None
) -> list[Any]:
    """Give the outline of every object in every plane as ``ij.gui.Roi``.

    Parameters
    ----------
    labels
        Whole numbers from 0, of the shape that the axes say.
    axes
        Of ``T``, ``Z``, ``Y``, ``X``; may be left out for 2-D labels.
    like
        ImagePlus that the ROIs are for. It says whether a position is a plane of a plain stack,
        or slice and frame for all channels; without it there are no channels.

    Returns
    -------
    list of traced polygons, or composites where an object has holes or parts. ImageJ's mask of a
    ROI is exactly the pixels of the object. Names are the label, in stacks ``LABEL-SLICE-FRAME``.

    Raises
    ------
    AxesError, ImageError
        The labels are none, or their axes do not fit.
    RoiError
        ``like`` has another number of slices or frames than the labels.
    """
    labels = np.asarray(labels)
    name = check_label_axes(axes, labels)
    sizes = dict(zip(name, labels.shape, strict=True))
    n_slices, n_frames, n_channels = sizes.get("Z", 1), sizes.get("T", 1), 1
    if like is not None:
        check_imageplus(like, "labels_to_rois")
        width, height, n_channels, slices, frames = (int(n) for n in like.getDimensions())
        if (frames, slices, height, width) != (n_frames, n_slices, sizes["Y"], sizes["X"]):
            raise RoiError(
                f"The labels have {_size(n_frames, n_slices, sizes['Y'], sizes['X'])} and "
                f"{like.getTitle()} has {_size(frames, slices, height, width)}.",
                hint="Give the image that the labels belong to.",
            )
    rois = decode_rois(encode_rois(labels, name))
    place_rois(rois, n_channels, n_slices, n_frames)
    return rois


def decode_rois(archive: bytes) -> list[Any]:
    """Give the ROIs of an archive (.zip) in its order.

    Raises
    ------
    RoiError
        It holds none.
    """
    decoder = java_class("ij.io.RoiDecoder")
    rois = []
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for name in opened.namelist():
                if name.lower().endswith(".roi"):
                    data = np.frombuffer(opened.read(name), np.uint8)
                    rois.append(decoder(to_java(data), name).getRoi())
    except zipfile.BadZipFile as error:
        raise RoiError("The bytes are no archive of ROIs.") from error
    return [roi for roi in rois if roi is not None]


def is_object(roi: Any) -> bool:
    """Say whether a ROI can be the outline of an object; lines, texts and scale bars cannot."""
    if str(roi.getName()) in _BARS or roi.getProperty(NOTE) is not None:
        return False
    return bool(roi.isArea()) and str(roi.getTypeAsString()) not in _NO_AREAS


def place_rois(rois: Iterable[Any], n_channels: int, n_slices: int, n_frames: int) -> None:
    """Set the planes of ROIs named ``LABEL-SLICE-FRAME``: for all channels, or of a plain stack."""
    if n_slices * n_frames == 1:
        return
    for roi in rois:
        _, z, t = parse_name(str(roi.getName())) or (0, 0, 0)
        if n_channels > 1 or (n_slices > 1 and n_frames > 1):
            roi.setPosition(0, max(1, z), max(1, t))
        else:
            roi.setPosition(max(1, z) if n_slices > 1 else max(1, t))


def parse_name(name: str) -> tuple[int, int, int] | None:
    """Give label, slice and frame of a name such as ``0012-3-1``; 0 where it has none, or None."""
    match = _NAME.match(name)
    if not match:
        return None
    label, z, t = (int(part or 0) for part in match.groups())
    return label, z, t


def get_plane(roi: Any, n_slices: int, n_frames: int) -> tuple[int, int]:
    """Give slice and frame of a ROI, 0 where it is in all of them."""
    if roi.hasHyperStackPosition():
        return int(roi.getZPosition()), int(roi.getTPosition())
    if n_slices * n_frames == 1:  # there ImageJ's position is the channel
        return 0, 0
    position = max(0, int(roi.getPosition()))
    # As ImageJ draws it: the slice, or the frame where there is one slice.
    return (position, 0) if n_slices > 1 else (0, position)


def show_rois(image: Any, rois: Sequence[Any]) -> None:
    """Draw ROIs on an image, in place of those of an earlier run; ROIs of the user stay.

    Parameters
    ----------
    image
        ImagePlus; gets an overlay if it has none.
    rois
        Coloured by the label that their name begins with.
    """
    check_imageplus(image, "show_rois")
    fresh = java_class("ij.gui.Overlay")()
    before = image.getOverlay()
    if before is not None:
        fresh = before.create()
        for roi in before.toArray():
            if roi.getProperty(MARK) is None:
                fresh.add(roi)
    for roi in rois:
        name = parse_name(str(roi.getName()))
        roi.setStrokeColor(make_colour((name[0] - 1 if name else 0) % _COLOURS + 1))
        roi.setProperty(MARK, "1")
        fresh.add(roi)
    image.setOverlay(fresh)


def add_to_roi_manager(rois: Sequence[Any]) -> int:
    """Append ROIs to the ROI Manager as a group of their own; what is in it stays.

    Returns
    -------
    The number of the group, 1 to 255; 0 where this ImageJ has no colours for groups.

    Raises
    ------
    JavaError
        The Java machine is headless: there ImageJ has no ROI Manager.
    """
    if is_headless():
        raise JavaError(
            "A headless ImageJ has no ROI Manager.",
            hint="Put the ROIs on the image with show_rois, or start ImageJ with a display.",
        )
    manager_class = java_class("ij.plugin.frame.RoiManager")
    manager = manager_class.getInstance()
    if manager is None:
        manager = manager_class()
    used = max((int(roi.getGroup()) for roi in manager.getRoisAsArray()), default=0)
    group = used % _LAST_GROUP + 1 if _has_group_colours() else 0
    for roi in rois:
        if group:
            colour = roi.getStrokeColor()
            roi.setGroup(group)
            roi.setStrokeColor(colour)
        manager.add(roi, -1)  # addRoi takes a name such as 0012-10-1 for one of its own
    return group


def _has_group_colours() -> bool:
    """Say whether ImageJ has them; without, it writes a line into the log for every ROI."""
    folder = java_class("ij.IJ").getDir("luts")
    names = ("Glasbey.lut", "glasbey.lut")
    return folder is not None and any((Path(str(folder)) / name).is_file() for name in names)


def _size(n_frames: int, n_slices: int, height: int, width: int) -> str:
    return f"{n_frames} frames, {n_slices} slices, {height} x {width} px"
