"""The private exchange folders: arrays come and go as files that only this user can read."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cellseg_engine.io.process_lock import ProcessLock
from cellseg_service.errors import ExchangeFullError, ExchangeLostError, FileNameError

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"
MARGIN_BYTES = 1 << 20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\.npy")


class Exchange:
    """The exchange folders of one engine: a fast one where there is one, and a large one.

    Parameters
    ----------
    fast_parent
        Where the fast one is made, for example /dev/shm; None for none.
    large_parent
        Where the large one is made; None for the system's temporary folder.

    Raises
    ------
    OSError
        A folder cannot be made.
    """

    def __init__(self, fast_parent: Path | None, large_parent: Path | None) -> None:
        temporary = large_parent or Path(tempfile.gettempdir())
        sweep([parent for parent in (fast_parent, temporary) if parent is not None])
        large = _Folder(temporary)
        fast = large
        if fast_parent is not None and fast_parent.absolute() != temporary.absolute():
            try:
                fast = _Folder(fast_parent)
            except OSError as error:
                log.warning("%s cannot be used for arrays: %s", fast_parent, error)
        self._fast, self._large = fast, large
        self._making = threading.Lock()

    @property
    def fast(self) -> Path:
        """The fast folder; the large one where there is none."""
        return self._fast.path

    @property
    def large(self) -> Path:
        """The folder in the temporary folder."""
        return self._large.path

    def make_sure(self) -> None:
        """Make the folders again if somebody removed them (systemd may, at logout).

        Raises
        ------
        ExchangeLostError
            One cannot be made again.
        """
        for folder in {self._fast, self._large}:
            try:
                with self._making:
                    folder.make_sure()
            except OSError as error:
                raise ExchangeLostError(
                    f"The exchange folder {folder.path} is gone and cannot be made again: "
                    f"{error.strerror or error}.",
                    hint="This engine ends; try again: the next call starts one with new folders.",
                ) from error

    def close(self) -> None:
        """Remove the folders with all that is in them."""
        for folder in {self._fast, self._large}:
            folder.close()

    def find(self, name: str) -> Path:
        """Give the path of an input.

        Raises
        ------
        FileNameError
            The name is not a plain one, or there is no such file here; links count as none.
        """
        if not _PLAIN_NAME.fullmatch(name):
            raise FileNameError(
                f"{name[:200]!r} is not the plain name of a .npy file.",
                hint="Write the array into the exchange folder and give its name without a path.",
            )
        for folder in (self.fast, self.large):
            path = folder / name
            try:
                is_file = stat.S_ISREG(path.lstat().st_mode)
            except OSError:
                continue
            if not is_file:
                raise FileNameError(f"{name!r} in the exchange folder is a link or no file.")
            return path
        raise FileNameError(
            f"There is no file {name!r} in the exchange folders.",
            hint="Ask the engine again where they are: it may have been started anew.",
        )

    def check_space(self, size_bytes: int) -> None:
        """Make sure that results of that size can be written.

        Raises
        ------
        ExchangeFullError, ExchangeLostError
            With the numbers, or the reason.
        """
        self._choose(size_bytes)

    def save_array(self, array: np.ndarray) -> Path:
        """Write an array under a new name and give its path.

        Raises
        ------
        ExchangeFullError, ExchangeLostError
            There is no space, or no folder; nothing is left behind.
        """
        return self.save_file(".npy", array.nbytes, lambda path: np.save(path, array))

    def save_bytes(self, data: bytes, suffix: str) -> Path:
        """Write a file under a new name and give its path; errors as `save_array`."""
        return self.save_file(suffix, len(data), lambda path: path.write_bytes(data))

    def save_file(self, suffix: str, size_bytes: int, write: Callable[[Path], object]) -> Path:
        """Let ``write`` fill a new file of about that size and give its path.

        Where the first folder has no space after all, it is called again for the other one;
        errors as `save_array`.
        """
        for folder in self._choose(size_bytes):
            path = folder / f"{secrets.token_hex(16)}{suffix}"
            try:
                create_private(path).close()
                write(path)
            except OSError as error:
                remove(path)
                if not is_full(error):
                    raise
                continue
            except BaseException:
                remove(path)
                raise
            return path
        raise _full(self.large, size_bytes)

    def new_upload(self, size_bytes: int) -> Path:
        """Give the path for an upload of that size; errors as `save_array`."""
        self.make_sure()
        if _free(self.large) < size_bytes + MARGIN_BYTES:
            raise _full(self.large, size_bytes)
        return self.large / f"upload-{secrets.token_hex(16)}.npy"

    def remove_old(self, keep_s: float, in_use: Iterable[Path]) -> None:
        """Remove files that nobody fetched or asked for in that time."""
        used = set(in_use)
        limit = time.time() - keep_s
        for folder in {self.fast, self.large}:
            with contextlib.suppress(OSError):
                for entry in os.scandir(folder):
                    path = Path(entry.path)
                    if entry.name == LOCK_NAME or path in used:
                        continue
                    with contextlib.suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_mtime < limit:
                            remove(path)

    def _choose(self, size_bytes: int) -> list[Path]:
        """Give the folders to try, the best first."""
        self.make_sure()
        folders = []
        if self.fast != self.large and _free(self.fast) > 2 * size_bytes + MARGIN_BYTES:
            folders.append(self.fast)
        if _free(self.large) > size_bytes + MARGIN_BYTES:
            folders.append(self.large)
        if not folders:
            raise _full(self.large, size_bytes)
        return folders


def create_private(path: Path) -> BinaryIO:
    """Open a new file for writing that only this user can read, from its first moment."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600), "wb")


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    try:
        path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)


def sweep(parents: Iterable[Path]) -> list[Path]:
    """Remove exchange folders of engines that were killed, and give them.

    A folder goes only if it is this user's and nobody holds its lock.
    """
    removed = []
    for parent in parents:
        for folder in parent.glob(f"{_prefix()}*"):
            if _is_orphan(folder):
                log.info("removing %s, which a killed engine left", folder)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed


def is_full(error: OSError) -> bool:
    """Say whether an error is about space; NumPy's message about a short write has no number."""
    short = re.search(r"requested and \d+ written", str(error)) is not None
    return short or error.errno in (errno.ENOSPC, errno.EDQUOT)


class _Folder:
    """One exchange folder with its lock."""

    def __init__(self, parent: Path) -> None:
        # Born under another name and renamed with its lock held: no sweep can see it unlocked.
        unborn = Path(tempfile.mkdtemp(prefix=f"new-{_prefix()}", dir=parent))
        lock = ProcessLock(unborn / LOCK_NAME)
        lock.acquire()
        self._lock = lock
        self.path = parent.absolute() / f"{_prefix()}{secrets.token_hex(8)}"
        unborn.rename(self.path)

    def make_sure(self) -> None:
        if _is_own_folder(self.path):
            return
        log.warning("%s had been removed and is made again", self.path)
        self._lock.release()
        self.path.mkdir(mode=0o700, parents=True)
        self._lock = ProcessLock(self.path / LOCK_NAME)
        self._lock.acquire()

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def _prefix() -> str:
    user = os.getuid() if sys.platform != "win32" else 0
    return f"cellseg-{user}-"


def _is_own_folder(folder: Path) -> bool:
    """Say whether there is a folder of this user, and no link to one."""
    try:
        about = folder.lstat()
    except OSError:
        return False
    is_own = sys.platform == "win32" or about.st_uid == os.getuid()
    return is_own and stat.S_ISDIR(about.st_mode)


def _is_orphan(folder: Path) -> bool:
    if not _is_own_folder(folder):
        return False
    lock = ProcessLock(folder / LOCK_NAME)
    try:
        is_free = lock.acquire()
    except OSError:
        return False
    lock.release()
    return is_free


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _full(folder: Path, size_bytes: int) -> ExchangeFullError:
    return ExchangeFullError(
        f"There is no space in the exchange folder {folder}: {size_bytes / 1e6:,.1f} MB are needed "
        f"and {_free(folder) / 1e6:,.1f} MB are free.",
        hint="Free some space there, or start the engine with another --temporary-folder.",
    )
