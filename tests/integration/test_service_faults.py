"""What goes wrong on the way: the message for the user, and the state left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import cellseg_client
from cellseg_client import (
    AccessError,
    EngineError,
    EngineLostError,
    EngineTimeoutError,
    FailedError,
    RefusedError,
    SegmentationCancelledError,
)
from cellseg_client.start import EXIT_RUNNING
from tests.conftest import require
from tests.integration.cli import disks
from tests.integration.service import Place, ask, place, segment_body, wait_until

SLOW = {"model": "slow", "iterations": 3000}
"""A minute of steps of 20 ms."""


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as there:
        yield there


@pytest.fixture(scope="module")
def shared_there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give a fake engine for tests that leave it as it was."""
    with place(tmp_path_factory.mktemp("faults")) as there:
        there.start(fake=True)
        yield there


@contextlib.contextmanager
def tiny_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a small file system in memory there."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    can_mount = sys.platform == "linux" and os.getuid() == 0 and shutil.which("mount")
    done = can_mount and subprocess.run(command, capture_output=True, check=False).returncode == 0
    require(done, "needs the right to mount a small file system (root on Linux)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def run_in_thread(engine: cellseg_client.Engine, image: np.ndarray, **options: Any) -> Caller:
    caller = Caller(engine, image, options)
    caller.start()
    return caller


class Caller(threading.Thread):
    """A caller that waits for its result; the error or the result is kept."""

    def __init__(
        self, engine: cellseg_client.Engine, image: np.ndarray, options: dict[str, Any]
    ) -> None:
        super().__init__(daemon=True)
        self._call = (engine, image, options)
        self.started = threading.Event()
        self.queued = threading.Event()
        self.job = ""
        self.result: cellseg_client.Result | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        engine, image, options = self._call
        try:
            self.result = engine.segment(image, "YX", progress=self._see, **options)
        except EngineError as error:
            self.error = error

    def _see(self, news: cellseg_client.Progress) -> None:
        self.job = news.job
        self.queued.set()
        if news.stage != "queued":
            self.started.set()

    def end(self) -> None:
        self.join(30)
        assert not self.is_alive()


# --- the engine dies, hangs or is ended ----------------------------------------------------------


def test_an_engine_killed_in_the_middle_is_one_clear_error_and_the_next_call_starts_a_new_one(
    there: Place,
) -> None:
    process = there.start(fake=True)
    engine = there.engine()
    old_folders = there.exchange_folders()
    caller = run_in_thread(engine, disks(), settings=SLOW)
    assert caller.started.wait(20)
    process.kill()
    caller.end()
    assert isinstance(caller.error, EngineLostError)
    assert f"(process {process.pid}) ended" in str(caller.error)
    assert "the next call starts a new engine" in str(caller.error)
    assert there.exchanged() == []

    process.wait(10)
    result = engine.segment(disks(), "YX", {"diameter_px": 24})
    assert result.n_objects == 4
    assert engine.pid != process.pid
    assert len(there.exchange_folders()) == 2
    assert not set(old_folders) & set(there.exchange_folders())


def test_a_hung_engine_is_a_time_out_that_names_the_process(there: Place) -> None:
    process = there.start(fake=True)
    engine = there.engine()
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(EngineTimeoutError, match=f"end process {process.pid} and try again"):
            engine.segment(disks(), "YX", timeout_s=1)
        assert there.exchanged() == []
        done = subprocess.run(
            [sys.executable, "-m", "cellseg_client", "ensure", "--timeout", "1"],
            env=there.environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1
        assert f"The engine (process {process.pid}) runs but has not answered" in done.stderr
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert engine.segment(disks(), "YX").n_objects == 1
    assert engine.pid == process.pid


def test_an_engine_that_hangs_in_a_job_is_left_at_the_time_limit(there: Place) -> None:
    there.start(fake=True)
    engine = there.engine()
    assert engine.segment(disks(), "YX").n_objects == 1  # it is warm: the next one begins at once
    with pytest.raises(EngineTimeoutError, match=r"no result after 3 s; the job is stopped"):
        engine.segment(disks(), "YX", {"model": "deaf"}, timeout_s=3)
    assert engine.status()["running"]  # left while it was still deaf
    (there.runtime / "hear").touch()
    assert engine.segment(disks(), "YX").n_objects == 1
    assert there.exchanged() == []


def test_sigterm_stops_the_jobs_and_leaves_nothing(there: Place) -> None:
    process = there.start(fake=True)
    caller = run_in_thread(there.engine(), disks(), settings=SLOW)
    assert caller.started.wait(20)
    process.terminate()
    caller.end()
    assert isinstance(caller.error, SegmentationCancelledError)
    assert "The engine was ended" in str(caller.error)
    assert process.wait(10) == 0
    assert there.exchange_folders() == []
    names = sorted(path.name for path in there.runtime.iterdir())
    assert names == ["engine.err", "engine.lock", "engine.log"]


def test_an_idle_engine_ends_itself_and_looking_at_its_status_does_not_keep_it(
    there: Place,
) -> None:
    process = there.start("--idle-timeout", "2", fake=True)
    found = there.find()
    for _ in range(100):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            ask(found, "GET", "/v1/status")
        time.sleep(0.1)
    assert process.poll() == 0
    assert there.exchange_folders() == []
    assert not (there.runtime / "engine.json").exists()


def test_a_port_that_is_taken(there: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "cellseg_service", "--port", str(port), *there.options],
            env=there.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert f"cannot listen at 127.0.0.1, port {port}: Address already in use" in done.stderr
    assert "--port 0" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (there.runtime / "engine.json").exists()
    assert there.exchange_folders() == []
    there.start(fake=True)  # the lock is free again


def test_a_second_service_says_that_one_runs(shared_there: Place) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cellseg_service", *shared_there.options],
        env=shared_there.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == EXIT_RUNNING
    assert f"(process {shared_there.record()['pid']})" in done.stderr
    assert shared_there.find() is not None


# --- the caller goes or wants no more ------------------------------------------------------------


def test_a_client_that_vanishes_stops_its_job_within_a_tile(shared_there: Place) -> None:
    engine = shared_there.engine()
    code = (
        "import cellseg_client, numpy as np\n"
        "say = lambda news: print(news.stage, flush=True)\n"
        f"cellseg_client.ensure().segment(np.eye(64), 'YX', {SLOW}, progress=say)\n"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code],
        env=shared_there.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    with client.stdout:
        for line in client.stdout:
            if line.strip() == "network":
                break
        before = engine.status()["counters"]["jobs_cancelled"]
        client.kill()
        gone = time.monotonic()
        client.wait(10)
    wait_until(lambda: not engine.status()["running"], "the end of the job")
    assert time.monotonic() - gone < 2
    assert engine.status()["counters"]["jobs_cancelled"] == before + 1
    assert engine.status()["recent"][0]["error"]["message"] == (
        "The program that asked for it has gone."
    )
    assert shared_there.exchanged() == []


def test_cancel_by_the_caller_and_by_another_thread(shared_there: Place) -> None:
    engine = shared_there.engine()
    with pytest.raises(SegmentationCancelledError):
        engine.segment(disks(), "YX", SLOW, is_cancelled=lambda: True)
    caller = run_in_thread(engine, disks(), settings=SLOW)
    assert caller.started.wait(20)
    waiting = run_in_thread(engine, disks(), settings=SLOW)
    assert waiting.queued.wait(20)
    engine.cancel(waiting.job)
    waiting.end()
    engine.cancel(caller.job)
    caller.end()
    assert isinstance(caller.error, SegmentationCancelledError)
    assert isinstance(waiting.error, SegmentationCancelledError)
    with pytest.raises(RefusedError, match="no such job, or it is over"):
        engine.cancel(caller.job)
    assert shared_there.exchanged() == []


# --- the queue -----------------------------------------------------------------------------------


def test_fifty_wait_in_the_promised_order_and_hold_no_pixels(there: Place) -> None:
    process = there.start(fake=True)
    engine = there.engine()
    engine.segment(disks(), "YX")
    blocker = run_in_thread(engine, disks(), settings=SLOW)
    assert blocker.started.wait(20)
    image = np.zeros((1000, 1000))  # 8 MB each, 400 MB in all
    image[200:300] = 1
    before = psutil.Process(process.pid).memory_info().rss
    callers: dict[str, list[Caller]] = {name: [] for name in "abcde"}
    for name in "aaaaaaaaaabcdebcdebcdebcdebcdebcdebcdebcdebcdebcde":
        caller = run_in_thread(engine, image, client=name, title=f"{name}{len(callers[name])}")
        assert caller.queued.wait(20)
        callers[name].append(caller)
    status = engine.status()
    assert len(status["queued"]) == 50
    promised = [f"{name}{round_}" for round_ in range(10) for name in "abcde"]
    assert [job["title"] for job in status["queued"]] == promised
    assert psutil.Process(process.pid).memory_info().rss - before < 50e6
    engine.cancel(blocker.job)
    for row in callers.values():
        for caller in row:
            caller.end()
            assert caller.error is None
            assert caller.result is not None
            assert caller.result.labels is not None
            assert caller.result.labels.sum() == 100_000
    done = [job["title"] for job in reversed(engine.status()["recent"])]
    assert done == promised[-20:]
    assert psutil.Process(process.pid).memory_info().rss - before < 150e6
    assert there.exchanged() == []


def test_a_full_queue_says_so(there: Place) -> None:
    there.start("--queue-limit", "1", fake=True)
    engine = there.engine()
    running = run_in_thread(engine, disks(), settings=SLOW)
    assert running.started.wait(20)
    waiting = run_in_thread(engine, disks(), settings=SLOW)
    assert waiting.queued.wait(20)
    with pytest.raises(RefusedError, match="1 images wait already") as caught:
        engine.segment(disks(), "YX")
    assert caught.value.code == "queue-full"
    for caller in (waiting, running):
        engine.cancel(caller.job)
        caller.end()
    assert there.exchanged() == []


# --- space ---------------------------------------------------------------------------------------


def test_a_full_exchange_folder_is_a_sentence_with_the_numbers(there: Place) -> None:
    with tiny_disk(there.large, 4):
        shutil.rmtree(there.fast)
        there.start(fake=True)
        engine = there.engine()
        with pytest.raises(EngineError, match=r"needs 8\.0 MB and 4\.\d MB are free") as caught:
            engine.segment(np.zeros((1000, 1000)), "YX")
        assert caught.value.code == "exchange-full"
        assert there.exchanged() == []
        with pytest.raises(RefusedError, match=r"4\.0 MB are needed and \d\.\d MB are") as caught:
            engine.segment(np.eye(1000, dtype=np.uint8), "YX", outputs=["probability"])
        assert caught.value.code == "exchange-full"
        assert there.exchanged() == []
        remote = cellseg_client.connect(engine.url, engine.token)
        with pytest.raises(RefusedError, match="no space") as caught:
            remote.segment(np.zeros((1000, 1000)), "YX")
        assert caught.value.code == "exchange-full"
        assert there.exchanged() == []
        assert engine.segment(disks(), "YX").n_objects == 1
        there.stop()


def test_a_disk_that_becomes_full_while_a_job_runs(there: Place) -> None:
    with tiny_disk(there.large, 8):
        shutil.rmtree(there.fast)
        there.start(fake=True)
        engine = there.engine()
        settings = {"model": "slow", "iterations": 50}
        caller = run_in_thread(
            engine, np.eye(1000, dtype=np.uint8), settings=settings, outputs=["probability"]
        )
        assert caller.started.wait(20)
        (there.large / "other").write_bytes(bytes(5_000_000))
        caller.end()
        assert isinstance(caller.error, RefusedError)
        assert "There is no space in the exchange folder" in str(caller.error)
        (there.large / "other").unlink()
        assert there.exchanged() == []
        there.stop()


def test_a_small_shared_memory_is_not_used(there: Place) -> None:
    with tiny_disk(there.fast, 1):
        there.start(fake=True)
        engine = there.engine()
        assert [path.parent for path in engine.exchange_folders] == [there.fast, there.large]
        image = np.zeros((1000, 1000), np.uint16)
        image[:500] = 9
        caller = run_in_thread(engine, image, settings={"model": "slow", "iterations": 25})
        assert caller.started.wait(20)
        assert [path.parent.parent for path in there.exchanged()] == [there.large]
        caller.end()
        assert caller.result is not None
        assert caller.result.n_objects == 1
        assert there.exchanged() == []
        there.stop()


def test_an_exchange_folder_that_was_removed_is_made_again(there: Place) -> None:
    there.start(fake=True)
    engine = there.engine()
    for folder in there.exchange_folders():
        shutil.rmtree(folder)
    assert engine.segment(disks(), "YX").n_objects == 1
    assert "had been removed and is made again" in there.log


def test_a_job_that_cannot_fit_is_refused_with_the_numbers(shared_there: Place) -> None:
    path = shared_there.engine().exchange_folders[-1] / "huge.npy"
    shape = (1, 1 << 21, 1 << 21)  # 4.4 TB, of which no block is on the disk
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + shape[1] * shape[2])
    status, answer = ask(
        shared_there.find(), "POST", "/v1/segment", segment_body("huge.npy", axes="ZYX")
    )
    assert status == 400
    assert answer["error"]["code"] == "memory"
    needs = r"needs at least [\d,]+\.\d\d GB and \d+\.\d\d GB are free"
    assert re.search(needs, answer["error"]["message"])
    assert not path.exists()


# --- who may ask, and for what -------------------------------------------------------------------


def test_a_wrong_token_is_401_and_nothing_runs(shared_there: Place) -> None:
    engine = shared_there.engine()
    before = engine.status()["counters"]
    folder = engine.exchange_folders[0]
    np.save(folder / "image.npy", disks())
    for token in ("", "0" * 64, engine.token[:-1], engine.token.upper(), engine.token + " x"):
        for method, path in (
            ("POST", "/v1/segment"),
            ("GET", "/v1/status"),
            ("GET", "/v1/schema"),
            ("GET", "/v1/nothing"),
            ("DELETE", "/v1/jobs/x"),
        ):
            body = segment_body("image.npy") if method == "POST" else None
            status, answer = ask(shared_there.find(), method, path, body, token=token)
            assert status == 401
            assert answer["error"]["message"] == "The token is missing or wrong."
    status, answer = ask(shared_there.find(), "GET", "/v1/health?nonce=ab", token="")
    assert status == 200
    assert set(answer) == {"proof", "pid", "wire"}
    assert engine.status()["counters"] == before
    assert (folder / "image.npy").exists()
    (folder / "image.npy").unlink()


def test_foreign_hosts_and_origins_are_refused(shared_there: Place) -> None:
    found = shared_there.find()
    assert found is not None
    own = found.connection.url
    assert ask(found, "GET", "/v1/status", Host="evil.example:80")[0] == 421
    assert ask(found, "GET", "/", Host="evil.example", token="")[0] == 421
    for origin in ("http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"):
        assert ask(found, "GET", "/v1/status", Origin=origin)[0] == 403
    assert ask(found, "GET", "/v1/status", Origin=own)[0] == 200


@pytest.mark.parametrize("path", ["/v1/segment", "/v1/uploads"])
def test_a_body_of_ten_gigabytes_is_413_before_it_is_read(shared_there: Place, path: str) -> None:
    status, answer = ask(shared_there.find(), "POST", path, Content_Length=str(10 * 10**9))
    assert status == 413
    assert "10,000,000,000 bytes" in answer["error"]["message"]
    status, answer = ask(shared_there.find(), "POST", path, Transfer_Encoding="chunked")
    assert status == 411
    assert shared_there.exchanged() == []


def test_an_upload_that_is_too_large_is_refused_before_it_is_sent(there: Place) -> None:
    there.start("--upload-limit", "0.001", fake=True)
    remote = cellseg_client.connect(there.engine().url, there.engine().token)
    with pytest.raises(RefusedError, match=r"8\.0 MB") as caught:
        remote.segment(np.zeros((1000, 1000)), "YX")
    assert caught.value.code == "too-large"
    assert remote.segment(np.eye(100), "YX").n_objects == 1
    assert there.exchanged() == []


def test_names_outside_the_exchange_folder_and_links_are_refused(
    shared_there: Place, tmp_path: Path
) -> None:
    folder = shared_there.engine().exchange_folders[0]
    secret = tmp_path / "secret.npy"
    np.save(secret, disks())
    (folder / "link.npy").symlink_to(secret)
    (folder / "folder.npy").mkdir()
    os.mkfifo(folder / "pipe.npy")
    names = [
        str(secret),
        f"../../{secret.name}",
        f"{folder.name}/../../secret.npy",
        "..",
        ".",
        "",
        ".lock",
        "link.npy",
        "folder.npy",
        "pipe.npy",
        "absent.npy",
        "image.npy\0",
        "C:\\secret.npy",
        "sécret.npy",
        "x" * 190 + ".npy",
    ]
    for name in names:
        status, answer = ask(shared_there.find(), "POST", "/v1/segment", segment_body(name))
        assert status == 400, name
        assert answer["error"]["code"] in ("name", "request"), name
    assert secret.exists()
    assert (folder / "link.npy").is_symlink()
    (folder / "link.npy").unlink()
    (folder / "pipe.npy").unlink()
    (folder / "folder.npy").rmdir()


def test_the_image_of_one_job_is_not_given_to_another(shared_there: Place) -> None:
    engine = shared_there.engine()
    caller = run_in_thread(engine, disks(), settings=SLOW)
    assert caller.started.wait(20)
    (name,) = [path.name for path in shared_there.exchanged()]
    status, answer = ask(shared_there.find(), "POST", "/v1/segment", segment_body(name))
    assert status == 400
    assert "is the image of another job" in answer["error"]["message"]
    engine.cancel(caller.job)
    caller.end()


def test_everything_is_private(shared_there: Place) -> None:
    files = [*shared_there.runtime.iterdir(), *shared_there.exchange_folders()]
    files += [folder / ".lock" for folder in shared_there.exchange_folders()]
    for path in [shared_there.runtime, *files]:
        if path.name not in ("engine.err",):  # made by the test, not by a client
            assert path.stat().st_mode & 0o077 == 0, path
    caller = run_in_thread(
        shared_there.engine(), disks(), settings={"model": "slow", "iterations": 25}
    )
    assert caller.started.wait(20)
    for path in shared_there.exchanged():
        assert path.stat().st_mode & 0o077 == 0, path
    caller.end()


def test_a_second_user_can_neither_read_nor_call(tmp_path: Path) -> None:
    require(os.name == "posix" and os.getuid() == 0, "needs root, to become another user")
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.owner() == "root" and parent != Path("/") and "pytest" in parent.name:
            parent.chmod(0o755)
    with place(tmp_path / "place") as there:
        there.folder.chmod(0o755)
        there.fast.chmod(0o1777)
        there.start(fake=True)
        folder = there.engine().exchange_folders[0]
        planted = there.fast / "cellseg-0-planted"
        script = (
            f"cat {there.runtime}/engine.json; ls {folder};"
            f"cat /proc/{there.record()['pid']}/environ;"
            f"mkdir {planted}; touch {planted}/.lock; id -u"
        )
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "65534\n"
        assert done.stderr.count("Permission denied") == 3
        token = there.record()["token"]
        process = psutil.Process(there.record()["pid"])
        assert token not in " ".join(process.cmdline())
        assert ask(there.find(), "GET", "/v1/status", token="")[0] == 401
        there.stop()
        there.start(fake=True)  # sweeps, but not what another user made
        assert planted.exists()
        assert there.engine().segment(disks(), "YX").n_objects == 1


# --- our own defects -----------------------------------------------------------------------------


def test_a_defect_is_failed_with_a_sentence_and_a_traceback_in_the_log(shared_there: Place) -> None:
    with pytest.raises(FailedError, match="Internal error of the engine: KeyError"):
        shared_there.engine().segment(disks(), "YX", {"model": "broken"})
    assert "Traceback" in shared_there.log
    assert shared_there.engine().segment(disks(), "YX").n_objects == 1


def test_more_than_65535_objects_come_as_int32(shared_there: Place) -> None:
    image = np.zeros((300, 300), np.uint8)
    result = shared_there.engine().segment(image, "YX", {"model": "many"})
    assert result.labels is not None
    assert result.labels.dtype == np.int32
    assert result.labels.max() == 70_000


def test_results_that_nobody_fetches_go(there: Place) -> None:
    there.start("--keep", "2", fake=True)
    engine = there.engine()
    wait_until(lambda: engine.status()["state"] == "ready", "the start")  # else it tidies before
    folder = engine.exchange_folders[0]
    np.save(folder / "a.npy", disks())
    np.save(folder / "never-asked.npy", disks())
    status, answer = ask(there.find(), "POST", "/v1/segment", segment_body("a.npy"))
    assert (status, answer["status"]) == (200, "ok")
    assert len(there.exchanged()) == 2
    assert json.dumps(answer["labels"]).count(answer["labels"]["array"]) == 2
    wait_until(lambda: there.exchanged() == [], "the tidying")


def test_the_old_token_is_a_clear_error(there: Place) -> None:
    there.start(fake=True)
    engine = there.engine()
    stranger = cellseg_client.Engine(
        type(engine._connection)(engine.url, "0" * 64, engine.pid), engine._found
    )
    with pytest.raises(AccessError, match="is no engine with this token"):
        stranger.segment(disks(), "YX")
    assert there.exchanged() == []
