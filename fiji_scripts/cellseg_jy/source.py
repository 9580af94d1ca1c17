"""An open image as the engine gets it: its pixels, axes, channel names and calibration."""

from __future__ import unicode_literals

import re

import jarray
from ij import CompositeImage, ImagePlus, WindowManager
from ij.io import FileInfo
from java.awt import Rectangle
from java.awt.image import IndexColorModel
from java.io import File, IOException
from java.lang import Thread
from javax.imageio import ImageIO

from cellseg_jy.problems import Problem

_UNIT_UM = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "micron": 1.0,
    "um": 1.0,
    "nm": 1e-3,
    "inch": 25400.0,
    "angstrom": 1e-4,
    "pm": 1e-6,
}
_LONG_UNITS = (
    (r"microns|micromet(er|re)s?|\u00b5m|\u03bcm|\\u00b5m", "micron"),
    (r"nanomet(er|re)s?", "nm"),
    (r"millimet(er|re)s?", "mm"),
    (r"centimet(er|re)s?", "cm"),
    (r"met(er|re)s?", "m"),
    (r"inches|in", "inch"),
    (r"\u00e5", "angstrom"),
)
_DEPTH = re.compile(
    r"^\s*spacing\s*=|spacing between slices|slice thickness|PhysicalSizeZ|voxel ?depth",
    re.IGNORECASE | re.MULTILINE,
)
"""What a file calls the distance of its planes."""
SIGN_BIT = 0x8000
"""What ImageJ keeps signed 16-bit numbers higher by."""


def find_image(title=""):
    """Give the image of that title, or the current one.

    Raises
    ------
    Problem
        There is none.
    """
    if title:
        image = WindowManager.getImage(title)
        if image is None:
            raise Problem(
                "No open image is called {}.".format(title),
                "Open are: {}.".format(", ".join(WindowManager.getImageTitles()) or "none"),
                "no-image",
            )
        return image
    if Thread.currentThread().getName().startswith("SciJava"):
        # A thread of a pool: what is "current" here was left behind by an earlier script.
        WindowManager.setTempCurrentImage(None)
    image = WindowManager.getCurrentImage()
    if image is None:
        raise Problem("No image is open.", "Open the image to segment first.", "no-image")
    return image


def file_path(image):
    """Give the path of the file that an image itself was opened from, or nothing."""
    info = image.getOriginalFileInfo()
    if info is None or not info.fileName or not info.directory:
        return ""
    file = File(info.directory, info.fileName)
    return file.getCanonicalPath() if file.isFile() else ""


def whole_of(image):
    """Give the rectangle that an image fills."""
    return Rectangle(0, 0, image.getWidth(), image.getHeight())


def is_signed(image):
    """Say whether the numbers of an image are signed ones of 16 bits."""
    return image.getBitDepth() == 16 and image.getLocalCalibration().isSigned16Bit()


class Source(object):
    """An image, or a rectangle of it, ready to be written for the engine.

    Parameters
    ----------
    image
        ImagePlus.
    bounds
        Rectangle of it, or None for all.

    Attributes
    ----------
    axes, shape, dtype
        Of the array: one letter of ``TZCSYX`` per length; ``S`` are red, green and blue.
    n_channels, n_slices, n_frames
        Of the image.
    """

    def __init__(self, image, bounds=None):
        self.image = image
        whole = whole_of(image)
        self.bounds = whole if bounds is None else whole.intersection(bounds)
        self.is_part = not self.bounds.equals(whole)
        _, _, self.n_channels, self.n_slices, self.n_frames = image.getDimensions()
        self._is_rgb = image.getBitDepth() == 24 or _shows_palette(image)
        self._is_signed = is_signed(image)
        self._request = None
        self._set_axes()

    def _set_axes(self):
        is_colour_file = _is_colour_file(self.image) and self.n_channels == 3
        lengths = [("T", self.n_frames), ("Z", self.n_slices)]
        lengths.append(("S" if is_colour_file else "C", self.n_channels))
        lengths = [(letter, length) for letter, length in lengths if length > 1]
        if self._is_rgb:
            lengths.append(("S", 3))
        lengths += [("Y", self.bounds.height), ("X", self.bounds.width)]
        self.axes = "".join(letter for letter, _ in lengths)
        self.shape = [length for _, length in lengths]
        depth = 8 if self._is_rgb else self.image.getBitDepth()
        self.dtype = {8: "|u1", 16: "<i2" if self._is_signed else "<u2", 32: "<f4"}[depth]

    def planes(self):
        """Yield the pixels plane by plane, in the order of the stack; colours one after another.

        Raises
        ------
        Problem
            The image was closed meanwhile.
        """
        stack = self.image.getStack()
        for number in range(1, self.n_channels * self.n_slices * self.n_frames + 1):
            if self.is_part or self._is_rgb or self._is_signed:
                processor = stack.getProcessor(number)
                if processor is None:
                    raise _closed(self.image)
                for pixels in self._converted(processor):
                    yield pixels
                continue
            pixels = stack.getPixels(number)
            if pixels is None:
                raise _closed(self.image)
            yield pixels

    def _converted(self, processor):
        if self.is_part:
            processor.setRoi(self.bounds)
            processor = processor.crop()
        if self._is_signed:
            processor = processor.duplicate()
            processor.xor(SIGN_BIT)
        if not self._is_rgb:
            return [processor.getPixels()]
        colours = [jarray.zeros(processor.getPixelCount(), str("b")) for _ in range(3)]
        processor.convertToRGB().getRGB(*colours)
        return colours

    def request(self):
        """Give what a request says of the image, beside its array; also once it is closed."""
        if self._request is None:
            self._request = {
                "axes": self.axes,
                "channel_names": channel_names(self.image) if "C" in self.axes else [],
                "pixel_size_um": pixel_size_um(self.image),
                "title": self.image.getTitle()[:500],
            }
        return self._request


def channel_names(image):
    """Give the names of the channels: first lines of the slice labels, if the same everywhere."""
    stack, n_channels = image.getStack(), image.getNChannels()
    if stack.isVirtual():
        return []
    labels = [stack.getSliceLabel(n) or "" for n in range(1, stack.getSize() + 1)]
    lines = [label.strip().split("\n")[0].strip() for label in labels]
    names = lines[:n_channels]
    is_named = all(names) and len(set(names)) == n_channels
    return names if is_named and lines == names * (len(lines) // n_channels) else []


def pixel_size_um(image):
    """Give the size of a pixel in um along Z, Y, X, as far as the calibration has a length.

    A depth of 1 is also what ImageJ assumes where nothing says how far planes are apart.
    """
    calibration = image.getCalibration()
    found = {}
    for letter, size, unit in (
        ("X", calibration.pixelWidth, calibration.getXUnit()),
        ("Y", calibration.pixelHeight, calibration.getYUnit()),
        ("Z", calibration.pixelDepth, calibration.getZUnit()),
    ):
        unit_um = _unit_um(unit)
        is_there = letter != "Z" or (image.getNSlices() > 1 and _has_depth(image))
        if unit_um and is_there and 0 < abs(size) * unit_um <= 1e9:
            found[letter] = abs(size) * unit_um
    return found


def _has_depth(image):
    """Say whether the distance of the planes is more than a default of ImageJ."""
    calibration = image.getCalibration()
    if calibration.pixelDepth != 1.0 or calibration.pixelWidth == 1.0:
        return True
    info = image.getOriginalFileInfo()
    description = info.description if info is not None else ""
    return _DEPTH.search((description or "") + "\n" + (image.getInfoProperty() or "")) is not None


def _unit_um(unit):
    name = (unit or "").strip().lower()
    for pattern, short in _LONG_UNITS:
        if re.match("(?:" + pattern + r")\Z", name):
            name = short
    return _UNIT_UM.get(name)


def _is_colour_file(image):
    """Say whether the channels are the red, green and blue of a file with 16 bits per colour."""
    info = image.getOriginalFileInfo()
    return info is not None and info.fileType in (FileInfo.RGB48, FileInfo.RGB48_PLANAR)


def _shows_palette(image):
    """Say whether the colours of an 8-bit image are its content, as in a palette PNG.

    They are after Image > Type > 8-bit Color, and where its file has them. In a file of ImageJ,
    and where they rise with the value, they only tint intensities, as tables that users choose.
    """
    if image.getBitDepth() != 8 or isinstance(image, CompositeImage):
        return False
    processor = image.getProcessor()
    if not processor.isColorLut():
        return False
    # ImageJ 1.54 says so of images that it converted, not of those that it opened.
    if image.getType() == ImagePlus.COLOR_256 and not processor.isPseudoColorLut():
        return True
    info = image.getOriginalFileInfo()
    if info is None or (info.description or "").startswith("ImageJ"):
        return False
    stack = image.getStack()
    planes = (stack.getProcessor(n) for n in range(1, stack.getSize() + 1))
    used = int(max(plane.getStatistics().max for plane in planes)) + 1
    tables = [table[:used] for table in _colours(processor.getLut())]
    if tables != [table[:used] for table in _file_colours(info)]:
        return False
    return any(a > b for table in tables for a, b in zip(table, table[1:]))


def _file_colours(info):
    """Give the reds, greens and blues of the palette that a file has, or nothing."""
    if info.lutSize > 0 and info.reds is not None:
        return [[byte & 0xFF for byte in table] for table in (info.reds, info.greens, info.blues)]
    file = File(info.directory or "", info.fileName or "")
    try:
        picture = ImageIO.read(file) if file.isFile() else None
    except IOException:
        return []
    model = picture.getColorModel() if picture is not None else None
    return _colours(model) if isinstance(model, IndexColorModel) else []


def _colours(model):
    numbers = range(model.getMapSize())
    return [[read(n) for n in numbers] for read in (model.getRed, model.getGreen, model.getBlue)]


def _closed(image):
    return Problem(
        "The image {} was closed while it was being sent.".format(image.getTitle()),
        "Keep it open until it is segmented.",
        "closed",
    )
