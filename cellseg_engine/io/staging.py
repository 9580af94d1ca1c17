"""All files of a result or none: written under temporary names, renamed at the end."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cellseg_engine.errors import CellSegError, WriteError

_TEMPORARY = re.compile(r"\.cellseg-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}-.")
_TAIL_CHARACTERS = 40

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "there is no permission to write there",
    errno.EPERM: "there is no permission to write there",
    errno.EROFS: "the disk is read-only",
    errno.ENOENT: "the folder does not exist",
    errno.ENOTDIR: "a part of that path is a file, not a folder",
    errno.EEXIST: "there is a file of that name",
    errno.EISDIR: "there is a folder of that name",
    errno.ENAMETOOLONG: "the name is too long for the disk",
    errno.EFBIG: "the file is too large for the disk",
    errno.EIO: "the disk reports an error",
}
_HINTS = {
    errno.ENOSPC: "Free some space, or choose another output folder.",
    errno.EDQUOT: "Free some space, or choose another output folder.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EROFS: "Choose a folder that you may write to.",
}


class Stage:
    """The temporary files of one `staged` block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[Path, Path] = {}
        self._first: list[Path] = []
        self._obsolete: list[Path] = []

    def path(self, name: str) -> Path:
        """Give the temporary path to write a file to that shall be called ``name`` in the end.

        It lies in the same folder and has the same suffix.
        """
        if Path(name).name != name:
            raise ValueError(f"A file name without folders is expected, not {name!r}.")
        final = self._directory / name
        if final not in self._files:
            prefix = f".cellseg-{_host()}-{os.getpid()}-{secrets.token_hex(4)}-"
            self._files[final] = self._directory / (prefix + name[-_TAIL_CHARACTERS:])
        return self._files[final]

    def announce(self, name: str, text: str) -> None:
        """Let ``name`` say ``text`` before any other file gets its name.

        A process that is killed between the renames then leaves this text behind.
        """
        first = self.path(f"{name}.begun")
        del self._files[self._directory / f"{name}.begun"]
        self._first = [first, self._directory / name]
        first.write_text(text, encoding="utf-8")

    def remove(self, name: str) -> None:
        """Remove a file once all others have their names."""
        self._obsolete.append(self._directory / name)

    def _commit(self) -> None:
        for final in self._files:
            with suppress(FileNotFoundError):
                os.lstat(final)  # an error where no file can have that name
            if final.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder", str(final))
        with _uninterrupted():
            if self._first:
                os.replace(*self._first)
            for final, temporary in self._files.items():
                os.replace(temporary, final)
            for path in self._obsolete:
                path.unlink(missing_ok=True)

    def _discard(self) -> None:
        for temporary in (*self._files.values(), *self._first[:1]):
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block; outside the main thread it comes elsewhere."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


@contextmanager
def staged(directory: Path) -> Iterator[Stage]:
    """Write several files so that all appear complete or none does.

    When the block ends normally, each file is renamed into place, in the order of the calls of
    `Stage.path`, so the one that says that all is done comes last. When it ends by any
    exception, also Ctrl-C, the temporary files are removed, and so are the folders that were
    made for them, where they are empty.

    Parameters
    ----------
    directory
        Folder of the files, made with its parents if needed.

    Raises
    ------
    WriteError
        The folder or a file in it cannot be written: no space, no permission, a wrong path.
    """
    made: list[Path] = []
    stage = Stage(directory)
    try:
        with writing(directory):
            _make_folders(directory, made)
            yield stage
            stage._commit()
    except BaseException:
        stage._discard()
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turn the operating system's errors about writing below a folder into `WriteError`."""
    try:
        yield
    except CellSegError:
        raise
    except OSError as error:
        number = _error_number(error)
        if number not in _REASONS or not _is_about(error, directory):
            raise
        raise _write_error(directory, number) from error


def check_writable(directory: Path) -> None:
    """Make sure that files can be written to a folder, or that it can be made; nothing is left.

    Raises
    ------
    WriteError
        They cannot: no permission, a wrong path.
    """
    with writing(directory):
        with suppress(FileNotFoundError):
            os.lstat(directory)  # an error where no folder can have that name
        there = next(folder for folder in (directory, *directory.parents) if folder.exists())
        with temporary_folder(there):
            pass


def remove_stale(directory: Path) -> list[Path]:
    """Remove what `staged` and `temporary_folder` left behind when a process was killed.

    Files of running processes and of other machines stay.

    Parameters
    ----------
    directory
        Folder to look in, without its sub-folders; it need not exist.

    Returns
    -------
    The paths removed.
    """
    removed: list[Path] = []
    if not directory.is_dir():
        return removed
    for path in directory.glob(".cellseg-*"):
        match = _TEMPORARY.match(path.name)
        if match and match["host"] == _host() and not _is_running(int(match["pid"])):
            with suppress(OSError):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
                removed.append(path)
    return removed


@contextmanager
def temporary_folder(directory: Path) -> Iterator[Path]:
    """Give a new folder below another one; however the block ends, it is removed.

    Raises
    ------
    WriteError
        It cannot be made.
    """
    name = f".cellseg-{_host()}-{os.getpid()}-{secrets.token_hex(4)}-work"
    folder = directory / name
    with writing(directory):
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_folders(directory: Path, made: list[Path]) -> None:
    missing = []
    folder = directory
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir()
            made.append(folder)
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(directory))


def _error_number(error: OSError) -> int:
    """Give the error number; NumPy's own message about a short write has none."""
    if error.errno is None and re.search(r"requested and \d+ written", str(error)):
        return errno.ENOSPC
    return error.errno or 0


def _is_about(error: OSError, directory: Path) -> bool:
    """Say whether an error is about the folder, a part of its path or something in it."""
    if error.filename is None:
        return True
    path = Path(os.path.abspath(os.fsdecode(error.filename)))
    folder = Path(os.path.abspath(directory))
    return path.is_relative_to(folder) or folder.is_relative_to(path)


def _write_error(directory: Path, number: int) -> WriteError:
    free = ""
    if number in (errno.ENOSPC, errno.EDQUOT):
        existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
        with suppress(OSError):
            free = f" ({shutil.disk_usage(existing).free / 1e6:,.1f} MB are free)"
    return WriteError(
        f"The results cannot be written to {directory}: {_REASONS[number]}{free}.",
        hint=_HINTS.get(number, ""),
    )


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_running(pid: int) -> bool:
    """Say whether a process exists; on Windows by a handle, since a signal would end it."""
    if sys.platform == "win32":
        import ctypes

        synchronize, still_waiting = 0x00100000, 0x102
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(synchronize, False, pid)
        if not handle:
            return False
        running = kernel.WaitForSingleObject(handle, 0) == still_waiting
        kernel.CloseHandle(handle)
        return bool(running)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
