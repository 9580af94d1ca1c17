"""Files of a result: label TIFF, ROI archive, CSV; each complete or not there."""

from __future__ import unicode_literals

import uuid

from ij.io import FileSaver, TiffEncoder
from java.io import BufferedOutputStream, File, FileOutputStream, IOException
from java.nio.file import Files, Paths, StandardCopyOption

from cellseg_jy.problems import Problem
from cellseg_jy.texts import to_bytes

ENDINGS = {
    "labels": "_labels.tif",
    "rois": "_rois.zip",
    "overlay": "_overlay.png",
    "table": "_objects.csv",
    "tracks": "_tracks.csv",
    "geojson": "_objects.geojson",
    "run": "_run.json",
}
"""How the files of one image end, as those of ``cellseg segment`` do."""

_TIFF_LIMIT_BYTES = 4294967295 - 65536


def check_folder(folder):
    """Make a folder if needed and make sure that files can be written there.

    Raises
    ------
    Problem
        They cannot.
    """
    path = File(folder)
    try:
        Files.createDirectories(path.toPath())
        probe = Files.createTempFile(path.toPath(), ".cellseg-", ".tmp", [])
        Files.delete(probe)
    except IOException as error:
        raise _cannot_write(folder, error)


def write_bytes(path, data):
    """Write a file under a temporary name, then give it its own; an existing one is replaced."""
    _write(path, lambda stream: stream.write(data))


def write_text(path, text):
    """Write a text in UTF-8; see `write_bytes`."""
    write_bytes(path, to_bytes(text))


def write_tiff(path, image):
    """Write an image as ImageJ's own TIFF, with calibration; see `write_bytes`.

    Raises
    ------
    Problem
        It cannot be written, or is larger than such a file can be.
    """
    info = image.getFileInfo()
    stack = image.getStack()
    size = info.width * info.height * info.getBytesPerPixel() * stack.getSize()
    if size > _TIFF_LIMIT_BYTES:
        raise Problem(
            "The labels have {:.1f} GB; a TIFF of ImageJ holds up to 4.3 GB.".format(size / 1e9),
            "Use `cellseg segment` for this image, which writes BigTIFF.",
            "too-large",
        )
    info.nImages = stack.getSize()
    info.pixels = stack.getImageArray() if info.nImages > 1 else image.getProcessor().getPixels()
    info.description = FileSaver(image).getDescriptionString()
    _write(path, TiffEncoder(info).write)


def remove(path):
    """Remove a file, if it is there.

    Raises
    ------
    Problem
        It cannot be removed.
    """
    try:
        Files.deleteIfExists(Paths.get(path, []))
    except IOException as error:
        raise _cannot_write(path, error)


def _write(path, write):
    target = Paths.get(path, [])
    temporary = target.resolveSibling(".cellseg-{}.tmp".format(uuid.uuid4().hex[:8]))
    try:
        stream = BufferedOutputStream(FileOutputStream(temporary.toFile()))
        try:
            write(stream)
        finally:
            stream.close()
        Files.move(temporary, target, [StandardCopyOption.REPLACE_EXISTING])
    except IOException as error:
        raise _cannot_write(path, error)
    finally:
        if Files.exists(temporary, []):
            Files.delete(temporary)


def _cannot_write(path, error):
    reason = error.getMessage() or error.getClass().getSimpleName()
    kind = error.getClass().getSimpleName()
    if kind == "AccessDeniedException":
        reason = "there is no permission to write there"
    elif kind == "FileAlreadyExistsException":
        reason = "there is a file of that name"
    return Problem(
        "{} cannot be written: {}.".format(path, reason),
        "Choose a folder that you may write to.",
        "write",
    )
