"""Preview Cells: the settings tried on a part of the current image."""

from __future__ import unicode_literals

from ij import CompositeImage, ImagePlus, ImageStack
from ij.gui import OvalRoi, TextRoi
from java.awt import Color, Rectangle

from cellseg_jy import labels, rois, segmenting
from cellseg_jy.engine import segment
from cellseg_jy.parameters import IMAGE, collect
from cellseg_jy.problems import has_display, tell
from cellseg_jy.settings import SETTINGS
from cellseg_jy.source import Source, find_image

ENDING = "-preview"
LARGEST_PX = 512
DISK = "diameter"
"""Name of the disk that shows the diameter."""
_MARGIN_PX = 4
_WHITE = Color(255, 255, 255, 140)
_OF_TIME_SERIES = ("track_threshold", "track_max_gap")


def command(given):
    """Run the menu command."""
    values = collect(SETTINGS + (IMAGE,), given)
    image = find_image(values["image"])
    part = cut_out(image, choose_bounds(image))
    source = Source(part)
    chosen = segmenting.chosen_settings(values)
    for name in _OF_TIME_SERIES:
        chosen.pop(name, None)  # the part is one frame
    if chosen.pop("volume_mode", None):
        tell("The preview shows one plane, segmented by itself; Segment Cells takes the volume.")
    result = segment(source, chosen, ("labels", "rois"))
    found = rois.decode_rois(result.rois)
    rois.show_on(part, found)
    overlay = part.getOverlay()
    for roi in draw_disk(result.diameter_px, part.getWidth(), part.getHeight()):
        overlay.add(roi)
    part.setProp(segmenting.DIAMETER_PROPERTY, "{:g}".format(result.diameter_px))
    labels.show(part)
    is_estimate = values["diameter_px"] == 0
    tell(
        "{}: {} objects, {} diameter {:.1f} px".format(
            part.getTitle(),
            result.n_objects,
            "estimated" if is_estimate else "given",
            result.diameter_px,
        )
    )
    for warning in result.warnings:
        tell("{}: {}".format(part.getTitle(), warning))


def choose_bounds(image):
    """Give a rectangle of at most 512 px a side: the selection's, around a point, or the middle."""
    width, height = image.getWidth(), image.getHeight()
    selection = image.getRoi()
    box = selection.getBounds() if selection is not None else Rectangle(0, 0, width, height)
    is_area = selection is None or selection.isArea()
    middle_x, middle_y = box.x + box.width // 2, box.y + box.height // 2
    wide = min(LARGEST_PX, width, max(1, box.width) if is_area else LARGEST_PX)
    high = min(LARGEST_PX, height, max(1, box.height) if is_area else LARGEST_PX)
    left = min(max(0, middle_x - wide // 2), width - wide)
    top = min(max(0, middle_y - high // 2), height - high)
    return Rectangle(left, top, wide, high)


def cut_out(image, bounds):
    """Give a rectangle of the current slice and frame, with all channels, as an image."""
    stack = ImageStack(bounds.width, bounds.height)
    n_channels = image.getNChannels()
    for channel in range(1, n_channels + 1):
        number = image.getStackIndex(channel, image.getSlice(), image.getFrame())
        processor = image.getStack().getProcessor(number).duplicate()
        processor.setRoi(bounds)
        stack.addSlice(image.getStack().getSliceLabel(number), processor.crop())
    part = ImagePlus(image.getTitle() + ENDING, stack)
    part.setDimensions(n_channels, 1, 1)
    if n_channels > 1:
        mode = image.getMode() if isinstance(image, CompositeImage) else CompositeImage.GRAYSCALE
        part = CompositeImage(part, mode)
        if isinstance(image, CompositeImage):
            part.copyLuts(image)
    else:
        part.setDisplayRange(image.getDisplayRangeMin(), image.getDisplayRangeMax())
    part.setCalibration(image.getCalibration().copy())
    part.setFileInfo(image.getOriginalFileInfo())  # it says whether a palette is colour
    if image.getType() == ImagePlus.COLOR_256 and part.getType() != ImagePlus.COLOR_256:
        part.setTypeToColor256()  # and so does this
    return part


def draw_disk(diameter_px, width, height):
    """Give a disk of the diameter in the lower left corner, and words where there is a display."""
    left, top = float(_MARGIN_PX), height - diameter_px - _MARGIN_PX
    if diameter_px > min(width, height) - 2 * _MARGIN_PX:
        left, top = (width - diameter_px) / 2.0, (height - diameter_px) / 2.0
    disk = OvalRoi(left, top, float(diameter_px), float(diameter_px))
    disk.setFillColor(_WHITE)
    disk.setName(DISK)
    disk.setProperty(rois.NOTE, "1")
    if not has_display():
        return [disk]
    words = TextRoi(
        int(left + diameter_px) + _MARGIN_PX, height - 20, "diameter {:.1f} px".format(diameter_px)
    )
    words.setStrokeColor(Color.WHITE)
    words.setName(DISK + " text")
    words.setProperty(rois.NOTE, "1")
    return [disk, words]
