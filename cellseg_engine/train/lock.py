"""One training at a time in a folder, and one writer at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cellseg_engine.errors import CellSegError, SettingsError, WriteError
from cellseg_engine.io.process_lock import ProcessLock
from cellseg_engine.io.staging import staged, writing

_log = logging.getLogger(__name__)

LOCK, WRITER_LOCK = ".training.lock", ".writing.lock"
WRITER_TIMEOUT_S = 60
_THREADS = threading.Lock()
"""The system's locks are those of a process: its threads need one of their own."""


@contextmanager
def only_training(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder meanwhile.

    The system holds the lock, so that it ends with the process, however that ends. Only its empty
    file stays behind when a process is killed, until the next training is over. On disks without
    locks nobody is kept away, and the log says so.

    Raises
    ------
    SettingsError
        Another training runs there.
    WriteError
        The folder cannot be written to.
    """
    is_new = not folder.exists()
    lock = ProcessLock(folder / LOCK)
    if not _acquire(lock):
        raise SettingsError(
            f"Another training is running in {folder}.",
            hint="Wait until it has ended, or give another --out.",
        )
    try:
        yield
    finally:
        lock.release(remove=True)
        if is_new:
            with suppress(OSError):  # it is not empty as a rule
                folder.rmdir()


def _acquire(lock: ProcessLock) -> bool:
    """Take the lock if it is free, and say whether it was; on disks without locks it counts so."""
    folder = lock.path.parent
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            return lock.acquire()
    except CellSegError:
        raise
    except OSError as error:  # the others that can be have their sentences in `writing`
        _log.warning(
            "%s cannot be locked (%s): make sure that no other training runs there.",
            folder,
            error.strerror or error,
        )
        with suppress(OSError):
            lock.path.unlink()
        return True


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Let one thread and process at a time change a folder's record; others wait for it.

    The folder is made if needed, and removed again if the block fails and leaves nothing in it. On
    disks without locks only the threads of this process wait.

    Raises
    ------
    WriteError
        Another one wrote for more than a minute, or the folder cannot be written to.
    """
    with _THREADS, staged(folder):
        lock = ProcessLock(folder / WRITER_LOCK)
        if not lock.wait(WRITER_TIMEOUT_S):
            raise WriteError(
                f"Another program was writing to {folder} for more than {WRITER_TIMEOUT_S} s, so "
                "nothing was written.",
                hint="Try again once it is done.",
            )
        try:
            yield
        finally:
            lock.release(remove=True)
