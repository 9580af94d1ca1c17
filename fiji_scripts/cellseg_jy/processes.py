"""Starts other programs and watches them: the engine's client, pip, uv."""

from __future__ import unicode_literals

import codecs
import json
import re
import time
from threading import Thread

from java.io import BufferedReader, File, InputStreamReader, IOException
from java.lang import ProcessBuilder
from java.util.concurrent import LinkedBlockingQueue, TimeUnit

from cellseg_jy.problems import Cancelled, Problem

NOT_FOR_CHILDREN = ("PYTHONPATH", "PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")
_END_S = 20.0
_POLL_MS = 100
_POLLS_AFTER_END = 10
_ENDED = object()
_KILL = "import os, signal, sys; os.kill(int(sys.argv[1]), signal.SIGTERM)"


class Log(object):
    """Runs programs one after the other, with their output in a file.

    Parameters
    ----------
    file
        For the whole output; written anew.
    watcher
        Hears of steps by ``say(text)`` and of lines by ``output(line)``; ``is_cancelled()`` is
        asked between them.
    """

    def __init__(self, file, watcher):
        self._path = file.getPath()
        self._watcher = watcher
        try:
            self._stream = codecs.open(self._path, "w", "utf-8")  # noqa: SIM115 - __exit__ closes it
        except (IOError, OSError) as error:
            raise Problem(
                "{} cannot be written: {}.".format(self._path, error.strerror),
                "Check that the disk is not full and that you may write there.",
            )

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._stream.close()

    def say(self, text):
        """Tell of a step."""
        self._stream.write("== " + text + "\n")
        self._watcher.say(text)

    def run(self, command, problem):
        """Run a program and give its lines.

        Raises
        ------
        Problem
            It failed: ``problem`` and the line that says why.
        Cancelled
            The user stopped it.
        """

        def hear(line):
            self._stream.write(line + "\n")
            self._stream.flush()
            self._watcher.output(line)

        code, lines = run(command, hear, self._watcher.is_cancelled)
        if code != 0:
            raise Problem(
                "{}: {}".format(problem, _reason(lines)),
                "Nothing was changed. The whole output is in {}.".format(self._path),
                "install",
            )
        return lines


def run(command, hear, is_cancelled, variables=()):
    """Run a program; give its exit code and its lines of both outputs.

    Parameters
    ----------
    command
        Program and arguments.
    hear
        Called with each line.
    is_cancelled
        Asked between lines.
    variables
        More environment variables, pairs of name and value.

    Raises
    ------
    Problem
        It cannot be started.
    Cancelled
        The user stopped it.
    """
    builder = ProcessBuilder(command)
    environment = builder.environment()
    for name in NOT_FOR_CHILDREN:
        environment.remove(name)
    more = (("PYTHONSAFEPATH", "1"), ("PYTHONIOENCODING", "utf-8"), ("PYTHONNOUSERSITE", "1"))
    for name, value in more + tuple(variables):
        environment.put(name, value)
    builder.redirectErrorStream(True)
    try:
        process = builder.start()
    except IOException as error:
        raise Problem("{} cannot be started: {}.".format(command[0], error.getMessage()))
    process.getOutputStream().close()
    waiting = LinkedBlockingQueue()
    _listen(process, waiting)
    lines = []
    ended_polls = 0
    while True:
        line = waiting.poll(_POLL_MS, TimeUnit.MILLISECONDS)
        if line is _ENDED:
            return process.waitFor(), lines
        if line is not None:
            lines.append(line)
            hear(line)
        elif not process.isAlive():
            # Its output stays open where a program that it started holds it.
            ended_polls += 1
            if ended_polls > _POLLS_AFTER_END:
                return process.waitFor(), lines
        elif is_cancelled():
            process.destroy()
            process.waitFor()
            raise Cancelled("The installation was cancelled. Nothing was changed.")


def run_quietly(command, variables=()):
    """Run a short program that nobody stops; give its exit code and its lines."""
    return run(command, lambda line: None, lambda: False, variables)


def ask_client(python, command, variables=()):
    """Give the JSON that ``PYTHON -m cellseg_client COMMAND`` prints; empty if it prints none."""
    _code, lines = run_quietly([python, "-m", "cellseg_client", command], variables)
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                break
    return {}


def end_engine(python, pid, variables=()):
    """End an engine and wait until it is gone.

    Raises
    ------
    Problem
        It does not end.
    """
    run_quietly([python, "-c", _KILL, "{}".format(pid)])
    deadline = time.time() + _END_S
    while ask_client(python, "status", variables).get("pid") == pid:
        if time.time() > deadline:
            raise Problem(
                "The engine (process {}) does not end.".format(pid), "End that process yourself."
            )
        time.sleep(_POLL_MS / 1000.0)


def is_program(path):
    """Say whether a path is a file that can be run."""
    file = File(path)
    return file.isFile() and file.canExecute()


def _listen(process, waiting):
    def read():
        reader = BufferedReader(InputStreamReader(process.getInputStream(), "UTF-8"))
        try:
            line = reader.readLine()
            while line is not None:
                if line.strip():
                    waiting.put(line.rstrip())
                line = reader.readLine()
        except IOException:
            pass  # the process was ended
        finally:
            waiting.put(_ENDED)

    thread = Thread(target=read)
    thread.setDaemon(True)
    thread.start()


def _reason(lines):
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    last = (errors or lines or ["it said nothing"])[-1]
    return re.sub("(?i)^error: *", "", last).strip(". ") + "."
