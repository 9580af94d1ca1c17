"""``engine.json``: how clients find the engine, and how it learns that they no longer can."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from cellseg_client.places import LOCK_NAME, RECORD_NAME
from cellseg_client.start import read_record
from cellseg_engine._version import __version__
from cellseg_engine.zoo.store import models_folder
from cellseg_service.exchange import Exchange
from cellseg_service.wire import WIRE

_OURS = ("pid", "token")


class Record:
    """The record of this engine, made while it holds the lock of its runtime folder.

    Parameters
    ----------
    folder
        The runtime folder.
    url, token
        How the engine is asked.
    exchange
        Its folders.

    Raises
    ------
    OSError
        The folder or its lock is gone.
    """

    def __init__(self, folder: Path, url: str, token: str, exchange: Exchange) -> None:
        self._folder = folder
        self._lock = (folder / LOCK_NAME).stat()
        self.url = url
        self.token = token
        self._content = {
            "url": url,
            "token": token,
            "pid": os.getpid(),
            "version": __version__,
            "wire": WIRE,
            "exchange": str(exchange.fast),
            "exchange_large": str(exchange.large),
            "python": sys.executable,
            "models": str(models_folder().absolute()),
        }

    def write(self) -> None:
        """Write it at once, readable by this user alone."""
        temporary = self._folder / f".{RECORD_NAME}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(self._content, file)
        os.replace(temporary, self._folder / RECORD_NAME)

    def make_sure(self) -> str:
        """Write it again if somebody removed it; give the reason why that is in vain, or nothing.

        Without the lock that the engine holds another one may run there, or will.
        """
        if not self._holds_lock():
            return f"the runtime folder {self._folder} was removed, so nobody can find this engine"
        if not (self._folder / RECORD_NAME).exists():
            self.write()
        return ""

    def refresh(self) -> None:
        """Make lock and record look young, so that what removes old temporary files spares them."""
        for name in (LOCK_NAME, RECORD_NAME):
            with contextlib.suppress(OSError):
                os.utime(self._folder / name)

    def withdraw(self) -> None:
        """Remove it, but never that of another engine, which may run if ours was removed."""
        found = read_record(self._folder)
        if found is not None and all(found[name] == self._content[name] for name in _OURS):
            with contextlib.suppress(OSError):
                (self._folder / RECORD_NAME).unlink()

    def _holds_lock(self) -> bool:
        try:
            return os.path.samestat(self._lock, (self._folder / LOCK_NAME).stat())
        except OSError:
            return False
