"""An engine that loses its folders, cannot be loaded, or is kept waiting."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from cellseg_client import EngineTimeoutError, FailedError, start
from cellseg_engine import _version
from cellseg_service import server
from cellseg_service.errors import ExchangeLostError
from cellseg_service.exchange import Exchange
from cellseg_service.options import ServiceOptions
from cellseg_service.record import Record
from cellseg_service.service import Service
from cellseg_service.update import newer_version
from tests.integration.cli import disks
from tests.integration.service import FAKE, Place, place, wait_until

TOKEN = "t" * 64
END_S = 60.0


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as there:
        yield there


# --- exchange folders that are removed -----------------------------------------------------------


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Give a temporary folder that a session of the user removes at its end."""
    folder = tmp_path / "session"
    folder.mkdir()
    return folder


@pytest.fixture
def service(session: Path) -> Iterator[Service]:
    exchange = Exchange(None, session)
    yield Service(ServiceOptions(), TOKEN, exchange, lambda _: pytest.fail("no model"))
    exchange.close()


def test_a_folder_whose_parent_was_removed_is_made_again(service: Service, session: Path) -> None:
    folder = service.exchange.large
    shutil.rmtree(session)
    assert service.health("ab", authorized=False)["wire"] == 1
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0
    assert service.why_over() == ""
    assert service.exchange.save_bytes(b"table", ".csv").read_bytes() == b"table"


def test_an_engine_without_folders_proves_itself_and_ends(service: Service, session: Path) -> None:
    shutil.rmtree(session)
    session.write_bytes(b"in the way")
    service._active = before = -1.0
    health = service.health("ab", authorized=True)
    assert health["proof"] == hmac.new(TOKEN.encode(), b"ab", hashlib.sha256).hexdigest()
    assert service._active == before  # no activity
    reason = service.why_over()
    assert reason.startswith(f"The exchange folder {service.exchange.large} is gone and cannot be")
    with pytest.raises(ExchangeLostError, match="starts one with new folders"):
        service.exchange.save_bytes(b"table", ".csv")
    with pytest.raises(ExchangeLostError, match="is gone and cannot be made again"):
        service.exchange.new_upload(5)


def test_a_folder_of_somebody_else_in_its_place_is_not_used(
    service: Service, session: Path
) -> None:
    folder = service.exchange.large
    shutil.rmtree(folder)
    (session / "elsewhere").mkdir()
    folder.symlink_to(session / "elsewhere")
    with pytest.raises(ExchangeLostError, match="cannot be made again: File exists"):
        service.exchange.save_bytes(b"table", ".csv")
    assert list((session / "elsewhere").iterdir()) == []


def test_the_process_ends_when_its_folders_cannot_be_made_again(there: Place) -> None:
    process = there.start(fake=True)
    shutil.rmtree(there.large)
    there.large.write_bytes(b"in the way")
    assert process.wait(END_S) == 0
    assert not (there.runtime / "engine.json").exists()
    assert "ends: The exchange folder" in there.log
    there.large.unlink()


# --- a runtime folder that is removed ------------------------------------------------------------


def test_a_record_that_was_removed_is_written_again(there: Place) -> None:
    there.start(fake=True)
    record = there.record()
    (there.runtime / "engine.json").unlink()
    wait_until((there.runtime / "engine.json").exists, "the writing")
    assert there.record() == record
    assert (there.runtime / "engine.json").stat().st_mode & 0o077 == 0


def test_an_engine_without_its_runtime_folder_ends_and_leaves_the_next_one_its_record(
    there: Place,
) -> None:
    first = there.start(fake=True)
    os.kill(first.pid, signal.SIGSTOP)  # so that both run for a while
    shutil.rmtree(there.runtime)
    there.runtime.mkdir(mode=0o700)
    second = there.start(fake=True)
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(END_S) == 0
    found = there.find()
    assert found is not None
    assert found.record["pid"] == second.pid


def test_only_the_own_record_is_withdrawn(tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    (tmp_path / "engine.lock").touch()
    folders: Any = SimpleNamespace(fast=tmp_path, large=tmp_path)
    record, other = (Record(tmp_path, "http://x", token, folders) for token in ("a", "b"))
    for written, is_left in ((record, False), (other, True)):
        written.write()
        record.withdraw()
        assert path.exists() is is_left
    assert record.make_sure() == ""
    path.unlink()
    assert record.make_sure() == ""
    assert path.exists()
    for file in (path, tmp_path / "engine.lock"):
        os.utime(file, (1.0, 1.0))
    record.refresh()
    for file in (path, tmp_path / "engine.lock"):
        assert file.stat().st_mtime > 1.0
    (tmp_path / "another").touch()
    (tmp_path / "another").replace(tmp_path / "engine.lock")  # that of another engine
    path.unlink()
    assert record.make_sure().startswith(f"the runtime folder {tmp_path} was removed")
    assert not path.exists()


def test_the_version_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "_version.py"
    monkeypatch.setattr(_version, "__file__", str(file))
    assert newer_version() == ""
    for text, expected in (
        (f'"""Text."""\n\n__version__ = "{_version.__version__}"\n', ""),
        ('"""Text."""\n\n__version__ = "99.', ""),  # half of it
        ('"""Text."""\n\n__version__ = "99.1"\n', "99.1"),
    ):
        file.write_text(text, encoding="utf-8")
        assert newer_version() == expected


# --- an engine that cannot be found --------------------------------------------------------------


def test_the_time_out_names_the_process_that_holds_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = SimpleNamespace(has_given_way=lambda: True, found_another=True)
    monkeypatch.setattr(start, "_Child", lambda *_: child)
    monkeypatch.setattr(start, "find_engine", lambda _: None)
    monkeypatch.setenv("CELLSEG_RUNTIME", str(tmp_path))
    with pytest.raises(EngineTimeoutError, match=r"The engine was not ready after 0\.3 s"):
        start.find_or_start(sys.executable, 0.3)
    record = '{"url": "http://x", "token": "t", "pid": 4711, "exchange": "", "exchange_large": ""}'
    (tmp_path / "engine.json").write_text(record, encoding="utf-8")
    with pytest.raises(EngineTimeoutError, match=r"\(process 4711\) runs but has not") as caught:
        start.find_or_start(sys.executable, 0.3)
    assert "End process 4711 and try again" in caught.value.hint
    child.found_another = False  # nobody holds the lock, so the record is an old one
    with pytest.raises(EngineTimeoutError, match="The engine was not ready"):
        start.find_or_start(sys.executable, 0.3)


# --- a torch that cannot be loaded ---------------------------------------------------------------


def test_an_engine_that_broke_down_says_so(service: Service) -> None:
    assert service.state == "starting"
    said = service.break_down(OSError("libcudart.so.12: cannot open shared object file"))
    assert said.startswith("The engine cannot be loaded: OSError: libcudart.so.12: cannot open")
    assert service.health("ab", authorized=True)["state"] == "failed"
    status = service.status()
    assert (status["state"], status["memory"]["gpu"]) == ("failed", None)


def test_an_engine_that_cannot_be_loaded_says_why_and_ends(there: Place, tmp_path: Path) -> None:
    torch = tmp_path / "broken" / "torch"
    torch.mkdir(parents=True)
    cause = "libcudart.so.12: cannot open shared object file"
    (torch / "__init__.py").write_text(f"raise OSError({cause!r})", encoding="utf-8")
    environment = there.environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(torch.parent), environment["PYTHONPATH"]])
    with (there.runtime / "engine.err").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(FAKE), "--background", *there.options],
            env=environment,
            stderr=output,
        )
    there.processes.append(process)
    wait_until(there.find, "the start", END_S)
    with pytest.raises(FailedError, match="cannot be loaded: OSError: " + cause) as caught:
        there.engine().segment(disks(), "YX")
    assert "cellseg doctor" in caught.value.hint
    assert there.exchanged() == []
    assert process.wait(END_S) == server.EXIT_BROKEN
    assert cause in (there.runtime / "engine.err").read_text(encoding="utf-8")


# --- those who connect and ask nothing -----------------------------------------------------------


async def _answer(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_who_asks_nothing_or_half_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST_S", 0.05)

    async def connect() -> list[bytes]:
        config = uvicorn.Config(_answer, http=server._Protocol, lifespan="off", log_config=None)
        config.load()
        state = ServerState()

        def accept() -> asyncio.Protocol:
            return server._Protocol(config=config, server_state=state, app_state={})

        listener = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener:
            answers = []
            for asked in (b"", whole[:20], whole, kept + whole[:20]):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(asked)
                answers.append(await reader.read())
                writer.close()
        return answers

    whole = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    kept = whole.replace(b"Connection: close\r\n", b"")
    silent, half, *answers = asyncio.run(asyncio.wait_for(connect(), END_S))
    assert (silent, half) == (b"", b"")
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 204")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_more_open_files_are_allowed() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        server._allow_open_files()
        wanted = server.OPEN_FILES
        limit = wanted if before[1] == resource.RLIM_INFINITY else min(wanted, before[1])
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit, before[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        server._allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]  # never fewer
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
