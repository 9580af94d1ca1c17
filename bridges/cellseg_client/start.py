"""Find the engine that runs, or start one: exactly one, however many processes ask together.

The engine itself holds a lock for life, so nobody here holds any: read ``engine.json``, let the
listener prove that it knows the token, else start a child and look again. A child that finds
the lock taken ends by itself, and the file of the winner is used.
"""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from cellseg_client.connection import Connection
from cellseg_client.errors import EngineLostError, EngineStartError, EngineTimeoutError
from cellseg_client.places import (
    LOG_NAME,
    MODELS_VARIABLE,
    OUTPUT_NAME,
    PYTHON_VARIABLE,
    RECORD_NAME,
    make_private_folder,
    runtime_folder,
)
from cellseg_client.wanted import check_wanted

EXIT_RUNNING = 10
"""Exit code of a service that found another one running."""

_POLL_S = 0.1
_SPAWN_AGAIN_S = 1.0
_MAX_RECORD_BYTES = 65536
_NOT_FOR_CHILDREN = ("PYTHONPATH", "PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")
_LIBRARY_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FRAMEWORK_PATH")


class Found(NamedTuple):
    """An engine that proved itself: how it is asked, and its ``engine.json``."""

    connection: Connection
    record: Dict[str, Any]


def find_engine(folder: Optional[Path] = None) -> Optional[Found]:
    """Give the engine that runs, or None.

    Raises
    ------
    EngineTimeoutError
        Something listens at its address and does not answer.
    EngineStartError
        It runs but does not say which protocol it speaks.
    """
    record = read_record(folder or runtime_folder())
    if record is None:
        return None
    connection = Connection(record["url"], record["token"], record["pid"])
    try:
        health = connection.prove()
    except EngineLostError:
        return None
    if health is None:
        return None
    if not isinstance(health.get("wire"), int):
        raise EngineStartError(
            "The engine at {} does not say which protocol it speaks: it is older than this "
            "client.".format(connection.url),
            hint="Update it (ENGINE_PYTHON -m pip install --upgrade cellseg-engine) and end the "
            "running one (process {}).".format(connection.pid),
        )
    return Found(connection, record)


def find_or_start(
    engine_python: Optional[str], timeout_s: float, arguments: Sequence[str] = ()
) -> Found:
    """Give the engine that runs, started if needed.

    Parameters
    ----------
    engine_python
        Python that has the engine; see `find_engine_python` if None. An engine that runs is
        taken whatever its Python is, if neither this nor ``CELLSEG_ENGINE_PYTHON`` is given.
    timeout_s
        Longest wait.
    arguments
        For the service, if it is started.

    Raises
    ------
    EngineStartError
        It cannot be started; the last lines of its output are in the message. Or the one that
        runs is not the one that is asked for, see `check_wanted`.
    EngineTimeoutError
        It is not ready in time.
    """
    deadline = time.monotonic() + timeout_s
    folder = make_private_folder(runtime_folder())
    child = None  # type: Optional[_Child]
    silent = None  # type: Optional[EngineTimeoutError]
    is_held = False
    while True:
        try:
            found = find_engine(folder)
            silent = None
        except EngineTimeoutError as error:
            found, silent = None, error
        if found is not None:
            check_wanted(found.record, engine_python)
            return found
        if child is None or child.has_given_way():
            is_held = child is not None and child.found_another
            child = _Child(folder, engine_python or find_engine_python(), arguments)
        if time.monotonic() >= deadline:
            raise _late(timeout_s, folder, silent, is_held)
        time.sleep(_POLL_S)


def read_record(folder: Path) -> Optional[Dict[str, Any]]:
    """Give the content of ``engine.json``, or None if there is none that can be trusted."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(str(folder / RECORD_NAME), flags)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(file.fileno())
        is_ours = sys.platform == "win32" or about.st_uid == os.getuid()
        if not stat.S_ISREG(about.st_mode) or not is_ours:
            return None
        try:
            record = json.loads(file.read(_MAX_RECORD_BYTES).decode("utf-8"))
        except (ValueError, RecursionError):
            return None
    kinds = {"url": str, "token": str, "pid": int, "exchange": str, "exchange_large": str}
    if not isinstance(record, dict):
        return None
    if not all(isinstance(record.get(name), kind) for name, kind in kinds.items()):
        return None
    return record if record["url"].startswith("http") and record["token"] else None


def find_engine_python() -> str:
    """Give the Python that has the engine: ``CELLSEG_ENGINE_PYTHON``, or this one if it has it.

    Raises
    ------
    EngineStartError
        Neither.
    """
    given = os.environ.get(PYTHON_VARIABLE)
    if given:
        return given
    if importlib.util.find_spec("cellseg_service") is not None:
        return sys.executable
    raise EngineStartError(
        "Nothing says which Python has the engine.",
        hint="Set {} to it: the python of the environment that has the engine.".format(
            PYTHON_VARIABLE
        ),
    )


def child_environment() -> Dict[str, str]:
    """Give the environment of the engine: the host's, without what is for the host's Python."""
    environment = {
        name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN
    }
    for name in _LIBRARY_VARIABLES:  # a frozen application points them at its own libraries
        if name + "_ORIG" in environment:
            environment[name] = environment[name + "_ORIG"]
        elif getattr(sys, "frozen", False):
            environment.pop(name, None)
    if environment.get(MODELS_VARIABLE):  # the engine has another working folder
        environment[MODELS_VARIABLE] = os.path.abspath(environment[MODELS_VARIABLE])
    environment["PYTHONSAFEPATH"] = "1"
    return environment


class _Child:
    """A service that was started here; it may win, or give way to another one."""

    def __init__(self, folder: Path, python: str, arguments: Sequence[str]) -> None:
        self._python = python
        self._output = folder / OUTPUT_NAME
        self._started = time.monotonic()
        command = [python, "-m", "cellseg_service", "--background"] + list(arguments)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(str(self._output), flags, 0o600)
        except OSError as error:
            raise EngineStartError(
                "{} cannot be written: {}.".format(self._output, error.strerror)
            ) from error
        try:
            self._offset = os.fstat(descriptor).st_size
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=str(folder),
                env=child_environment(),
                **_detached(),
            )
        except OSError as error:
            raise EngineStartError(
                "The engine's Python cannot be started: {}: {}.".format(
                    python, error.strerror or error
                ),
                hint="Set {} to the Python of the engine's environment.".format(PYTHON_VARIABLE),
            ) from error
        finally:
            os.close(descriptor)
        # Reaps the child when it ends; a daemon, so that no host is kept alive by it.
        threading.Thread(target=self._process.wait, name="cellseg-engine-wait", daemon=True).start()

    def has_given_way(self) -> bool:
        """Say whether it ended since another one runs, and it is time to look again.

        Raises
        ------
        EngineStartError
            It ended for another reason.
        """
        code = self._process.poll()
        if code is None:
            return False
        if code not in (0, EXIT_RUNNING):
            raise self._failure(code)
        return time.monotonic() - self._started > _SPAWN_AGAIN_S

    @property
    def found_another(self) -> bool:
        """Say whether it ended since another process holds the engine's lock."""
        return self._process.poll() == EXIT_RUNNING

    def _failure(self, code: int) -> EngineStartError:
        lines = self._said()
        hint = "See {}.".format(self._output)
        missing = [line for line in lines if "No module named" in line]
        if any("cellseg_" in line for line in missing):
            hint = "It has no engine: install one there, or set {} to another Python.".format(
                PYTHON_VARIABLE
            )
        elif missing:
            hint = "Install it: {} -m pip install 'cellseg-engine[service]'.".format(self._python)
        return EngineStartError(
            "The engine could not be started with {} (exit code {}){}".format(
                self._python, code, ": " + " | ".join(lines[-3:]) if lines else "."
            ),
            hint=hint,
        )

    def _said(self) -> List[str]:
        try:
            with open(str(self._output), "rb") as file:
                file.seek(self._offset)
                text = file.read(_MAX_RECORD_BYTES).decode("utf-8", "replace")
        except OSError:
            return []
        return [line.strip() for line in text.splitlines() if line.strip()]


def _detached() -> Dict[str, Any]:
    """Give what makes a child outlive this process, and keeps Ctrl-C here from reaching it."""
    if sys.platform == "win32":
        flags = (
            subprocess.CREATE_NEW_PROCESS_GROUP
            | subprocess.DETACHED_PROCESS
            | subprocess.CREATE_NO_WINDOW
        )
        return {"creationflags": flags}
    return {"start_new_session": True}


def _late(
    timeout_s: float, folder: Path, silent: Optional[EngineTimeoutError], is_held: bool
) -> EngineTimeoutError:
    record = read_record(folder)
    pid = record["pid"] if record else 0
    if silent is None and is_held and pid:
        return EngineTimeoutError(
            "The engine (process {}) runs but has not proved for {:g} s that it is one.".format(
                pid, timeout_s
            ),
            hint="End process {} and try again; {} in {} says more.".format(pid, LOG_NAME, folder),
        )
    if silent is not None:
        return EngineTimeoutError(
            "The engine (process {}) runs but has not answered for {:g} s.".format(pid, timeout_s),
            hint="If it hangs, end process {} and try again.".format(pid),
        )
    return EngineTimeoutError(
        "The engine was not ready after {:g} s.".format(timeout_s),
        hint="See {} and {} in {}.".format(LOG_NAME, OUTPUT_NAME, folder),
    )
