"""Trainings: one at a time, in a niced process of its own, beside the segmentations."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import psutil

from cellseg_engine.io.staging import remove_stale
from cellseg_engine.train.finetune import check_fine_tuning
from cellseg_service.errors import StoppingError, TrainingBusyError
from cellseg_service.jobs import PROGRESS_EVERY_S, REPORT_HINT, Ended, Event, Mailbox, failure
from cellseg_service.messages import shorten
from cellseg_service.training_messages import TrainRequest, fine_tuning_of

log = logging.getLogger(__name__)

NICENESS = 10
END_S = 15.0
"""A process that is told to stop has this long to clean up behind itself."""
RECENT = 5
_SAID_CHARACTERS = 300


@dataclass(eq=False)
class Training:
    """One training, from its request to its result.

    Attributes
    ----------
    request
        With the name of the model filled in.
    mailbox
        For its news.
    """

    request: TrainRequest
    mailbox: Mailbox
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    started_at: float = field(default_factory=time.monotonic)
    progress: Event = field(default_factory=dict)
    result: Event | None = None
    process: subprocess.Popen[bytes] | None = None
    reason: str = ""
    _told_at: float = 0.0

    def tell(self, event: Event) -> None:
        """Report progress, at most 20 times a second."""
        now = time.monotonic()
        is_new = event.get("stage") != self.progress.get("stage")
        self.progress = {**event, "job": self.id}
        if is_new or now - self._told_at >= PROGRESS_EVERY_S:
            self._told_at = now
            self.mailbox.post(self.progress)

    def finish(self, result: Event) -> Ended:
        """Give the one result to the client, and what is kept of it."""
        seconds = {"total": round(time.monotonic() - self.started_at, 3)}
        self.result = {**result, "event": "result", "job": self.id, "seconds": seconds}
        self.mailbox.post(self.result)
        return Ended(self.id, self.request.client, self.request.name, self.result)


class Trainings:
    """Runs trainings, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Training | None = None
        self._recent: deque[Ended] = deque(maxlen=RECENT)
        self._is_stopping = False

    @property
    def running(self) -> Training | None:
        """The training that runs, or None."""
        return self._running

    def start(self, request: TrainRequest, mailbox: Mailbox) -> Training:
        """Check a request and start its training.

        Raises
        ------
        CellSegError
            It is refused: the folder, the name, another training that runs.
        """
        wanted = check_fine_tuning(fine_tuning_of(request))
        named = request.model_copy(update={"name": wanted.name})
        training = Training(named, mailbox)
        with self._lock:
            if self._is_stopping:
                raise StoppingError("The engine ends.", hint="Try again: the next call starts one.")
            if self._running is not None:
                raise TrainingBusyError(
                    f"The model {self._running.request.name} is being trained; this engine trains "
                    "one at a time.",
                    hint="Wait until it is done, or cancel it.",
                )
            self._running = training
        threading.Thread(target=self._run, args=(training,), daemon=True).start()
        return training

    def cancel(self, job_id: str, reason: str = "") -> str:
        """Stop a training; ``running`` if there was one of that id, else nothing."""
        training = self._running
        if training is None or training.id != job_id:
            return ""
        with self._lock:
            training.reason = reason or "The training was cancelled."
            if training.process is not None:
                _ask_to_end(training.process)
        return "running"

    def abandon(self, training: Training) -> None:
        """Stop a training whose client has gone, if it is not over."""
        if training.result is None:
            self.cancel(training.id, "The program that asked for it has gone.")

    def stop(self) -> None:
        """Take no more trainings, and stop the one there is."""
        self._is_stopping = True
        if self._running is not None:
            self.cancel(self._running.id, "The engine was ended.")

    def describe(self) -> dict[str, Any] | None:
        """Give what the status says of the training that runs, or None."""
        training = self._running
        if training is None:
            return None
        return {
            "id": training.id,
            "client": training.request.client,
            "model": training.request.name,
            "stage": training.progress.get("stage", ""),
            "fraction": training.progress.get("fraction"),
            "epoch": training.progress.get("epoch", 0),
            "epochs": training.progress.get("epochs", 0),
            "seconds": round(time.monotonic() - training.started_at, 2),
        }

    def recent(self) -> list[Ended]:
        """Give the last trainings, newest first."""
        with self._lock:
            return list(reversed(self._recent))

    def _run(self, training: Training) -> None:
        try:
            result = self._train(training)
        except Exception as error:
            log.exception("training %s failed", training.id)
            result = _broken(f"Internal error of the engine: {type(error).__name__}: {error}")
        log.info("training %s of %r: %s", training.id, training.request.name, result["status"])
        with self._lock:
            self._running = None
            self._recent.append(training.finish(result))

    def _train(self, training: Training) -> Event:
        """Run the process, relay what it says, and give its result."""
        with tempfile.TemporaryFile() as errors:
            with self._lock:
                if not training.reason:
                    training.process = _start(errors)
            if training.process is None:
                return _cancelled(training)
            process = training.process
            try:
                result = _relay(training, process)
            finally:
                _end(process)
                with contextlib.suppress(OSError):
                    remove_stale(training.request.path)
            if result is not None:
                return result
            if training.reason:
                return _cancelled(training)
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip()
        log.error("the training ended with %s: %s", process.returncode, said)
        return _broken(
            f"The training ended by itself (exit code {process.returncode}): "
            f"{said[-_SAID_CHARACTERS:] or 'it said nothing'}"
        )


def _start(errors: Any) -> subprocess.Popen[bytes]:
    """Start the process, behind others in the queue for the processor."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cellseg_service.training_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
    )
    with contextlib.suppress(psutil.Error):
        known = psutil.Process(process.pid)
        if sys.platform == "win32":
            known.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            known.nice(known.nice() + NICENESS)
    return process


def _relay(training: Training, process: subprocess.Popen[bytes]) -> Event | None:
    """Pass the news of the process on until it ends; give its result, None without one."""
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both are pipes")
    result: Event | None = None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(training.request.model_dump_json().encode() + b"\n")
        process.stdin.flush()
    for line in process.stdout:
        event = _read(line)
        if event.get("event") == "progress":
            training.tell(event)
        elif event.get("event") == "result":
            result = event
    return result


def _read(line: bytes) -> Event:
    """Give the event of a line; other programs' words on stdout are no events.

    A loss that is NaN or infinite becomes null: JSON cannot say it to the client.
    """
    try:
        event = json.loads(line, parse_constant=lambda _: None)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """Let a process clean up and end; one that does not is ended."""
    with contextlib.suppress(OSError):
        process.terminate()
    last = threading.Timer(END_S, process.kill)
    last.daemon = True
    last.start()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that a process is over."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cancelled(training: Training) -> Event:
    return failure("cancelled", {"code": "cancelled", "message": training.reason, "hint": ""})


def _broken(message: str) -> Event:
    return failure("failed", {"code": "internal", "message": shorten(message), "hint": REPORT_HINT})
