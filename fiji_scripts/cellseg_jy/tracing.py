"""Labels To ROIs: the outlines of a label image, without the engine."""

from __future__ import unicode_literals

from ij.gui import PolygonRoi, Roi, Wand
from ij.plugin.filter import ThresholdToSelection
from ij.process import Blitter, ImageProcessor
from java.awt import Rectangle
from java.lang import StringBuilder
from java.nio import ByteBuffer
from java.util.regex import Pattern

from cellseg_jy import outputs, rois
from cellseg_jy.labels import MAX_EXACT_FLOAT
from cellseg_jy.parameters import IMAGE, Parameter, collect
from cellseg_jy.problems import Problem, has_display, tell
from cellseg_jy.source import SIGN_BIT, find_image, is_signed

OWN = (
    Parameter("add_to_roi_manager", "boolean", True, ()),
    Parameter("save_as", "text", "", ()),
)
MIN_DIGITS = 4
_BAND = 65535
_FAR = 1e9
_RUNS = Pattern.compile(r"([^\x00])\1*", Pattern.DOTALL)


def command(given):
    """Run the menu command."""
    values = collect(OWN + (IMAGE,), given)
    image = find_image(values["image"])
    found = trace(image)
    if values["save_as"]:
        outputs.write_bytes(values["save_as"], rois.encode_rois(found))
    rois.show_on(image, found)
    if has_display() and values["add_to_roi_manager"] and found:
        rois.add_to_manager(found)
    if not found:
        tell("{} has no labels: all its pixels are 0.".format(image.getTitle()))


def trace(image):
    """Give the outline of every label in every plane: a polygon, or a composite.

    Raises
    ------
    Problem
        The image is no label image.
    """
    _, _, n_channels, n_slices, n_frames = image.getDimensions()
    if image.getBitDepth() == 24 or n_channels > 1:
        raise _no_labels(image, "it has colours or channels")
    planes = []
    for frame in range(1, n_frames + 1):
        for slice_number in range(1, n_slices + 1):
            processor = image.getStack().getProcessor(image.getStackIndex(1, slice_number, frame))
            planes.append((slice_number, frame, _trace_plane(image, processor)))
    largest = max([label for _, _, found in planes for label in found] or [0])
    digits = max(MIN_DIGITS, len("{:d}".format(largest)))
    suffix = ""
    traced = []
    for slice_number, frame, found in planes:
        if n_slices * n_frames > 1:
            suffix = "-{}-{}".format(_pad(slice_number, n_slices), _pad(frame, n_frames))
        for label in sorted(found):
            roi = found[label]
            roi.setName("{:0{}d}{}".format(label, digits, suffix))
            rois.set_position(roi, 1, n_slices, n_frames, slice_number, frame)
            traced.append(roi)
    return traced


class _Extent(object):
    """Where the pixels of one label are: how many, the first one, the box around them."""

    def __init__(self, x, y):
        self.first = (x, y)
        self.left, self.right, self.bottom = x, x, y
        self.count = 0

    def add(self, start, end, y):
        self.count += end - start
        self.left = min(self.left, start)
        self.right = max(self.right, end - 1)
        self.bottom = y

    @property
    def box(self):
        width, height = self.right - self.left + 1, self.bottom - self.first[1] + 1
        return Rectangle(self.left, self.first[1], width, height)


def _trace_plane(image, processor):
    found = {}
    for base, band in _bands(image, processor):
        for label, extent in _extents(band).items():
            found[base + label] = _outline(band, label, extent)
    return found


def _bands(image, processor):
    """Yield 16-bit planes with the labels from base + 1 on; 32-bit labels take several."""
    statistics = processor.getStatistics()
    zero = SIGN_BIT if is_signed(image) else 0
    if statistics.min < zero:
        raise _no_labels(image, "it has negative numbers")
    if zero:
        processor = processor.duplicate()
        processor.xor(SIGN_BIT)
    if processor.getBitDepth() != 32:
        yield 0, processor.convertToShort(False)
        return
    if statistics.max > MAX_EXACT_FLOAT:
        raise _no_labels(image, "it has numbers above {}".format(MAX_EXACT_FLOAT))
    for base in range(0, int(statistics.max) + 1, _BAND):
        rest = processor.duplicate()
        rest.subtract(base)
        rest.min(0)
        above = rest.duplicate()
        rest.max(_BAND)
        above.copyBits(rest, 0, 0, Blitter.SUBTRACT)
        above.multiply(_FAR)
        rest.copyBits(above, 0, 0, Blitter.SUBTRACT)
        rest.min(0)
        band = rest.convertToShort(False)
        rest.copyBits(band.convertToFloat(), 0, 0, Blitter.DIFFERENCE)
        if rest.getStatistics().max > 0:
            raise _no_labels(image, "it has numbers that are not whole")
        yield base, band


def _extents(band):
    """Give the `_Extent` of each label: one step per row of an object, not per pixel."""
    pixels, width = band.getPixels(), band.getWidth()
    data = ByteBuffer.allocate(2 * len(pixels))
    data.asShortBuffer().put(pixels)
    # Its letters are the labels. Not as a String: Jython refuses some pairs of letters.
    runs = _RUNS.matcher(StringBuilder(data.asCharBuffer()))
    extents = {}
    while runs.find():
        start, end, letter = runs.start(), runs.end(), runs.end(1) - runs.start()
        if letter > 1:  # two labels that look like one letter of a rare script
            pieces = [(place, place + 1) for place in range(start, end)]
        else:
            pieces = _split_rows(start, end, width)
        for first, last in pieces:
            label = pixels[first] & 0xFFFF
            y = first // width
            x = first - y * width
            if label not in extents:
                extents[label] = _Extent(x, y)
            extents[label].add(x, last - y * width, y)
    return extents


def _split_rows(start, end, width):
    """Cut a run of equal pixels at the ends of the rows."""
    pieces = []
    while start // width < (end - 1) // width:
        stop = (start // width + 1) * width
        pieces.append((start, stop))
        start = stop
    pieces.append((start, end))
    return pieces


def _outline(band, label, extent):
    """Give a traced polygon where that is the label exactly, else a composite."""
    wand = Wand(band)
    wand.autoOutline(
        extent.first[0], extent.first[1], float(label), float(label), Wand.EIGHT_CONNECTED
    )
    roi = PolygonRoi(wand.xpoints, wand.ypoints, wand.npoints, Roi.TRACED_ROI)
    mask = roi.getMask()
    box = roi.getBounds()
    n_inside = mask.getHistogram()[255] if mask is not None else box.width * box.height
    if n_inside == extent.count:
        band.setRoi(roi)
        is_whole = band.getHistogram()[label] == extent.count
        band.resetRoi()
        if is_whole:
            return roi
    band.setRoi(extent.box)
    part = band.crop()
    band.resetRoi()
    part.setThreshold(float(label), float(label), ImageProcessor.NO_LUT_UPDATE)
    roi = ThresholdToSelection().convert(part)
    roi.setLocation(extent.box.x, extent.box.y)
    return roi


def _pad(number, largest):
    return "{:0{}d}".format(number, len("{:d}".format(largest)))


def _no_labels(image, fact):
    return Problem(
        "{} is no label image: {}.".format(image.getTitle(), fact),
        "A label image is grey, with 0 for background and a whole number for each object.",
        "labels",
    )
