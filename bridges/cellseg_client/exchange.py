"""Arrays on their way: files of the private exchange folder, or bodies of requests."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from cellseg_client.connection import Connection
from cellseg_client.errors import EngineError, FailedError, RefusedError

_CHUNK_BYTES = 1 << 20
_LARGEST_ITEM_BYTES = 8


def check_array(array: Any) -> np.ndarray:
    """Give an array of real numbers.

    Raises
    ------
    RefusedError
        It is something else, or has masked pixels.
    """
    if np.ma.is_masked(array):
        raise RefusedError(
            "The image has masked pixels ({} of {}), and masks are not used. Give the values that "
            "they shall have, for example image.filled(0).".format(
                np.ma.getmaskarray(array).sum(), array.size
            ),
            code="image",
        )
    image: np.ndarray = np.asarray(array)
    if image.dtype.kind not in "buif" or image.dtype.itemsize > _LARGEST_ITEM_BYTES:
        raise RefusedError(
            "The image has dtype {}; integers, booleans and floats of up to 64 bits can be "
            "segmented.".format(image.dtype),
            code="image",
        )
    return image


class LocalExchange:
    """The exchange folders of an engine on this machine.

    Parameters
    ----------
    folders
        The fast one first; an array goes there if more than twice its size is free.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(dict.fromkeys(folders))

    def send(self, array: np.ndarray) -> Tuple[Dict[str, str], List[Path]]:
        """Write an array and give how the request names it, and what to remove at the end.

        Raises
        ------
        EngineError
            There is no space for it; nothing is left behind.
        """
        fast, large = self._folders[0], self._folders[-1]
        is_roomy = fast != large and shutil.disk_usage(str(fast)).free > 2 * array.nbytes
        for folder in [fast, large] if is_roomy else [large]:
            path = folder / "{}.npy".format(uuid.uuid4().hex)
            try:
                _write(path, array)
            except OSError as error:
                if not _is_full(error):
                    raise
                continue
            return {"array": path.name}, [path]
        raise _full(large, array.nbytes)

    def array(self, file: Dict[str, Any]) -> np.ndarray:
        """Read an array of a result and remove its file."""
        path = self._path(file)
        try:
            array: np.ndarray = np.load(str(path), allow_pickle=False)
            return array
        finally:
            _remove(path)

    def data(self, file: Dict[str, Any]) -> bytes:
        """Read a file of a result and remove it."""
        path = self._path(file)
        try:
            return path.read_bytes()
        finally:
            _remove(path)

    def _path(self, file: Dict[str, Any]) -> Path:
        path = Path(str(file.get("path", "")))
        if path.parent not in self._folders:
            raise FailedError(
                "The engine names a file outside its exchange folder: {}".format(path)
            )
        return path


class RemoteExchange:
    """Arrays as bodies of requests, for an engine on another machine."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, array: np.ndarray) -> Tuple[Dict[str, str], List[Path]]:
        """Upload an array and give how the request names it."""
        if not (array.flags.c_contiguous or array.flags.f_contiguous):
            array = np.ascontiguousarray(array)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, np.lib.format.header_data_from_array_1_0(array)
        )
        head = header.getvalue()
        self._check_size(len(head) + array.nbytes)
        answer = self._connection.open(
            "POST",
            "/v1/uploads",
            body=_chunks(head, array),
            length=len(head) + array.nbytes,
            content_type="application/octet-stream",
        )
        with answer:
            return {"upload": str(answer.json()["upload"])}, []

    def _check_size(self, size: int) -> None:
        """Ask before sending: an engine that refuses in the middle can hardly be heard."""
        limit = self._connection.ask("GET", "/v1/health").get("upload_limit_bytes")
        if isinstance(limit, int) and size > limit:
            raise RefusedError(
                "The image has {:,.1f} MB; this engine takes up to {:,.1f} MB.".format(
                    size / 1e6, limit / 1e6
                ),
                hint="Segment a part of it, or start the engine with a larger --upload-limit.",
                code="too-large",
            )

    def array(self, file: Dict[str, Any]) -> np.ndarray:
        """Download an array of a result."""
        array: np.ndarray = np.load(io.BytesIO(self.data(file)), allow_pickle=False)
        return array

    def data(self, file: Dict[str, Any]) -> bytes:
        """Download a file of a result and let the engine remove it."""
        name = str(file["download"])
        if not re.match(r"^[A-Za-z0-9_.-]+\Z", name):
            raise FailedError("The engine names a download that cannot be: {!r}".format(name))
        with self._connection.open("GET", "/v1/downloads/" + name) as answer:
            size = int(answer.response.headers.get("Content-Length") or 0)
            buffer = bytearray(size)
            view, done = memoryview(buffer), 0
            while done < size:
                count = answer.readinto(view[done : done + _CHUNK_BYTES])
                if not count:
                    raise self._connection.lost()
                done += count
        self._connection.ask("DELETE", "/v1/downloads/" + name)
        return bytes(buffer)


def read_table(text: str) -> Dict[str, np.ndarray]:
    """Give the columns of a table, whole numbers as int64, others as float64 (nothing as NaN)."""
    rows = list(csv.reader(io.StringIO(text)))
    columns = list(zip(*rows[1:])) if len(rows) > 1 else [()] * len(rows[0])
    return {name: _column(values) for name, values in zip(rows[0], columns)}


def _column(values: Sequence[str]) -> np.ndarray:
    for dtype in (np.int64, np.float64):
        try:
            return np.array([value or "nan" for value in values]).astype(dtype)
        except (ValueError, OverflowError):
            continue
    return np.array(values)


def _write(path: Path, array: np.ndarray) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(str(path), flags | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, array, allow_pickle=False)
    except BaseException:
        _remove(path)
        raise


def _chunks(head: bytes, array: np.ndarray) -> Iterator[bytes]:
    yield head
    flat = array.ravel(order="K").view(np.uint8)
    for start in range(0, flat.size, _CHUNK_BYTES):
        yield flat[start : start + _CHUNK_BYTES].tobytes()


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass  # gone already, or a reader on Windows: the engine removes it later


def _is_full(error: OSError) -> bool:
    """Say whether there was no space; NumPy's own message about a short write has no number."""
    short = re.search(r"requested and \d+ written", str(error)) is not None
    return short or error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def _full(folder: Path, size: int) -> EngineError:
    return EngineError(
        "There is no space for the image in {}: it needs {:,.1f} MB and {:,.1f} MB are "
        "free.".format(folder, size / 1e6, shutil.disk_usage(str(folder)).free / 1e6),
        hint="Free some space there, or segment a part of the image.",
        code="exchange-full",
    )
