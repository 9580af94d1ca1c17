"""The images of a folder, and what their results are called."""

from __future__ import unicode_literals

import re

from ij import IJ, ImagePlus, WindowManager
from ij.io import FileInfo, Opener, TiffDecoder
from ij.process import ByteProcessor
from java.io import File, IOException
from java.nio.file import Files

from cellseg_jy.outputs import ENDINGS
from cellseg_jy.problems import Problem

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
_PLAIN_TYPES = (
    FileInfo.GRAY8,
    FileInfo.COLOR8,
    FileInfo.GRAY16_SIGNED,
    FileInfo.GRAY16_UNSIGNED,
    FileInfo.GRAY32_INT,
    FileInfo.GRAY32_UNSIGNED,
    FileInfo.GRAY32_FLOAT,
    FileInfo.RGB,
    FileInfo.RGB48,
)
"""What has whole bytes for each pixel, one image after another."""
_IMAGE_ENDINGS = {"tif", "tiff", "lsm", "stk", "png", "jpg", "jpeg", "gif", "bmp", "pgm", "ppm"}
_IMAGE_ENDINGS |= {"dcm", "dicom", "fits", "fit", "avi"}
"""A file that is called so and cannot be opened is a failure; others are no images."""


def find_images(folder, out):
    """Give the paths of the images in a folder and its sub-folders, and their output names.

    Parameters
    ----------
    folder
        What to search; what is hidden is left out.
    out
        Results inside it are never taken for images.

    Returns
    -------
    List of (path, name): the name is the path below the folder without ending; with it where two
    would be alike.

    Raises
    ------
    Problem
        There is no such folder, or no image in it.
    """
    root = File(folder)
    if not root.isDirectory():
        raise Problem("There is no folder {}.".format(folder), code="input")
    top = root.toPath().toAbsolutePath().normalize()
    skipped = File(out).toPath().toAbsolutePath().normalize()
    paths = [path for path in _walk(root, skipped) if _is_image(path)]
    if not paths:
        raise Problem(
            "There is no image in the folder {} that can be opened here.".format(folder),
            "With Bio-Formats (part of Fiji) many more formats can.",
            "input",
        )
    relative = [top.relativize(File(path).toPath().toAbsolutePath().normalize()) for path in paths]
    texts = [path.toString().replace("\\", "/") for path in relative]
    names = [_without_ending(text) for text in texts]
    lower = [name.lower() for name in names]
    for index, text in enumerate(texts):
        if lower.count(lower[index]) > 1:
            stem = names[index]
            names[index] = stem + text[len(stem) :].replace(".", "_")
    return list(zip(paths, names))


def open_image(path):
    """Open an image without showing it: by ImageJ, or by Bio-Formats where that is needed.

    Raises
    ------
    Problem
        It cannot be opened.
    """
    _let_errors_pass()
    try:
        _check_whole(path)
        if Opener().getFileType(path) in _OWN_TYPES or BF is None:
            image = IJ.openImage(path)
        else:
            opened = BF.openImagePlus(path)
            image = opened[0] if opened else None
    finally:
        IJ.redirectErrorMessages(False)
    if image is None:
        raise Problem(
            "The file {} cannot be opened: it is damaged, or of a kind that is not known "
            "here.".format(path),
            code="read",
        )
    return image


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


def _check_whole(path):
    """Refuse a TIFF whose pixels reach beyond its end; ImageJ would fill them up with zeros."""
    file = File(path)
    if Opener().getFileType(path) not in (Opener.TIFF, Opener.TIFF_AND_DICOM):
        return
    try:
        pages = TiffDecoder(file.getParent() + File.separator, file.getName()).getTiffInfo()
    except IOException:
        return  # of a kind that another reader may know
    for page in pages or []:
        strips = zip(page.stripOffsets or [], page.stripLengths or [])
        end = max([(offset & 0xFFFFFFFF) + length for offset, length in strips] or [0])
        if page.compression <= FileInfo.COMPRESSION_NONE and page.fileType in _PLAIN_TYPES:
            size = page.width * page.height * page.getBytesPerPixel()
            gaps = (page.nImages - 1) * page.getGap()
            end = max(end, page.getOffset() + page.nImages * size + gaps)
        if end > file.length():
            raise Problem(
                "The file {} is truncated: its pixels should reach to byte {:,} but it has {:,} "
                "bytes.".format(path, end, file.length()),
                code="read",
            )


def _walk(folder, skipped):
    """Yield the files below a folder in natural order."""
    entries = sorted(folder.listFiles() or [], key=lambda file: _natural(file.getName()))
    for entry in entries:
        if entry.getName().startswith("."):
            continue
        if entry.isDirectory():
            if entry.toPath().toAbsolutePath().normalize() != skipped and not _is_link(entry):
                for path in _walk(entry, skipped):
                    yield path
        elif not _is_output(entry):
            yield entry.getPath()


def _natural(name):
    """Give what sorts 2 before 10."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if part.isdigit() else part for part in parts], name


def _is_link(entry):
    return Files.isSymbolicLink(entry.toPath())


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
    if path.lower().rpartition(".")[2] in _IMAGE_ENDINGS:
        return True
    if Opener().getFileType(path) in _OWN_TYPES:
        return True
    return ImageReader is not None and _is_known_to_bioformats(path)


def _is_known_to_bioformats(path):
    reader = ImageReader()
    try:
        return reader.isThisType(path, False)
    finally:
        reader.close()


def _without_ending(text):
    lower = text.lower()
    for ending in (".ome.tif", ".ome.tiff"):
        if lower.endswith(ending):
            return text[: -len(ending)]
    head, dot, tail = text.rpartition(".")
    return head if dot and "/" not in tail and not head.endswith("/") and head else text
