"""Label images in ImageJ: 16-bit up to 65,535 objects, then 32-bit, with a look-up table."""

from __future__ import unicode_literals

import jarray
from ij import ImagePlus, ImageStack, WindowManager
from ij.process import LUT, FloatProcessor, ShortProcessor
from java.awt import Color

from cellseg_jy.problems import tell

ENDING = "-labels"
MAX_SHORT = 65535
MAX_EXACT_FLOAT = 1 << 24
_COLOURS = 256
LAST_OWN_COLOUR = _COLOURS - 1
_HUE_STEP = 0.2775
_SATURATIONS = (1.0, 0.45, 0.75)
_BRIGHTNESSES = (1.0, 0.85)


def make_label_image(result, source):
    """Give the labels of a whole image; what was segmented only in part is 0 elsewhere.

    Parameters
    ----------
    result
        `cellseg_jy.engine.Result`; its planes are taken over.
    source
        `cellseg_jy.source.Source` it was made from.
    """
    width, height = source.image.getWidth(), source.image.getHeight()
    stack = ImageStack(width, height)
    for pixels in result.planes:
        part = _make_processor(source.bounds.width, source.bounds.height, pixels)
        if source.is_part:
            kind = type(part)
            whole = kind(width, height)
            whole.insert(part, source.bounds.x, source.bounds.y)
            part = whole
        stack.addSlice("", part)
    return finish(stack, source.image, source.n_slices, source.n_frames, result.largest_label)


def finish(stack, image, n_slices, n_frames, largest):
    """Give planes of labels as an image: title, calibration and dimensions of the input."""
    labels = ImagePlus(image.getTitle() + ENDING, stack)
    labels.setDimensions(1, n_slices, n_frames)
    if n_frames > 1:
        labels.setOpenAsHyperStack(True)
    calibration = image.getCalibration().copy()
    calibration.disableDensityCalibration()
    labels.setCalibration(calibration)
    colour(labels, largest)
    return labels


def colour(labels, largest):
    """Set the look-up table; up to 255 objects each has a colour of its own.

    Above that ImageJ gives several numbers one colour: it stretches the table over all of them.
    """
    lut = make_lut()
    lut.min, lut.max = 0.0, float(max(largest, _COLOURS - 1))
    labels.setLut(lut)


def make_lut():
    """Give the look-up table: 0 black, then colours that differ much from one to the next."""
    parts = [jarray.zeros(_COLOURS, str("b")) for _ in range(3)]
    for index in range(1, _COLOURS):
        shade = make_colour(index)
        for part, value in zip(parts, (shade.getRed(), shade.getGreen(), shade.getBlue())):
            part[index] = value - 256 if value > 127 else value
    return LUT(*parts)


def make_colour(index):
    """Give a bright colour that differs much from those of the twelve numbers before and after."""
    hue = index * _HUE_STEP % 1.0
    saturation = _SATURATIONS[index % len(_SATURATIONS)]
    return Color.getHSBColor(hue, saturation, _BRIGHTNESSES[index % len(_BRIGHTNESSES)])


def show(labels):
    """Show an image under its fixed title; an earlier one of that title gets another.

    For this thread the current image stays what it was: a thread of a pool that kept the new
    image would hand it to the next script.
    """
    title = labels.getTitle()
    earlier = WindowManager.getImage(title)
    if earlier is not None:
        earlier.setTitle(_free_title(title))
        tell("The earlier {} is called {} now.".format(title, earlier.getTitle()))
    before = WindowManager.getTempCurrentImage()
    labels.show()
    WindowManager.setTempCurrentImage(before)


def _free_title(title):
    number = 1
    while WindowManager.getImage("{}-{}".format(title, number)) is not None:
        number += 1
    return "{}-{}".format(title, number)


def _make_processor(width, height, pixels):
    if pixels.typecode == "h":
        return ShortProcessor(width, height, pixels, None)
    return FloatProcessor(width, height, pixels)
