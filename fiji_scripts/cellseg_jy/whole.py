"""What a file says of its size: whether it ends too early, and whether it is a stack of OME's."""

from __future__ import unicode_literals

import re

import jarray
from ij.io import FileInfo, Opener, TiffDecoder
from java.io import File, IOException, RandomAccessFile
from java.util.regex import Pattern

from cellseg_jy.problems import Problem
from cellseg_jy.texts import to_text

_TIFF_TYPES = (Opener.TIFF, Opener.TIFF_AND_DICOM)
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
_LATIN = "ISO-8859-1"
_HEAD_BYTES = 1 << 20
_ALL = (1 << 31) - 9  # what an array of Java holds
_MARKER = Pattern.compile("\u00ff+([\u0001-\u00cf\u00d8-\u00fe])")
"""Of a JPEG file; those that lie inside the coded pixels are left out."""
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_PGM_HEADER = re.compile(r"P([56])" + r"(?:\s|#[^\n]*\n)+(\d+)" * 3 + r"\s")
_FITS_BLOCK = 2880
_OME_SIZE = re.compile(r"\bSize([CZT])\s*=\s*[\"'](\d+)")
_OME_IMAGE = re.compile(r"<(?:\w+:)?Image\s")


def check(path):
    """Refuse a file that ends before its pixels do; ImageJ would fill them up.

    TIFF, JPEG, GIF, PGM and FITS are looked at; of other kinds the reader finds it.

    Raises
    ------
    Problem
        It does.
    """
    kind = Opener().getFileType(path)
    try:
        if kind in _TIFF_TYPES:
            _check_length(path, _tiff_end(path))
        elif kind == Opener.PGM:
            _check_length(path, _pgm_end(_read(path, _HEAD_BYTES)))
        elif kind == Opener.FITS:
            _check_length(path, _fits_end(_read(path, _HEAD_BYTES)))
        elif kind in _COMPLETE and not _COMPLETE[kind](_read(path, _ALL)):
            raise Problem(
                "The file {} is truncated: it ends before the image does.".format(path), code="read"
            )
    except IOException:
        return  # of a kind that another reader may know


def is_ome_stack(path):
    """Say whether a TIFF holds images that are told apart by its OME-XML alone."""
    if Opener().getFileType(path) not in _TIFF_TYPES:
        return False
    try:
        pages = _pages(path)
    except IOException:
        return False
    text = (pages[0].description or "") if pages else ""
    if "<OME" not in text and ":OME" not in text:
        return False
    sizes = [(letter, int(size)) for letter, size in _OME_SIZE.findall(text)]
    colours = max(1, pages[0].samplesPerPixel)
    is_stack = any(size > (colours if letter == "C" else 1) for letter, size in sizes)
    return is_stack or len(_OME_IMAGE.findall(text)) > 1


def describe_pages(path):
    """Say in one sentence if a TIFF has pages of several sizes or types.

    ImageJ opens the first page of those alone.
    """
    try:
        pages = _pages(path) if Opener().getFileType(path) in _TIFF_TYPES else []
    except IOException:
        return []
    if len(set((page.width, page.height, page.fileType) for page in pages)) < 2:
        return []
    text = "The file {} holds {} images of different sizes or types; the first is read."
    return [text.format(File(path).getName(), len(pages))]


def _check_length(path, end):
    length = File(path).length()
    if end > length:
        raise Problem(
            "The file {} is truncated: its pixels should reach to byte {:,} but it has {:,} "
            "bytes.".format(path, end, length),
            code="read",
        )


def _pages(path):
    file = File(path)
    return TiffDecoder(file.getParent() + File.separator, file.getName()).getTiffInfo() or []


def _tiff_end(path):
    end = 0
    for page in _pages(path):
        strips = zip(page.stripOffsets or [], page.stripLengths or [])
        end = max([end] + [(offset & 0xFFFFFFFF) + length for offset, length in strips])
        if page.compression <= FileInfo.COMPRESSION_NONE and page.fileType in _PLAIN_TYPES:
            size = page.width * page.height * page.getBytesPerPixel()
            gaps = (page.nImages - 1) * page.getGap()
            end = max(end, page.getOffset() + page.nImages * size + gaps)
    return end


def _read(path, limit):
    """Give the first bytes of a file as letters."""
    file = RandomAccessFile(path, "r")
    try:
        data = jarray.zeros(min(limit, file.length()), str("b"))
        file.readFully(data)
    finally:
        file.close()
    return to_text(data, _LATIN)


def _pgm_end(data):
    """Give where the pixels end; 0 of a file that has them as text."""
    match = _PGM_HEADER.match(data)
    if not match:
        return 0
    kind, width, height, largest = (int(number) for number in match.groups())
    return match.end() + width * height * (3 if kind == 6 else 1) * (2 if largest > 255 else 1)


def _fits_end(data):
    """Give where the pixels of the first image end; 0 where its header is not understood."""
    size, cards = 1, {}
    for start in range(0, len(data), 80):
        name, _, value = data[start : start + 80].partition("=")
        if name.strip() == "END":
            break
        cards[name.strip()] = value.partition("/")[0].strip()
    else:
        return len(data) + 1 if len(data) < _HEAD_BYTES else 0
    try:
        for axis in range(int(cards["NAXIS"])):
            size *= int(cards["NAXIS{}".format(axis + 1)])
        begin = (start // _FITS_BLOCK + 1) * _FITS_BLOCK
        return begin + size * abs(int(cards["BITPIX"])) // 8
    except (KeyError, ValueError):
        return 0


def _jpeg_is_complete(data):
    """Say whether the segments of a JPEG file lead to the end-of-image marker."""
    match = _MARKER.matcher(data)
    position = 2
    while position < len(data) and match.region(position, len(data)).lookingAt():
        marker = ord(match.group(1))
        if marker == _END_OF_IMAGE:
            return True
        end = match.end()
        length = [ord(letter) for letter in data[end : end + 2]]
        if len(length) < 2:
            return False
        position = end + 256 * length[0] + length[1]
        if marker == _START_OF_SCAN:
            if position >= len(data) or not match.region(position, len(data)).find():
                return False
            position = match.start()
    return False


def _gif_is_complete(data):
    """Say whether a GIF file ends with its trailer; zeros may follow it."""
    return data.rstrip("\u0000").endswith(";")


_COMPLETE = {Opener.JPEG: _jpeg_is_complete, Opener.GIF: _gif_is_complete}
