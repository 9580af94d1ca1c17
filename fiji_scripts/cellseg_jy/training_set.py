"""What the commands of the training set share: its folder, its ROIs, asking the engine."""

from __future__ import unicode_literals

from ij import IJ
from ij.io import RoiEncoder
from ij.plugin.frame import RoiManager
from java.io import File
from java.security import MessageDigest

from cellseg_jy import launch, npy
from cellseg_jy.parameters import Parameter
from cellseg_jy.problems import Problem, has_display
from cellseg_jy.source import file_path
from cellseg_jy.texts import to_hex

CHANNELS = (
    Parameter("channel", "text", "auto", ()),
    Parameter("nuclear_channel", "text", "none", ()),
    Parameter("invert", "choice", "auto", ("auto", "yes", "no")),
)
"""Settings of the contract that a training and a segmentation share."""

SOURCE_PROPERTY = "cellseg_source"
"""Property of an image that Next Image opened: its path. ImageJ copies it to duplicates."""
_LAST = "cellseg_last_"
_ADDED = "cellseg_added"
"""Property of ImageJ: a hash of the ROIs of the ROI Manager that were added last."""


def find_folder(values, name, what):
    """Give the folder of that parameter, or the one used last in this session; remember it.

    Raises
    ------
    Problem
        There is neither.
    """
    folder = values[name].strip().rstrip("/\\") or IJ.getProperty(_LAST + name)
    if not folder:
        raise Problem("No {} was given.".format(what), "Set {}.".format(name), "input")
    path = File(folder).getAbsolutePath()
    IJ.setProperty(_LAST + name, path)
    return path


def describe_folder(folder):
    """Give what is in a training folder; a new or empty one has no images."""
    return launch.ask("/v1/training/folder", {"folder": folder})


def chosen_channels(values):
    """Give the settings of the channels that differ from their defaults."""
    return dict((p.name, values[p.name]) for p in CHANNELS if values[p.name] != p.default)


def source_path(image):
    """Give the path of the file that an image, or what it was cut out of, comes from, or nothing.

    Of duplicates it is known where Next Image opened the original.
    """
    return file_path(image) or image.getProp(SOURCE_PROPERTY) or ""


def send_bytes(exchange, data):
    """Write bytes as an array for the engine, and give its name and the file."""
    return npy.write_array(exchange, "|u1", [1, len(data)], lambda: [data])


def manager_rois():
    """Give the ROIs of the ROI Manager; none without windows."""
    manager = RoiManager.getInstance() if has_display() else None
    return list(manager.getRoisAsArray()) if manager is not None else []


def note_added(digest):
    """Remember that the ROIs of that hash are in the training set."""
    IJ.setProperty(_ADDED, digest)


def has_work(seen=None):
    """Say whether the ROI Manager has ROIs that are neither in the training set nor of a hash."""
    rois = manager_rois()
    return bool(rois) and hash_rois(rois) not in (IJ.getProperty(_ADDED), seen)


def hash_rois(rois):
    """Give what tells ROIs apart, but for colours and groups."""
    digest = MessageDigest.getInstance("SHA-256")
    for roi in rois:
        plain = roi.clone()
        plain.setStrokeColor(None)  # ImageJ changes it when a ROI is selected
        plain.setGroup(0)
        digest.update(RoiEncoder.saveAsByteArray(plain))
    return to_hex(digest.digest())
