"""Files of clients on other machines: images that they sent, results that they fetch."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

from cellseg_service.errors import FileNameError
from cellseg_service.exchange import remove


class Transfers:
    """The uploads and downloads of one engine, by the ids that clients have for them."""

    def __init__(self) -> None:
        self._uploads: dict[str, Path] = {}
        self._downloads: dict[str, Path] = {}

    def keep_upload(self, path: Path) -> str:
        """Take over a complete upload and give its id."""
        name = secrets.token_hex(16)
        self._uploads[name] = path
        return name

    def take_upload(self, name: str) -> Path:
        """Give the file of an upload, once.

        Raises
        ------
        FileNameError
            There is none of that id.
        """
        path = self._uploads.pop(name, None)
        if path is None or not path.is_file():
            raise FileNameError(
                f"There is no upload {name[:100]!r}.",
                hint="Upload the image again; one upload is for one job.",
            )
        return path

    def offer(self, path: Path, job_id: str) -> dict[str, Any]:
        """Offer a file of the result of a job, and give how the answer names it."""
        name = f"{job_id}-{secrets.token_hex(16)}"
        self._downloads[name] = path
        return {"download": name, "bytes": path.stat().st_size}

    def download(self, name: str) -> Path | None:
        """Give the file of a download, or None."""
        path = self._downloads.get(name)
        return path if path is not None and path.is_file() else None

    def refresh(self, name: str) -> None:
        """Make all files of the job of a download as young as new ones: its client fetches them."""
        job_id = name.partition("-")[0]
        for other, path in self._downloads.copy().items():
            if other.partition("-")[0] == job_id:
                with contextlib.suppress(OSError):
                    os.utime(path)

    def drop_download(self, name: str) -> bool:
        """Remove a download that was fetched and say whether it was there."""
        path = self._downloads.pop(name, None)
        if path is not None:
            remove(path)
        return path is not None

    def forget_removed(self) -> None:
        """Forget the files that are not there any more."""
        for files in (self._uploads, self._downloads):
            # Of a copy: requests come and go meanwhile, in other threads.
            for name, path in files.copy().items():
                if not path.exists():
                    files.pop(name, None)
