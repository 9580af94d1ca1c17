"""Help for tests of the service: start a real process of it, and look at what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

import cellseg_client
from cellseg_client.start import Found, find_engine, find_or_start
from tests.conftest import ROOT, find_pythons

FAKE = Path(__file__).with_name("service_fake.py")
START_S = 60.0
FEW_S = 20.0
OLD_PYTHONS = ("3.8", "3.9")
_WITH_NUMPY = "import numpy, sys; print(sys.version_info[1])"


def wait_until(is_so: Callable[[], object], what: str, seconds: float = FEW_S) -> None:
    """Wait for something that happens soon; fail if it does not."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.01)


@dataclass
class Place:
    """A runtime folder and two parents of exchange folders, for one engine after the other."""

    folder: Path
    arguments: Sequence[str] = ()
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for parent in (self.fast, self.large):
            parent.mkdir(parents=True, exist_ok=True)
        self.runtime.mkdir(mode=0o700, exist_ok=True)

    @property
    def runtime(self) -> Path:
        return self.folder / "runtime"

    @property
    def fast(self) -> Path:
        return self.folder / "fast"

    @property
    def large(self) -> Path:
        return self.folder / "large"

    @property
    def log(self) -> str:
        return (self.runtime / "engine.log").read_text(encoding="utf-8")

    @property
    def options(self) -> list[str]:
        """Options of the service that keep it in this place."""
        folders = ["--fast-folder", str(self.fast), "--temporary-folder", str(self.large)]
        return [*folders, *self.arguments]

    def start(self, *more: str, fake: bool = False) -> subprocess.Popen[bytes]:
        """Start a service and wait until it can be asked."""
        program = [str(FAKE)] if fake else ["-m", "cellseg_service"]
        with (self.runtime / "engine.err").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *program, "--background", *self.options, *more],
                stdout=output,
                stderr=output,
                env=self.environment(),
            )
        self.processes.append(process)
        wait_until(lambda: self.find() or process.poll() is not None, "the start", START_S)
        assert process.poll() is None, (self.runtime / "engine.err").read_text(encoding="utf-8")
        return process

    def environment(self, **more: str) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), str(ROOT / "bridges")])
        return {
            **os.environ,
            "PYTHONPATH": path,
            "CELLSEG_RUNTIME": str(self.runtime),
            "CELLSEG_ENGINE_PYTHON": sys.executable,
            **more,
        }

    def find(self) -> Found | None:
        return find_engine(self.runtime)

    def engine(self) -> cellseg_client.Engine:
        """Give the engine that runs here; another is started when it is gone."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CELLSEG_RUNTIME", str(self.runtime))
            found = find_or_start(sys.executable, START_S, self.options)
        return cellseg_client.Engine(found.connection, found, self._restart)

    def _restart(self) -> Found:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CELLSEG_RUNTIME", str(self.runtime))
            return find_or_start(sys.executable, START_S, self.options)

    def exchange_folders(self) -> list[Path]:
        """Give the exchange folders that there are."""
        parents = [parent for parent in (self.fast, self.large) if parent.exists()]
        return sorted(path for parent in parents for path in parent.glob("cellseg-*"))

    def exchanged(self) -> list[Path]:
        """Give the files in them."""
        folders = self.exchange_folders()
        return sorted(p for folder in folders for p in folder.iterdir() if p.name != ".lock")

    def record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(
            (self.runtime / "engine.json").read_text(encoding="utf-8")
        )
        return content

    def stop(self) -> None:
        """End whatever runs here, also what a client started."""
        pids = {process.pid for process in self.processes if process.poll() is None}
        with contextlib.suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
            pids.add(int(self.record()["pid"]))
        for pid in pids & set(_services()):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        for process in self.processes:
            process.wait(FEW_S)
        wait_until(lambda: not pids & set(_services()), "the end")


@contextmanager
def place(folder: Path, *arguments: str) -> Iterator[Place]:
    """Give a place for engines, which are ended at the end."""
    there = Place(folder, arguments)
    try:
        yield there
    finally:
        there.stop()


def ask(
    found: Found | None,
    method: str,
    path: str,
    body: bytes | None = None,
    **headers: str,
) -> tuple[int, dict[str, Any]]:
    """Send a request as it is and give status and JSON; ``token=""`` leaves the token out."""
    assert found is not None
    token = headers.pop("token", found.connection.token)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        given["X-CellSeg-Token"] = token
    host = found.connection.url.removeprefix("http://")
    connection = HTTPConnection(host, timeout=FEW_S)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body=body, headers=given)  # may be refused meanwhile
        response = connection.getresponse()
        text = response.read()
        lines = text.splitlines()
        return response.status, json.loads(lines[-1]) if lines else {}
    finally:
        connection.close()


def segment_body(name: str, **more: Any) -> bytes:
    """Give the JSON of a request."""
    return json.dumps({"wire": 1, "image": {"array": name}, "axes": "YX", **more}).encode()


def old_pythons() -> list[Path]:
    """Give Pythons 3.8 and 3.9 that have NumPy; where one has none, make an environment.

    Without any, the test is skipped.
    """
    found = [_with_numpy(version) for version in OLD_PYTHONS]
    return [python for python in found if python] or pytest.skip("needs Python 3.8 or 3.9")


def client_folder(folder: Path) -> Path:
    """Copy the client alone, so that nothing of the engine can be imported by mistake."""
    if not (folder / "cellseg_client").exists():
        shutil.copytree(
            ROOT / "bridges" / "cellseg_client",
            folder / "cellseg_client",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return folder


def _with_numpy(version: str) -> Path | None:
    home = ROOT / "build" / f"client-python-{version}"
    made = home / "bin" / "python"
    if made.exists() and _runs(made):
        return made
    for base in find_pythons(version):
        if _runs(base):
            return base
        home.parent.mkdir(exist_ok=True)
        commands = (
            [str(base), "-m", "venv", str(home)],
            [str(made), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "numpy"],
        )
        if all(_quietly(command) for command in commands) and _runs(made):
            return made
    return None


def _runs(python: Path) -> bool:
    return _quietly([str(python), "-c", _WITH_NUMPY])


def _quietly(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _services() -> list[int]:
    """Give the processes that are a service, by what they were started with."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if "service" in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(int(process.info["pid"]))
    return found
