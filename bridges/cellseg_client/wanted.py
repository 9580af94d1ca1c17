"""Whether the engine that runs is the one that its caller asks for: its Python, its models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any, Dict, Optional

from cellseg_client.errors import EngineStartError
from cellseg_client.places import MODELS_VARIABLE, PYTHON_VARIABLE

_MOST_LINKS = 40
_ANSWER_S = 10.0


def check_wanted(record: Dict[str, Any], engine_python: Optional[str]) -> None:
    """Refuse an engine of another Python, or with another folder of models, than was asked for.

    Who asks for neither takes what there is; so does who finds an engine that is too old to say.

    Parameters
    ----------
    record
        Its ``engine.json``.
    engine_python
        Python that was asked for; if None, ``CELLSEG_ENGINE_PYTHON`` says it.

    Raises
    ------
    EngineStartError
        The sentence names both, and how the running one is ended.
    """
    variable = os.environ.get(PYTHON_VARIABLE)
    wanted, has = engine_python or variable, record.get("python")
    if wanted and has and not _is_same_python(wanted, has):
        remedy = "ask for the one that runs" if engine_python else "unset " + PYTHON_VARIABLE
        raise _refusal(record, "is of the Python {}".format(has), wanted, remedy)
    wanted, has = os.environ.get(MODELS_VARIABLE), record.get("models")
    if wanted and has and _real(wanted) != _real(has):
        said = "{}={}".format(MODELS_VARIABLE, os.path.abspath(wanted))
        remedy = "unset " + MODELS_VARIABLE
        raise _refusal(record, "has the models of {}".format(has), said, remedy)


def end_command(pid: int) -> str:
    """Give the command that ends an engine."""
    return "taskkill /PID {} /F".format(pid) if sys.platform == "win32" else "kill {}".format(pid)


def _refusal(record: Dict[str, Any], has: str, wanted: str, remedy: str) -> EngineStartError:
    return EngineStartError(
        "The engine that runs (process {}) {}, and {} was asked for.".format(
            record["pid"], has, wanted
        ),
        hint="End it ({}) and try again, or {}.".format(end_command(record["pid"]), remedy),
    )


def _is_same_python(wanted: str, has: str) -> bool:
    """Say whether two Pythons have the same packages."""
    there = _environment(has)
    return there == _environment(wanted) or there == _environment(_executable(wanted))


def _executable(python: str) -> str:
    """Ask a Python which one it is; a script may stand for it, as that of pyenv does."""
    try:
        return subprocess.run(
            [python, "-E", "-S", "-c", "import sys; print(sys.executable)"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_ANSWER_S,
            check=True,
            encoding="utf-8",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return python


def _environment(python: str) -> str:
    """Give what a Python belongs to: its virtual environment, else the file that it really is.

    The Python of a virtual environment is a link to one that others may share, so links are
    followed only as far as the first one that lies in such an environment.
    """
    path = os.path.abspath(shutil.which(python) or python)
    for _ in range(_MOST_LINKS):
        folder = os.path.dirname(path)
        for home in (folder, os.path.dirname(folder)):
            if os.path.isfile(os.path.join(home, "pyvenv.cfg")):
                return _real(home)
        if not os.path.islink(path):
            break
        path = os.path.abspath(os.path.join(folder, os.readlink(path)))
    return _real(path)


def _real(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))
