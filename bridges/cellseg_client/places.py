"""Where the engine and its callers meet: the user's private runtime folder.

The rule is the one of platformdirs, written with the standard library alone because hosts do
not have that package; the service uses this same function.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from cellseg_client.errors import EngineStartError

RUNTIME_VARIABLE = "CELLSEG_RUNTIME"
PYTHON_VARIABLE = "CELLSEG_ENGINE_PYTHON"
MODELS_VARIABLE = "CELLSEG_MODELS"

RECORD_NAME = "engine.json"
LOCK_NAME = "engine.lock"
LOG_NAME = "engine.log"
OUTPUT_NAME = "engine.err"


def runtime_folder() -> Path:
    """Give the folder of ``engine.json``: ``CELLSEG_RUNTIME``, or the user's runtime folder.

    On Linux ``$XDG_RUNTIME_DIR/cellseg`` or ``/run/user/UID/cellseg``, and where there is
    neither ``/tmp/cellseg-UID``: always a folder of this machine, never of a shared home, since
    the engine is a process of this machine. It need not exist.
    """
    given = os.environ.get(RUNTIME_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData/Local") / "cellseg" / "runtime"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "cellseg" / "runtime"
    user = os.getuid()
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), "/run/user/{}".format(user)):
        if folder and _is_own_folder(Path(folder)):
            return Path(folder) / "cellseg"
    return Path("/tmp/cellseg-{}".format(user))  # noqa: S108 - made private, owner checked


def make_private_folder(folder: Path) -> Path:
    """Make a folder that only this user can enter, with its parents, or check the one there.

    Raises
    ------
    EngineStartError
        It cannot be made, is a link, belongs to somebody else, or is named by
        ``CELLSEG_RUNTIME`` and open to others: who named it may want it so.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            pass
        if not _is_own_folder(folder):
            raise EngineStartError(
                "The folder {} is not a plain folder of yours.".format(folder),
                hint="Set {} to a folder of yours.".format(RUNTIME_VARIABLE),
            )
        if sys.platform != "win32" and stat.S_IMODE(folder.stat().st_mode) & 0o077:
            if os.environ.get(RUNTIME_VARIABLE):
                raise EngineStartError(
                    "Others may enter the folder {}, which {} names.".format(
                        folder, RUNTIME_VARIABLE
                    ),
                    hint="Name one that is not there yet, or make it private: chmod 700.",
                )
            folder.chmod(0o700)
    except OSError as error:
        raise EngineStartError(
            "The folder {} cannot be used: {}.".format(folder, error.strerror or error),
            hint="Set {} to a folder of yours.".format(RUNTIME_VARIABLE),
        ) from error
    return folder


def _is_own_folder(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    if sys.platform == "win32":
        return stat.S_ISDIR(found.st_mode)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
