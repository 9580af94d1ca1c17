"""A lock on a file that ends with its process."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


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
            The file cannot be made.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path, flags | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(descriptor)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give it back."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
