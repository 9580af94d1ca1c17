"""Many traced ROIs of ImageJ at once: their bytes, and the archive that holds them.

What roifile and zipfile would write (tests/unit/test_roi_archive.py compares the bytes and the
entries), a few times faster: Fiji waits for it.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

_HEADER_BYTES = 64
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_ZIP_DATE = (1 << 5) | 1  # 1 January 1980, as MS-DOS writes it
_ZIP_VERSION = 20
_MAX_ZIP_ENTRIES = 65_535
_MAX_ZIP_BYTES = 1 << 31

_TEMPLATE = ImagejRoi(roitype=ROI_TYPE.TRACED, n_coordinates=0).tobytes()[: 2 * _HEADER_BYTES]

Place = tuple[int, int, int]
"""Position, Z position and T position of a ROI, 0 where it has none."""


def encode_traced(
    loops: Sequence[np.ndarray], names: Sequence[str], places: Sequence[Place]
) -> list[bytes]:
    """Give the bytes of one traced ROI for each loop.

    Parameters
    ----------
    loops
        int (n, 2) each: corners (y, x), 0 to 65,535; at most 65,535 of them.
    names, places
        Of each.
    """
    if not loops:
        return []
    lengths = np.array([len(loop) for loop in loops])
    starts = np.concatenate(([0], np.cumsum(lengths)))
    corners = np.concatenate(loops)
    first = np.minimum.reduceat(corners, starts[:-1])
    last = np.maximum.reduceat(corners, starts[:-1])
    offsets = (corners - np.repeat(first, lengths, axis=0)).astype(">u2")
    y, x = offsets[:, 0].tobytes(), offsets[:, 1].tobytes()
    boxes = np.column_stack([first, last]).tolist()
    ends = (2 * starts).tolist()
    header = bytearray(_TEMPLATE[:_HEADER_BYTES])
    tail = bytearray(_TEMPLATE[_HEADER_BYTES:])
    encoded = []
    for n, (name, place) in enumerate(zip(names, places, strict=True)):
        begin, end = ends[n], ends[n + 1]
        behind = _HEADER_BYTES + 2 * (end - begin)
        struct.pack_into(">5H", header, 8, *boxes[n], (end - begin) // 2)
        struct.pack_into(">2i", header, 56, place[0], behind)
        struct.pack_into(">2i", tail, 8, place[1], place[2])
        struct.pack_into(">2i", tail, 16, behind + _HEADER_BYTES, len(name))
        text = name.encode("utf-16-be")
        encoded.append(b"".join((header, x[begin:end], y[begin:end], tail, text)))
    return encoded


def make_archive(entries: Sequence[tuple[str, bytes]]) -> bytes:
    """Give a ZIP archive of (name, content), stored and not compressed, the same for the same.

    Archives beyond the limits of the plain format are left to zipfile.
    """
    size = sum(len(content) for _, content in entries)
    if len(entries) > _MAX_ZIP_ENTRIES or size > _MAX_ZIP_BYTES:
        return _make_large_archive(entries)
    parts: list[bytes] = []
    directory: list[bytes] = []
    position = 0
    for name, content in entries:
        encoded = name.encode("ascii")
        about = struct.pack(
            "<5H3L2H",
            *(_ZIP_VERSION, 0, 0, 0, _ZIP_DATE),
            *(zlib.crc32(content), len(content), len(content), len(encoded), 0),
        )
        directory += (
            b"PK\x01\x02" + struct.pack("<H", _ZIP_VERSION) + about,
            struct.pack("<3H2L", 0, 0, 0, 0, position),
            encoded,
        )
        parts += (b"PK\x03\x04" + about, encoded, content)
        position += 30 + len(encoded) + len(content)
    listing = b"".join(directory)
    n = len(entries)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, n, n, len(listing), position, 0)
    return b"".join((*parts, listing, end))


def _make_large_archive(entries: Sequence[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)
    return stream.getvalue()
