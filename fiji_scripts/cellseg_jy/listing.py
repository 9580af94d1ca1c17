"""The images of a folder, and what their results are called."""

from __future__ import unicode_literals

import re
from collections import Counter

from ij import IJ, ImagePlus, WindowManager
from ij.io import Opener
from ij.plugin import AVI_Reader
from ij.process import ByteProcessor
from java.io import File
from java.lang import OutOfMemoryError, Throwable
from java.security import MessageDigest

from cellseg_jy import whole
from cellseg_jy.outputs import ENDINGS
from cellseg_jy.problems import Cancelled, Problem, describe_error, ends_macro, tell
from cellseg_jy.texts import to_bytes, to_hex

try:
    from loci.formats import ImageReader
    from loci.plugins import BF
except ImportError:  # Bio-Formats is not there: ImageJ's own formats remain
    ImageReader = BF = None

_OWN_TYPES = (
    Opener.TIFF,
    Opener.DICOM,
    Opener.FITS,
    Opener.PGM,
    Opener.JPEG,
    Opener.GIF,
    Opener.BMP,
    Opener.PNG,
    Opener.TIFF_AND_DICOM,
    Opener.AVI,
)
_IMAGE_ENDINGS = {"tif", "tiff", "lsm", "stk", "png", "jpg", "jpeg", "gif", "bmp", "pgm", "ppm"}
_IMAGE_ENDINGS |= {"dcm", "dicom", "fits", "fit", "avi"}
"""A file that is called so and cannot be opened is a failure; others are no images."""
_MICROSCOPE_ENDINGS = {"czi", "dm3", "dm4", "dv", "flex", "ics", "ids", "ims", "ipl", "lei", "lif"}
_MICROSCOPE_ENDINGS |= {"mrc", "msr", "nd2", "ndpi", "obf", "oib", "oif", "r3d", "scn", "sld"}
_MICROSCOPE_ENDINGS |= {"svs", "vsi", "zvi"}
"""Images for Bio-Formats; it says so of a part of them only after a look into the file."""
_NAMED = 5


def find_images(folder, out):
    """Give the paths of the images in a folder and its sub-folders, and their output names.

    Parameters
    ----------
    folder
        What to search, linked folders too, each once; what is hidden is left out.
    out
        Results inside it are never taken for images.

    Returns
    -------
    List of (path, name): the name is the path below the folder without ending; with it, and then
    with a part of a hash, where two would be alike.

    Raises
    ------
    Problem
        There is no such folder, or no image in it, or one that cannot be read.
    """
    root = File(folder)
    if not root.isDirectory():
        raise Problem("There is no folder {}.".format(folder), code="input")
    top = root.toPath().toAbsolutePath().normalize()
    files = list(_walk(root, {root.getCanonicalPath(), File(out).getCanonicalPath()}))
    paths = [path for path in files if _is_image(path)]
    _tell_left_out([path for path in files if _ending(path) in _MICROSCOPE_ENDINGS])
    if not paths:
        raise Problem(
            "There is no image in the folder {} that can be opened here.".format(folder),
            "With Bio-Formats (part of Fiji) many more formats can.",
            "input",
        )
    relative = [top.relativize(File(path).toPath().toAbsolutePath().normalize()) for path in paths]
    texts = [path.toString().replace("\\", "/") for path in relative]
    return list(zip(paths, _distinct_names(paths, texts)))


def open_image(path):
    """Open an image without showing it: by ImageJ, or by Bio-Formats where that is needed.

    Returns
    -------
    Tuple of the ImagePlus and of sentences that the user should know.

    Raises
    ------
    Problem
        It cannot be opened.
    Cancelled
        Escape was pressed before or meanwhile; ImageJ's readers forget the one, and give nothing
        or a first plane after the other.
    """
    remarks = []
    _check_escape()
    _let_errors_pass()
    try:
        whole.check(path)
        if _is_for_imagej(path):
            is_avi = Opener().getFileType(path) == Opener.AVI
            image = _open_avi(path) if is_avi else IJ.openImage(path)
            remarks = whole.describe_pages(path)
        else:
            opened = BF.openImagePlus(path)
            image = opened[0] if opened else None
            remarks = _describe_series(path)
    except (OutOfMemoryError, Problem):
        raise
    except (Exception, Throwable) as error:
        if ends_macro(error):
            raise
        raise Problem(
            "The file {} cannot be read: {}.".format(path, describe_error(error)), code="read"
        )
    finally:
        IJ.redirectErrorMessages(False)
    _check_escape()
    if image is None:
        raise Problem(
            "The file {} cannot be opened: it is damaged, or of a kind that is not known "
            "here.".format(path),
            code="read",
        )
    return image, remarks


def _open_avi(path):
    """Open an AVI whole or not at all, and without the dialog that ImageJ shows for each."""
    reader = AVI_Reader()
    stack = reader.makeStack(path, 1, 0, True, False, False)
    error = reader.getErrorText()
    if error:
        raise Problem("The file {} cannot be read: {}".format(path, error), code="read")
    return ImagePlus(File(path).getName(), stack) if stack is not None else None


def _check_escape():
    if IJ.escapePressed():
        raise Cancelled()


def _is_for_imagej(path):
    """Say whether ImageJ itself opens a file; it would take channels of an OME-TIFF for planes.

    Raises
    ------
    Problem
        It is such an OME-TIFF, and Bio-Formats is not there.
    """
    is_own = BF is None or Opener().getFileType(path) in _OWN_TYPES
    if not is_own or not whole.is_ome_stack(path):
        return is_own
    if BF is None:
        raise Problem(
            "The file {} is an OME-TIFF of several images, channels, planes or time points, which "
            "ImageJ alone cannot tell apart.".format(path),
            "Use Fiji, which has Bio-Formats, or `cellseg segment`.",
            "read",
        )
    return False


def _describe_series(path):
    """Say in one sentence if a file holds more images than the one that is opened."""
    reader = ImageReader()
    try:
        reader.setFlattenedResolutions(False)
        reader.setId(path)
        count = reader.getSeriesCount()
    finally:
        reader.close()
    if count < 2:
        return []
    text = "The file {} holds {} images (series); the first is read."
    return [text.format(File(path).getName(), count)]


def _let_errors_pass():
    """Send the errors of ImageJ's readers into the log: a dialog would stop the whole folder.

    So would a macro that runs it: ImageJ ends the one it knows at any error. It forgets it when
    it is asked for the current image, which must be there.
    """
    before = WindowManager.getTempCurrentImage()
    WindowManager.setTempCurrentImage(ImagePlus("", ByteProcessor(1, 1)))
    IJ.getImage(None)
    WindowManager.setTempCurrentImage(before)
    IJ.redirectErrorMessages(True)


def _distinct_names(paths, texts):
    """Give names of outputs that are not alike, as ``cellseg segment`` does.

    Parameters
    ----------
    paths, texts
        Of each image, and below the folder that is searched.
    """

    def with_ending(index):
        stem = without_ending(texts[index])
        return stem + texts[index][len(stem) :].replace(".", "_")

    def with_hash(index):
        file = File(paths[index])
        place = File(file.getAbsoluteFile().getParentFile().getCanonicalPath(), file.getName())
        digest = MessageDigest.getInstance("SHA-256").digest(to_bytes(place.getPath()))
        return "{}_{}".format(with_ending(index), to_hex(digest)[:12])

    names = [without_ending(text) for text in texts]
    for scheme in (with_ending, with_hash):
        counts = Counter(name.lower() for name in names)
        names = [
            scheme(index) if counts[name.lower()] > 1 else name for index, name in enumerate(names)
        ]
    return names


def _walk(folder, seen):
    """Yield the files below a folder in natural order.

    Parameters
    ----------
    folder
        File.
    seen
        Set of the paths of folders to pass over; those that are searched are added.

    Raises
    ------
    Problem
        A folder cannot be read.
    """
    files = folder.listFiles()
    if files is None:
        raise Problem(
            "The folder {} cannot be read.".format(folder.getPath()),
            "Ask for the permission, or give the folders that can be read one by one.",
            "input",
        )
    for entry in sorted(files, key=lambda file: _natural(file.getName())):
        if entry.getName().startswith("."):
            continue
        if entry.isDirectory():
            place = entry.getCanonicalPath()
            if place not in seen:
                seen.add(place)
                for path in _walk(entry, seen):
                    yield path
        elif not _is_output(entry):
            yield entry.getPath()


def _natural(name):
    """Give what sorts 2 before 10."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if part.isdigit() else part for part in parts], name


def _is_output(entry):
    """Say whether a file is one that an earlier run wrote beside its run.json."""
    name = entry.getName()
    if name == "summary.csv":
        return True
    return any(
        name.endswith(ending)
        and File(entry.getParentFile(), name[: -len(ending)] + ENDINGS["run"]).exists()
        for ending in ENDINGS.values()
    )


def _is_image(path):
    if _ending(path) in _IMAGE_ENDINGS:
        return True
    if Opener().getFileType(path) in _OWN_TYPES:
        return True
    if ImageReader is None:
        return False
    return _ending(path) in _MICROSCOPE_ENDINGS or _is_known_to_bioformats(path)


def _ending(name):
    return name.lower().rpartition(".")[2]


def _tell_left_out(paths):
    """Name the images that only Bio-Formats could open, where it is not there."""
    if paths and ImageReader is None:
        names = ", ".join(File(path).getName() for path in paths[:_NAMED])
        more = " and {} more".format(len(paths) - _NAMED) if len(paths) > _NAMED else ""
        tell(
            "Left out, since only Bio-Formats (part of Fiji) opens them: {}{}.".format(names, more)
        )


def _is_known_to_bioformats(path):
    reader = ImageReader()
    try:
        return reader.isThisType(path, False)
    finally:
        reader.close()


def title_stem(title):
    """Give the title of an image without the ending of a file name, where it has one."""
    is_file_name = _ending(title) in _IMAGE_ENDINGS | _MICROSCOPE_ENDINGS
    return without_ending(title) if is_file_name else title


def without_ending(text):
    """Give the path of a file without its ending."""
    lower = text.lower()
    for ending in (".ome.tif", ".ome.tiff"):
        if lower.endswith(ending):
            return text[: -len(ending)]
    head, dot, tail = text.rpartition(".")
    return head if dot and "/" not in tail and not head.endswith("/") and head else text
