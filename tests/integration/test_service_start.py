"""Finding and starting the engine: exactly one, whatever lies about."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cellseg_client import AccessError, Engine, EngineStartError, EngineTimeoutError
from cellseg_client.connection import Connection
from cellseg_client.start import find_or_start
from cellseg_engine.cli import doctor
from tests.integration.cli import disks
from tests.integration.service import Place, client_folder, old_pythons, place, wait_until

RACES = 20
RACERS = 10


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as there:
        yield there


class Impostor(http.server.BaseHTTPRequestHandler):
    """Answers as an engine would, but does not know the token."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(f"{self.path} {self.headers}")
        body = json.dumps({"proof": "0" * 64, "pid": os.getpid(), "wire": 1}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names of the base class

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def write_record(there: Place, port: int, pid: int) -> str:
    token = "a" * 64
    record = {
        "url": f"http://127.0.0.1:{port}",
        "token": token,
        "pid": pid,
        "version": "0",
        "wire": 1,
        "exchange": str(there.fast),
        "exchange_large": str(there.large),
    }
    (there.runtime / "engine.json").write_text(json.dumps(record), encoding="utf-8")
    return token


def test_ten_processes_that_start_together_make_one_engine_twenty_times(
    there: Place, tmp_path: Path
) -> None:
    pythons = old_pythons()
    environment = there.environment(
        PYTHONPATH=str(client_folder(tmp_path)), TMPDIR=str(there.large)
    )
    rng = random.Random(0)
    pids = set()
    for race in range(RACES):
        racers = [
            subprocess.Popen(
                [rng.choice(pythons), "-m", "cellseg_client", "ensure"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(RACERS)
        ]
        answers = [racer.communicate(timeout=60) for racer in racers]
        assert [racer.returncode for racer in racers] == [0] * RACERS, answers
        records = [json.loads(out) for out, _ in answers]
        assert all(record == records[0] for record in records)
        pid = records[0]["pid"]
        assert pid not in pids
        pids.add(pid)
        assert there.log.count("listening at") == race + 1
        os.kill(pid, signal.SIGTERM if race % 2 else signal.SIGKILL)  # the last one tidies up
        wait_until(lambda pid=pid: not _exists(pid), "the end of the engine")  # type: ignore[misc]


def _exists(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_stale_record_of_a_dead_port_with_a_reused_pid(there: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    write_record(there, port, os.getpid())
    engine = there.engine()
    assert engine.pid != os.getpid()
    assert there.record()["pid"] == engine.pid
    assert engine.segment(disks(), "YX", {"diameter_px": 24}).n_objects == 4


def test_an_impostor_at_the_old_port_never_sees_the_token(there: Place) -> None:
    Impostor.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Impostor) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        token = write_record(there, server.server_address[1], os.getpid())
        engine = there.engine()
        server.shutdown()
    assert engine.url != f"http://127.0.0.1:{server.server_address[1]}"
    assert Impostor.seen
    assert not any(token in request for request in Impostor.seen)


@pytest.mark.parametrize("kind", ["own", "by address"])
def test_an_impostor_in_the_place_of_a_known_engine_never_sees_the_token(
    there: Place, kind: str
) -> None:
    there.start(fake=True)
    found, token = there.engine(), "a" * 64
    Impostor.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Impostor) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        old = Connection(f"http://127.0.0.1:{server.server_address[1]}", token)
        if kind == "own":
            engine = Engine(old, found._found, found._restart)
            assert engine.segment(disks(), "YX").n_objects == 1
            assert engine.url == found.url
        else:
            engine = Engine(old)
            for use in (lambda: engine.segment(disks(), "YX"), engine.status, engine.models):
                with pytest.raises(AccessError, match="is no engine with this token"):
                    use()
        server.shutdown()
    assert Impostor.seen
    assert not any(token in request for request in Impostor.seen)


def test_a_silent_listener_at_the_old_port(there: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        write_record(there, port, os.getpid())
        assert there.engine().url != f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"url": 1}', b"\xff\xfe", b"[" * 60000, b"x" * 100_000],
)
def test_a_damaged_record_counts_as_none(there: Place, content: bytes) -> None:
    (there.runtime / "engine.json").write_bytes(content)
    assert there.find() is None


def test_a_home_with_spaces_and_letters_of_the_world_and_a_poisoned_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "Zoë Müller 細胞 's home"
    poison = tmp_path / "poison"
    for name in ("numpy", "json", "starlette"):
        (poison / name).mkdir(parents=True)
        (poison / name / "__init__.py").write_text("raise RuntimeError('poison')", encoding="utf-8")
    with place(home) as there:
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("TMPDIR", str(there.large))
        monkeypatch.setenv("PYTHONPATH", str(poison))
        monkeypatch.setenv("PYTHONHOME", str(poison))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        engine = there.engine()
        assert all(str(home) in str(folder) for folder in engine.exchange_folders)
        assert engine.segment(disks(), "YX", {"diameter_px": 24}).n_objects == 4
        assert there.exchanged() == []


def test_a_python_without_the_engine_is_a_sentence_that_says_what_to_do(
    there: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLSEG_RUNTIME", str(there.runtime))
    other = old_pythons()[0]
    with pytest.raises(EngineStartError, match="No module named") as caught:
        find_or_start(str(other), 30)
    assert "It has no engine: install one there, or set CELLSEG_ENGINE_PYTHON" in str(caught.value)
    with pytest.raises(EngineStartError, match="cannot be started: /no/such/python: No such file"):
        find_or_start("/no/such/python", 30)
    assert there.exchange_folders() == []


def test_a_runtime_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("CELLSEG_RUNTIME", str(tmp_path / "link"))
    with pytest.raises(EngineStartError, match="is not a plain folder of yours"):
        find_or_start(sys.executable, 5)
    (tmp_path / "elsewhere").chmod(0o755)
    monkeypatch.setenv("CELLSEG_RUNTIME", str(tmp_path / "elsewhere"))
    with pytest.raises(EngineStartError, match=r"Others may enter .*, which CELLSEG_RUNTIME names"):
        find_or_start(sys.executable, 5)
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_folders_of_killed_engines_are_swept_and_those_of_others_stay(there: Place) -> None:
    killed = there.start(fake=True)
    orphans = there.exchange_folders()
    killed.kill()
    killed.wait()
    with place(there.folder / "second") as second:
        second.arguments = [
            "--fast-folder",
            str(there.fast),
            "--temporary-folder",
            str(there.large),
        ]
        second.start(fake=True)
        alive = there.exchange_folders()
        assert not set(alive) & set(orphans)
        assert len(alive) == 2
        there.start(
            fake=True
        )  # with a runtime folder of its own: the other's folders are no orphans
        assert set(alive) < set(there.exchange_folders())
        assert second.engine().segment(disks(), "YX").n_objects == 1


def test_serve_and_doctor(there: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLSEG_RUNTIME", str(there.runtime))
    assert doctor._check_service().detail.startswith("no engine runs")
    process = subprocess.Popen(
        [sys.executable, "-m", "cellseg_engine", "serve", *there.options],
        env=there.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    there.processes.append(process)  # type: ignore[arg-type]
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
        assert line.startswith("The engine runs at http://127.0.0.1:")
        finding = doctor._check_service()
        assert f"process {process.pid}" in finding.detail
        assert there.record()["token"] not in line + str(finding)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "Ctrl-C ends it.\n"
    process.wait(20)
    assert there.exchange_folders() == []
    with contextlib.suppress(EngineTimeoutError):
        assert there.find() is None
