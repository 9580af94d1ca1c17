"""Find the engine, or start it: by its own client, in the engine's own Python."""

from __future__ import unicode_literals

import json
import sys

from ij import IJ
from java.io import BufferedReader, File, InputStreamReader, IOException
from java.lang import ProcessBuilder, System
from java.nio.file import Files
from java.util import HashMap
from java.util.concurrent import TimeUnit

from cellseg_jy import WIRE
from cellseg_jy.connection import Connection, NotRunning
from cellseg_jy.problems import Cancelled, Problem
from cellseg_jy.processes import NOT_FOR_CHILDREN
from cellseg_jy.texts import to_text

PYTHON_VARIABLE = "CELLSEG_ENGINE_PYTHON"
KNOWN = "cellseg.engine"
"""Where ImageJ keeps the engine between runs. Not in Java's system properties: "ImageJ Properties"
prints those, and people paste them into forums with the token."""

_NOT_INSTALLED = (
    "Run Plugins > CellSeg > Install Engine, or in a terminal: cellseg install fiji DIR "
    "(DIR: the folder of this Fiji or ImageJ)."
)
_POLL_MS = 100


def config_file():
    """Give the file ``engine.json`` beside this package, which names the engine's Python."""
    here = __file__
    if isinstance(here, str):
        here = here.decode(sys.getfilesystemencoding() or "utf-8")
    return File(File(here).getAbsoluteFile().getParentFile(), "engine.json")


def engine_python():
    """Give the Python that has the engine: of the environment variable, or of ``engine.json``.

    Raises
    ------
    Problem
        Neither says it.
    """
    given = System.getenv(PYTHON_VARIABLE)
    if given:
        return given
    path = config_file()
    if not path.isFile():
        raise Problem("The CellSeg engine is not installed.", _NOT_INSTALLED, "not-installed")
    try:
        config = json.loads(to_text(Files.readAllBytes(path.toPath())))
        python = config["engine_python"]
    except (IOException, ValueError, KeyError, TypeError):
        raise Problem(
            "The file {} does not say where the CellSeg engine is.".format(path),
            _NOT_INSTALLED,
            "not-installed",
        )
    if not File(python).isFile():
        raise Problem(
            "The engine's Python is not there any more: {}.".format(python),
            _NOT_INSTALLED,
            "not-installed",
        )
    return python


def find_running():
    """Give the engine that this ImageJ used before, if it still runs, else None."""
    known = IJ.getProperty(KNOWN)
    if known is None:
        return None
    connection = Connection.of(known)
    try:
        return connection if connection.prove() else None
    except Problem:
        return None


def ensure():
    """Give the engine, started if none runs.

    Raises
    ------
    Problem
        It is not installed, or cannot be started; in the words of its client.
    """
    connection = find_running()
    if connection is not None:
        return connection
    IJ.showStatus("CellSeg: looking for the engine, or starting it...")
    record = _ask_client(engine_python())
    known = HashMap()
    for name in ("url", "token", "pid", "exchange", "exchange_large", "python", "version"):
        known.put(name, record.get(name))
    IJ.setProperty(KNOWN, known)
    return Connection.of(record)


def ask(path, request):
    """Send a request to the engine and give its answer; started if none runs.

    Raises
    ------
    Problem
        In the engine's words.
    """
    body = dict(request, wire=WIRE)
    try:
        return ensure().ask("POST", path, body)
    except NotRunning:
        return ensure().ask("POST", path, body)


def _ask_client(python):
    """Run ``PYTHON -m cellseg_client ensure`` and give its JSON; Escape ends the wait."""
    builder = ProcessBuilder([python, "-m", "cellseg_client", "ensure", "--engine-python", python])
    environment = builder.environment()
    for name in NOT_FOR_CHILDREN:
        environment.remove(name)
    environment.put("PYTHONSAFEPATH", "1")
    environment.put("PYTHONIOENCODING", "utf-8")
    builder.redirectErrorStream(True)
    try:
        process = builder.start()
    except IOException as error:
        raise Problem(
            "The engine's Python cannot be started: {}.".format(error.getMessage()),
            _NOT_INSTALLED,
            "not-installed",
        )
    while not process.waitFor(_POLL_MS, TimeUnit.MILLISECONDS):
        if IJ.escapePressed():
            process.destroy()
            raise Cancelled("Starting the engine was cancelled.")
    lines = _read_lines(process.getInputStream())
    for line in reversed(lines):
        if line.startswith("{"):
            return _check_answer(line, python)
    raise Problem(
        "The engine's Python {} cannot find the engine: {}".format(
            python, " | ".join(lines[-3:]) or "it said nothing."
        ),
        _NOT_INSTALLED,
        "not-installed",
    )


def _check_answer(line, python):
    try:
        record = json.loads(line)
    except ValueError:
        record = {}
    if "error" in record:
        error = record["error"]
        raise Problem(error.get("message", ""), error.get("hint", ""), error.get("code", "start"))
    if not all(record.get(name) for name in ("url", "token", "pid", "exchange", "exchange_large")):
        raise Problem(
            "The client of {} answered something that is not understood.".format(python),
            "Update the engine, and repeat: cellseg install fiji DIR.",
            "start",
        )
    return record


def _read_lines(stream):
    reader = BufferedReader(InputStreamReader(stream, "UTF-8"))
    lines = []
    line = reader.readLine()
    while line is not None:
        if line.strip():
            lines.append(line.strip())
        line = reader.readLine()
    reader.close()
    return lines
