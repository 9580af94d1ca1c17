"""Help for tests of the Fiji scripts: a real ImageJ in a process of its own, asked step by step.

Three hosts: the headless mini-Fiji (ImageJ, SciJava and Jython from Maven Central, joined by
tests/hosts/fiji), a plain ImageJ with its windows on a virtual display, and a real Fiji where the
variable FIJI_HOME names one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from tests.conftest import ROOT, require
from tools import fiji_host

SCRIPTS = ROOT / "fiji_scripts"
ABORTED = "[aborted]"
MINI, REAL = "mini-Fiji", "FIJI_HOME"
START_S = 120.0
ANSWER_S = 180.0
LOOK_S = 60.0
_SCREEN = "1400x1000x24"
_NO_COPIES = shutil.ignore_patterns("__pycache__", "*$py.class", "README.md")


class AskedError(Exception):
    """What ImageJ was asked to do ended in an exception; the message is its trace."""


class Ticket:
    """A request that may still run."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.done = threading.Event()
        self.answer: dict[str, str] = {}


class ImageJ:
    """One running ImageJ; made by `mini_fiji` or `plain_imagej`.

    Attributes
    ----------
    folder
        Its application folder.
    printed
        What scripts printed and ImageJ logged, from the start; headless, IJ.log goes there too.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.folder = folder
        self.printed = ""
        self._process = process
        self._tickets = {0: Ticket(0)}
        self._lock = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.wait(self._tickets[0], START_S)

    @property
    def pid(self) -> int:
        """Process of its Java machine."""
        return self._process.pid

    def macro(self, text: str, argument: str = "") -> str | None:
        """Run a macro; gives what it returns, `ABORTED` after an error, None for nothing."""
        return self.wait(self.start_macro(text, argument)).get("result")

    def start_macro(self, text: str, argument: str = "") -> Ticket:
        """Run a macro without waiting for its end."""
        return self._ask(do="macro", text=text, argument=argument)

    def script(self, name: str, **inputs: object) -> dict[str, str]:
        """Run a script of the menu by its file name with #@ inputs; gives its outputs."""
        path = self.folder / "scripts" / "Plugins" / "CellSeg" / name
        return self.script_file(path, **inputs)

    def script_file(self, path: Path, **inputs: object) -> dict[str, str]:
        """Run any script file with #@ inputs; gives its outputs as text."""
        given = {f"in.{key}": _as_text(value) for key, value in inputs.items()}
        answer = self.wait(self._ask(do="script", path=str(path), **given))
        return {key[4:]: text for key, text in answer.items() if key.startswith("out.")}

    def python(self, text: str, seconds: float = LOOK_S) -> Any:
        """Run Jython that looks at things; gives what it puts into ``result``, by JSON."""
        asked = self._ask(
            do="python",
            text=f"import json\nresult = None\n{text}\nresult = json.dumps(result)\n",
        )
        return json.loads(self.wait(asked, seconds)["result"])

    def wait(self, ticket: Ticket, seconds: float = ANSWER_S) -> dict[str, str]:
        """Give the answer to a request, when it is there.

        Raises
        ------
        AskedError
            It ended in an exception.
        """
        if not ticket.done.wait(seconds):
            shown = self._windows() if seconds > LOOK_S else "nothing that can be seen"
            self.close()
            said = f"it shows {shown} and said: {self.printed}"
            pytest.fail(f"ImageJ did not answer within {seconds:g} s; {said}")
        if "error" in ticket.answer:
            raise AskedError(ticket.answer["error"])
        return ticket.answer

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _windows(self) -> Any:
        """Give titles and texts of the windows, one of which may wait for an answer."""
        from tests.integration.fiji_screen import window_texts, window_titles

        try:
            return {title: window_texts(self, title) for title in window_titles(self)}
        except AskedError as error:
            return error

    def _ask(self, **pairs: str) -> Ticket:
        with self._lock:
            ticket = Ticket(len(self._tickets))
            self._tickets[ticket.number] = ticket
            line = urlencode({"id": ticket.number, **pairs}) + "\n"
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode("ascii"))
            self._process.stdin.flush()
        return ticket

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = dict(parse_qsl(line.decode("ascii").strip(), keep_blank_values=True))
            self.printed += answer["printed"]
            ticket = self._tickets[int(answer["id"])]
            ticket.answer = answer
            ticket.done.set()
        for ticket in self._tickets.values():
            if not ticket.done.is_set():
                ticket.answer = {"error": f"ImageJ ended. It said: {self.printed}"}
                ticket.done.set()


@contextmanager
def mini_fiji(
    folder: Path,
    environment: Mapping[str, str] | None = None,
    kind: str = MINI,
    options: tuple[str, ...] = (),
) -> Iterator[ImageJ]:
    """Run a headless Fiji on an application folder that `lay_out` made.

    Parameters
    ----------
    folder
        The application folder; a home is made beside it.
    environment
        Variables, for example ``Place.environment()`` of tests/integration/service.py; those of
        this process if None.
    kind
        `MINI`, or `REAL` for the one that FIJI_HOME names, which is only read. Without it the
        test is skipped.
    options
        More options of Java.
    """
    host = require_host()
    classpath = fiji_host.mini_fiji_classpath(host)
    if kind == REAL:
        jars = [str(real_fiji() / name / "*") for name in ("jars", "plugins")]
        classpath = os.pathsep.join([*jars, str(fiji_host.server_classes(host))])
    more = ["-Djava.awt.headless=true", f"-Dscijava.dir={folder}", *options]
    with _running(folder, more, classpath, "fiji", dict(environment or os.environ)) as imagej:
        yield imagej


@contextmanager
def plain_imagej(
    folder: Path, display: str, environment: Mapping[str, str] | None = None
) -> Iterator[ImageJ]:
    """Run a plain ImageJ, with its windows, on a folder that `lay_out_imagej` made."""
    host = require_host()
    classpath = os.pathsep.join([str(folder / "ij.jar"), str(fiji_host.server_classes(host))])
    variables = {**(environment or os.environ), "DISPLAY": display}
    with _running(folder, [], classpath, "imagej", variables) as imagej:
        yield imagej


@contextmanager
def _running(
    folder: Path, options: list[str], classpath: str, kind: str, variables: Mapping[str, str]
) -> Iterator[ImageJ]:
    home = folder.with_name(folder.name + " home")
    home.mkdir(exist_ok=True)
    command = [
        fiji_host.find_program("java"),
        "-Xmx2g",
        "-Dfile.encoding=UTF-8",
        "--add-opens=java.base/java.lang=ALL-UNNAMED",
        f"-Dimagej.dir={folder}",
        f"-Dplugins.dir={folder}",
        f"-Dpython.home={folder / 'jars'}",
        "-Dpython.cachedir.skip=true",
        f"-Dcellseg.jython={require_host() / 'jars'}",  # for tests, where ImageJ has none
        f"-Duser.home={home}",
        *options,
        "-cp",
        classpath,
        "cellseg.testhost.Server",
        kind,
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables, cwd=home
    )
    imagej = ImageJ(process, folder)
    try:
        yield imagej
    finally:
        imagej.close()


def require_host() -> Path:
    """Give the built test host, or skip (in continuous integration: fail)."""
    reason = "needs the ImageJ test host: python tools/fiji_host.py build (JDK and Maven)"
    return require(fiji_host.find_host(), reason)


def real_fiji() -> Path:
    """Give the Fiji that FIJI_HOME names, or skip."""
    named = os.environ.get("FIJI_HOME", "")
    if not named:
        pytest.skip("needs FIJI_HOME: the folder of a Fiji")
    folder = Path(named)
    if not list(folder.glob("jars/imagej-legacy*.jar")):
        pytest.fail(f"FIJI_HOME is {folder}, which holds no jars/imagej-legacy*.jar", pytrace=False)
    return folder


def lay_out(folder: Path, engine_python: str | None = sys.executable) -> Path:
    """Make an application folder with our scripts, as ``cellseg install fiji`` lays them out.

    Parameters
    ----------
    folder
        Made; may have spaces in its name.
    engine_python
        For engine.json; None leaves it out, as before Install_Engine.
    """
    menu = folder / "scripts" / "Plugins" / "CellSeg"
    menu.mkdir(parents=True)
    for script in sorted(SCRIPTS.glob("*.py")):
        shutil.copy(script, menu)
    package = folder / "jars" / "Lib" / "cellseg_jy"
    shutil.copytree(SCRIPTS / "cellseg_jy", package, ignore=_NO_COPIES)
    if engine_python:
        engine = {"engine_python": engine_python, "version": "0"}
        (package / "engine.json").write_text(json.dumps(engine), encoding="utf-8")
    return folder


def lay_out_imagej(folder: Path, engine_python: str | None = sys.executable) -> Path:
    """Make a plain ImageJ folder with our scripts, the jar for its menu, and Jython."""
    host = require_host()
    lay_out(folder, engine_python)
    plugins = folder / "plugins"
    (plugins / "jars").mkdir(parents=True)
    (folder / "macros").mkdir()
    (folder / "luts").mkdir()  # the official ImageJ has it, and logs when groups of ROIs lack it
    (folder / "luts" / "glasbey.lut").write_bytes(bytes(37 * i % 256 for i in range(768)))
    shutil.copy(fiji_host.imagej_jar(host), folder / "ij.jar")
    for jar in fiji_host.jython_jars(host):
        (plugins / "jars" / jar.name).symlink_to(jar)
    shutil.copy(fiji_host.ADAPTER_JAR, plugins)
    return folder


@contextmanager
def virtual_display(window_manager: str | None = None) -> Iterator[str]:
    """Give the name of a display of Xvfb, or skip (in continuous integration: fail).

    With a window manager, for example ``openbox``, windows have frames, for pictures.
    """
    program = require(shutil.which("Xvfb"), "needs Xvfb (Debian, Ubuntu: apt-get install xvfb)")
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [program, "-displayfd", str(writing), "-screen", "0", _SCREEN, "-nolisten", "tcp"],
        pass_fds=[writing],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    started = [process]
    os.close(writing)
    try:
        with os.fdopen(reading) as answer:
            number = answer.readline().strip()
        assert number, "Xvfb ended at once"
        if window_manager:
            variables = {**os.environ, "DISPLAY": f":{number}"}
            started.append(subprocess.Popen([window_manager], env=variables))
        yield f":{number}"
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            process.wait()


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
