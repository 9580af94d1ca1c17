"""ROIs of objects: from and to archives, on the image, and in the ROI Manager."""

from __future__ import unicode_literals

import re

import jarray
from ij import IJ, Undo
from ij.gui import Overlay
from ij.io import RoiDecoder, RoiEncoder
from ij.plugin.frame import RoiManager
from java.awt import Color
from java.io import ByteArrayInputStream, ByteArrayOutputStream, File
from java.util.zip import ZipEntry, ZipInputStream, ZipOutputStream

from cellseg_jy.labels import make_colour
from cellseg_jy.problems import has_display

MARK = "cellseg"
"""Property of the ROIs in an overlay that came from here; those of the user lack it."""
NOTE = "cellseg_note"
"""Property of ROIs that only show something, such as the disk of Preview Cells."""
_BARS = ("|SB|", "|CB|")
"""What ImageJ calls the parts of a scale bar and of a calibration bar."""
_NO_AREAS = ("Text", "Image")
"""Types of ROIs that ImageJ takes for rectangles."""
_NAME = re.compile(r"(\d+)(?:-(\d+)-(\d+))?\Z")
_NAMED = 5
_LAST_GROUP = 255
_COLOURS = 255


def decode_rois(data):
    """Give the ROIs of an archive (bytes), in its order."""
    stream = ZipInputStream(ByteArrayInputStream(data))
    rois = []
    entry = stream.getNextEntry()
    while entry is not None:
        name = entry.getName()
        if name.endswith(".roi"):
            roi = RoiDecoder(_read_entry(stream, entry), name).getRoi()
            if roi is not None:
                rois.append(roi)
        entry = stream.getNextEntry()
    stream.close()
    return rois


def encode_rois(rois):
    """Give the bytes of an archive; names that are taken get a number behind."""
    whole = ByteArrayOutputStream()
    stream = ZipOutputStream(whole)
    taken = set()
    for number, roi in enumerate(rois):
        name = roi.getName() or "{:04d}".format(number + 1)
        while name in taken:
            name += "-{}".format(number + 1)
        taken.add(name)
        stream.putNextEntry(ZipEntry(name.replace("/", "_") + ".roi"))
        stream.write(RoiEncoder.saveAsByteArray(roi))
        stream.closeEntry()
    stream.close()
    return whole.toByteArray()


def parse_name(name):
    """Give label, slice and frame of a name such as ``0012-3-1``; 0 where it has none, or None."""
    match = _NAME.match(name or "")
    if not match:
        return None
    return tuple(int(part or 0) for part in match.groups())


def is_object(roi):
    """Say whether a ROI can be the outline of an object; lines, texts and scale bars cannot."""
    if roi.getName() in _BARS or roi.getProperty(NOTE) is not None:
        return False
    return roi.isArea() and roi.getTypeAsString() not in _NO_AREAS


def name_some(rois):
    """Give the names of the first of some ROIs, for a sentence."""
    names = [roi.getName() or "without a name" for roi in rois[:_NAMED]]
    return ", ".join(names) + (" and more" if len(rois) > _NAMED else "")


def place(rois, source):
    """Put ROIs where they belong on a whole image: moved by the part, each at its plane."""
    left, top = source.bounds.x, source.bounds.y
    is_stack = source.n_slices * source.n_frames > 1
    for roi in rois:
        if source.is_part:
            roi.setLocation(roi.getXBase() + left, roi.getYBase() + top)
        if is_stack:
            _, slice_number, frame = parse_name(roi.getName())
            set_position(
                roi,
                source.n_channels,
                source.n_slices,
                source.n_frames,
                max(1, slice_number),
                max(1, frame),
            )


def set_position(roi, n_channels, n_slices, n_frames, slice_number, frame):
    """Set the plane of a ROI: for all channels, or the plane of a plain stack."""
    if n_slices * n_frames == 1:
        return
    if n_channels > 1 or (n_slices > 1 and n_frames > 1):
        roi.setPosition(0, slice_number, frame)
    else:
        roi.setPosition(slice_number if n_slices > 1 else frame)


def get_plane(roi, n_slices, n_frames):
    """Give slice and frame of a ROI, 0 where it is in all of them."""
    if roi.hasHyperStackPosition():
        return roi.getZPosition(), roi.getTPosition()
    if n_slices * n_frames == 1:  # there ImageJ's position is the channel
        return 0, 0
    position = max(0, roi.getPosition())
    # As ImageJ draws it: the slice, or the frame where there is one slice.
    return (position, 0) if n_slices > 1 else (0, position)


def show_on(image, rois):
    """Draw ROIs on an image, in place of those of an earlier run; one step of Edit > Undo."""
    overlay = image.getOverlay()
    if overlay is None:
        overlay = Overlay()
        image.setOverlay(overlay)  # so that there is something to go back to
    if has_display():
        Undo.setup(Undo.OVERLAY, image)
    fresh = overlay.create()
    for roi in overlay.toArray():
        if roi.getProperty(MARK) is None:
            fresh.add(roi)
    for roi in rois:
        label = parse_name(roi.getName())
        roi.setStrokeColor(make_colour((label[0] - 1 if label else 0) % _COLOURS + 1))
        roi.setProperty(MARK, "1")
        fresh.add(roi)
    image.setOverlay(fresh)


def outline_on(labels, rois):
    """Draw thin dark outlines on a label image whose neighbours may share a colour."""
    overlay = Overlay()
    for roi in rois:
        outline = roi.clone()
        outline.setStrokeColor(Color.BLACK)
        overlay.add(outline)
    labels.setOverlay(overlay)


def add_to_manager(rois):
    """Append ROIs to the ROI Manager as a group of their own, and give the number of the group.

    What is in it stays. The number is 0 where this ImageJ has no colours for groups.
    """
    manager = RoiManager.getInstance()
    if manager is None:
        manager = RoiManager()
    used = max([roi.getGroup() for roi in manager.getRoisAsArray()] or [0])
    group = used % _LAST_GROUP + 1 if _has_group_colours() else 0
    for roi in rois:
        colour = roi.getStrokeColor()
        if group:
            roi.setGroup(group)
            roi.setStrokeColor(colour)
        manager.add(roi, -1)  # addRoi takes a name such as 0012-10-1 for one of its own
    return group


def _has_group_colours():
    """Say whether ImageJ has them; without, it writes a line into the log for every ROI."""
    folder = IJ.getDir("luts")
    names = ("Glasbey.lut", "glasbey.lut")
    return folder is not None and any(File(folder, name).isFile() for name in names)


def _read_entry(stream, entry):
    size = int(entry.getSize())
    if size < 0:
        return _read_on(stream)
    data = jarray.zeros(size, str("b"))
    done = 0
    while done < size:
        count = stream.read(data, done, size - done)
        if count < 0:
            break
        done += count
    return data


def _read_on(stream):
    """Read an entry whose size is only written behind it."""
    whole = ByteArrayOutputStream()
    chunk = jarray.zeros(8192, str("b"))
    count = stream.read(chunk)
    while count > 0:
        whole.write(chunk, 0, count)
        count = stream.read(chunk)
    return whole.toByteArray()
