"""A lock on a file that ends with its process."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from pathlib import Path

_ASK_EVERY_S = 0.02
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class ProcessLock:
    """An exclusive lock, held until it is released or the process ends in any way.

    ``fcntl.lockf`` on POSIX, never ``flock``, which a forked child would keep after our death;
    ``msvcrt`` on Windows. A POSIX lock is lost when any descriptor of the file is closed in the
    process, so nothing else may open it.

    Parameters
    ----------
    path
        The file, made if needed; only for this lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def acquire(self) -> bool:
        """Take the lock if it is free, and say whether it was.

        Raises
        ------
        OSError
            The file cannot be made, or its disk has no locks.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path, flags | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _NO_LOCKS:
                raise
            return False
        if not _is_file_of(descriptor, self.path):  # removed by who had it
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def wait(self, seconds: float) -> bool:
        """Take the lock as soon as it is free, and say whether it was in that time.

        On disks without locks, or without permission, it is as if it were: writing will tell.
        """
        deadline = time.monotonic() + seconds
        try:
            while not self.acquire():
                if time.monotonic() > deadline:
                    return False
                time.sleep(_ASK_EVERY_S)
        except OSError:
            return True
        return True

    def release(self, *, remove: bool = False) -> None:
        """Give it back, and remove its file if asked to."""
        if self._descriptor < 0:
            return
        is_windows = sys.platform == "win32"  # there a file that is open cannot be removed
        with contextlib.suppress(OSError):
            if remove and not is_windows:
                self.path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        with contextlib.suppress(OSError):
            if remove and is_windows:
                self.path.unlink()
        self._descriptor = -1


def _is_file_of(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
