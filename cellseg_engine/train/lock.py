"""One training at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cellseg_engine.errors import SettingsError
from cellseg_engine.io.process_lock import ProcessLock
from cellseg_engine.io.staging import writing

LOCK = ".training.lock"


@contextmanager
def only_training(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder meanwhile.

    The system holds the lock, so that it ends with the process, however that ends. Only its empty
    file stays behind when a process is killed, until the next training is over.

    Raises
    ------
    SettingsError
        Another training runs there.
    WriteError
        The folder cannot be written to.
    """
    is_new = not folder.exists()
    lock = ProcessLock(folder / LOCK)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        is_alone = lock.acquire()
    if not is_alone:
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
