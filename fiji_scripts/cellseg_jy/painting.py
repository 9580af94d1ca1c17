"""ROIs To Labels: a label image from ROIs, without the engine."""

from __future__ import unicode_literals

from ij import ImageStack
from ij.plugin.frame import RoiManager
from ij.process import FloatProcessor, ShortProcessor
from java.io import File, IOException
from java.nio.file import Files

from cellseg_jy import labels, rois
from cellseg_jy.parameters import IMAGE, Parameter, collect
from cellseg_jy.problems import Problem, has_display, tell
from cellseg_jy.source import find_image, whole_of

SOURCES = ("auto", "manager", "overlay", "archive")
OWN = (Parameter("source", "choice", "auto", SOURCES), Parameter("archive", "text", "", ()))


def command(given):
    """Run the menu command."""
    values = collect(OWN + (IMAGE,), given)
    image = find_image(values["image"])
    found = find_rois(image, values["source"], values["archive"])
    areas = [roi for roi in found if rois.is_object(roi)]
    if len(areas) < len(found):
        text = "{} ROIs without an area (points, lines, texts, scale bars) were left out."
        tell(text.format(len(found) - len(areas)))
    if not areas:
        raise Problem("None of the {} ROIs has an area.".format(len(found)), code="rois")
    _tell_outside(image, areas)
    labels.show(paint(image, areas))


def paint(image, areas):
    """Give the label image of ROIs; where they overlap the later one counts.

    The number of an object is the one its name begins with, if all names are those of CellSeg
    (``0012``, or ``0012-3-1`` with slice and frame); else they are numbered in their order.

    Raises
    ------
    Problem
        A number is larger than an image of ImageJ can hold.
    """
    _, _, _, n_slices, n_frames = image.getDimensions()
    numbers = _numbers(areas, n_slices, n_frames)
    if numbers is None:
        numbers = range(1, len(areas) + 1)
        tell("The names of the ROIs are no labels, so they were numbered in their order.")
    largest = max(numbers)
    if largest > labels.MAX_EXACT_FLOAT:
        raise Problem(
            "The label {} is too large: an image of ImageJ holds up to {}.".format(
                largest, labels.MAX_EXACT_FLOAT
            ),
            "Rename the ROIs.",
            "labels",
        )
    kind = ShortProcessor if largest <= labels.MAX_SHORT else FloatProcessor
    stack = ImageStack(image.getWidth(), image.getHeight())
    for _ in range(n_slices * n_frames):
        stack.addSlice("", kind(image.getWidth(), image.getHeight()))
    for roi, number in zip(areas, numbers):
        slice_number, frame = rois.get_plane(roi, n_slices, n_frames)
        for z in [slice_number] if slice_number else range(1, n_slices + 1):
            for t in [frame] if frame else range(1, n_frames + 1):
                if z > n_slices or t > n_frames:
                    raise _no_plane(roi, image)
                processor = stack.getProcessor((t - 1) * n_slices + z)
                processor.setValue(number)
                processor.fill(roi)
    return labels.finish(stack, image, n_slices, n_frames, largest)


def overlay_rois(image):
    """Give the ROIs of the overlay of an image."""
    overlay = image.getOverlay()
    return list(overlay.toArray()) if overlay is not None else []


def find_rois(image, source, archive):
    """Give the ROIs from where a parameter ``source`` says.

    Raises
    ------
    Problem
        There are none.
    """
    if source == "archive" or (source == "auto" and archive):
        return _read_archive(archive)
    manager = RoiManager.getInstance() if has_display() else None
    found = list(manager.getRoisAsArray()) if manager is not None else []
    if source == "overlay" or (source == "auto" and not found):
        found = overlay_rois(image)
    if not found:
        where = {"manager": "in the ROI Manager", "overlay": "in the overlay of the image"}
        raise Problem(
            "There are no ROIs {}.".format(
                where.get(source, "in the ROI Manager or in the overlay of the image")
            ),
            "Add some, or give an archive: source=archive archive=PATH.",
            "rois",
        )
    return found


def _read_archive(path):
    if not path:
        raise Problem(
            "No ROI archive was given.", "Give its path: source=archive archive=PATH.", "rois"
        )
    try:
        found = rois.decode_rois(Files.readAllBytes(File(path).toPath()))
    except IOException as error:
        raise Problem("{} cannot be read: {}.".format(path, error.getMessage()), code="rois")
    if not found:
        raise Problem("There are no ROIs in {}.".format(path), code="rois")
    return found


def _numbers(areas, n_slices, n_frames):
    """Give the labels that the names say, or None where one is no name of ours."""
    numbers, places = [], set()
    for roi in areas:
        name = rois.parse_name(roi.getName())
        if name is None or name[0] == 0:
            return None
        plane = rois.get_plane(roi, n_slices, n_frames)
        # ImageJ's own names, such as 0001-0120-0345, are slice, y and x.
        if name[1] and any(own and own != there for own, there in zip(plane, name[1:])):
            return None
        if (name[0], plane) in places:
            return None
        places.add((name[0], plane))
        numbers.append(name[0])
    return numbers


def _tell_outside(image, areas):
    """Name the ROIs that lie outside the image.

    Raises
    ------
    Problem
        That is so for all of them.
    """
    whole = whole_of(image)
    outside = [roi for roi in areas if not whole.intersects(roi.getBounds())]
    if len(outside) == len(areas):
        raise Problem(
            "None of the {} ROIs lies in {}.".format(len(areas), image.getTitle()),
            "Choose the image that the ROIs belong to.",
            "rois",
        )
    if outside:
        text = "{} ROIs left out (outside the image): {}."
        tell(text.format(len(outside), rois.name_some(outside)))


def _no_plane(roi, image):
    return Problem(
        "The ROI {} belongs to a plane that {} does not have.".format(
            roi.getName(), image.getTitle()
        ),
        "Choose the image that the ROIs belong to.",
        "rois",
    )
