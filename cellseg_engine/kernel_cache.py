"""Where numba keeps the compiled kernels.

Numba looks only at the file of a kernel to see whether it has changed, not at the files of the
kernels and constants that went into it. So each state of all these sources has a folder of its
own.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VARIABLE = "NUMBA_CACHE_DIR"
PACKAGE = Path(__file__).parent
SOURCES = (
    "core/*.py",
    "io/overlays.py",
    "nets/lanes.py",
    "nets/processor.py",
    "nets/winograd_kernels.py",
    "train/augment.py",
)
"""The kernels and all that goes into them."""
_PREFIX = "cellseg-kernels-"


def set_kernel_folder() -> None:
    """Tell numba the folder of kernels; to be called before any of them is imported.

    A folder that the user has set stays, and so does one that a process with the same sources
    has handed down.
    """
    name = folder_name()
    given = os.environ.get(VARIABLE, "")
    if given and (not is_ours(given) or Path(given).name == name):
        return
    config = _numba_config()
    if config is not None and config.CACHE_DIR and not is_ours(config.CACHE_DIR):
        return
    with contextlib.suppress(OSError):  # without any folder numba says so itself
        folder = str(find_folder(name))
        if config is None:
            os.environ[VARIABLE] = folder
        else:  # it would forget what else was set in it, if the variable changed
            config.CACHE_DIR = folder


def kernel_folder() -> Path | None:
    """Give the folder that numba was told; None if there is none."""
    config = _numba_config()
    given = config.CACHE_DIR if config is not None else os.environ.get(VARIABLE)
    return Path(given) if given else None


def folder_name() -> str:
    """Give the name of the folder for the present sources."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(PACKAGE.glob(pattern)):
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)} ".encode() + content)
    return _PREFIX + digest.hexdigest()[:16]


def is_ours(folder: str | Path) -> bool:
    """Say whether a folder is one of those that are chosen here."""
    return Path(folder).name.startswith(_PREFIX)


def find_folder(name: str) -> Path:
    """Make the folder in the first place that can be written to; older ones there go.

    That is beside the program, or else in the user's cache folder, or else a temporary folder of
    this process.

    Raises
    ------
    OSError
        There is none.
    """
    for place in _places():
        folder = place / name
        is_new = not folder.exists()
        if can_write(folder):
            for other in place.glob(f"{_PREFIX}*") if is_new else ():
                if other != folder:
                    shutil.rmtree(other, ignore_errors=True)
            return folder
    place = Path(tempfile.mkdtemp(prefix="cellseg-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    (place / name).mkdir()
    return place / name


def is_temporary(folder: Path) -> bool:
    """Say whether a folder of ours goes with the process that made it."""
    return is_ours(folder) and folder.parent not in _places()


def can_write(folder: Path) -> bool:
    """Make a folder if needed, and say whether files can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _places() -> Iterator[Path]:
    yield PACKAGE / "__pycache__"
    import platformdirs

    installation = hashlib.sha256(os.fsencode(PACKAGE)).hexdigest()[:16]
    with contextlib.suppress(RuntimeError):  # no home folder
        yield platformdirs.user_cache_path("cellseg", False) / "kernels" / installation


def _numba_config() -> Any:
    """Give numba's configuration; None as long as nobody has imported numba."""
    return sys.modules.get("numba.core.config")
