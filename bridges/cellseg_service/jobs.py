"""Jobs and who runs them when: one thread per device, a fair and bounded queue before it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_engine.errors import CellSegError
from cellseg_engine.settings import Settings
from cellseg_service.errors import QueueFullError, StoppingError
from cellseg_service.exchange import remove
from cellseg_service.fair_queue import FairQueue
from cellseg_service.messages import SegmentRequest, describe_error, shorten

log = logging.getLogger(__name__)

RECENT = 20
PROGRESS_EVERY_S = 0.05
REPORT_HINT = "Please report it with the engine's log (engine.log)."

Event = dict[str, Any]


class Mailbox:
    """News of one job, from its thread to the event loop: the latest progress, then the result.

    However slowly a client reads, never more than these two are kept.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._progress: Event | None = None
        self._result: Event | None = None
        self._news = asyncio.Event()

    def post(self, event: Event) -> None:
        """Deliver an event, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._deliver, event)
        except RuntimeError:
            log.debug("the event loop is closed; nobody listens any more")

    async def next(self, timeout_s: float) -> Event | None:
        """Give the next event, or None when there is none in that time."""
        if not self._news.is_set():
            try:
                await asyncio.wait_for(self._news.wait(), timeout_s)
            except TimeoutError:
                return None
        event = self._progress or self._result
        if self._progress is not None:
            self._progress = None
        if self._result is None or event is self._result:
            self._news.clear()
        return event

    def _deliver(self, event: Event) -> None:
        if event["event"] == "result":
            self._result = event
        else:
            self._progress = event
        self._news.set()


@dataclass(eq=False)
class Job:
    """One image to segment, from its request to its result.

    Attributes
    ----------
    path
        Of the input, removed at the end.
    remote
        Its results are fetched by download.
    preview
        A few pixels of the image and of its labels, for a thumbnail; None if there are none.
    on_end
        Called with the job when it is over, in the thread that ended it.
    """

    request: SegmentRequest
    settings: Settings
    path: Path
    remote: bool
    mailbox: Mailbox
    on_end: Callable[[Job], object] = id
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    device: str = ""
    queued_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    sequence: int = 0
    progress: Event = field(default_factory=dict)
    result: Event | None = None
    preview: tuple[np.ndarray, np.ndarray] | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _reason: str = "The segmentation was cancelled."
    _told_at: float = 0.0

    @property
    def client(self) -> str:
        """Who asks, for the fairness of the queue."""
        return self.request.client

    def is_cancelled(self) -> bool:
        """Say whether it shall stop."""
        return self._cancelled.is_set()

    def cancel(self, reason: str = "") -> None:
        """Ask it to stop at the next tile."""
        self._reason = reason or self._reason
        self._cancelled.set()

    def tell(self, stage: str, fraction: float, plane: int = 0, planes: int = 1) -> None:
        """Report progress; a new stage or plane at once, others at most 20 times a second."""
        event = {
            "event": "progress",
            "job": self.id,
            "stage": stage,
            "fraction": round(fraction, 4),
            "plane": plane,
            "planes": planes,
        }
        now = time.monotonic()
        is_new = any(self.progress.get(name) != event[name] for name in ("stage", "plane"))
        self.progress = event
        if is_new or now - self._told_at >= PROGRESS_EVERY_S:
            self._told_at = now
            self.mailbox.post(event)

    def cancelled_result(self) -> Event:
        """Give the result of a job that was stopped."""
        return failure("cancelled", {"code": "cancelled", "message": self._reason, "hint": ""})

    def finish(self, result: Event) -> None:
        """Give the one result, and remove the input."""
        if self.result is not None:
            return
        self.result = {"event": "result", "job": self.id, "sequence": self.sequence, **result}
        remove(self.path)
        self.on_end(self)
        self.mailbox.post(self.result)


@dataclass(frozen=True, eq=False)
class Ended:
    """What is kept of an image or a training that is over, for the status page.

    Attributes
    ----------
    title
        Of the image; of a training, the name of its model.
    result
        Its result event.
    sequence
        It was the n-th image to run; 0 if it never ran.
    preview
        As `Job` has it.
    ended_at
        Seconds since 1970.
    """

    id: str
    client: str
    title: str
    result: Event
    sequence: int = 0
    preview: tuple[np.ndarray, np.ndarray] | None = None
    ended_at: float = field(default_factory=time.time)


def failure(status: str, error: CellSegError | dict[str, str]) -> Event:
    """Give the result of a job without labels."""
    about = describe_error(error) if isinstance(error, CellSegError) else error
    return {"status": status, "error": about, "warnings": []}


Runner = Callable[[Job], Event]
"""What runs the jobs of one device: gives the result event of each."""


class Scheduler:
    """Takes jobs, keeps them in order and runs them, one at a time on each device.

    Parameters
    ----------
    make_runner
        Called in each device's thread with the device; gives what runs jobs there.
    limit
        Jobs that may wait.
    """

    def __init__(self, make_runner: Callable[[str], Runner], limit: int) -> None:
        self._make_runner = make_runner
        self._limit = limit
        self._resolve: Callable[[str], str] | None = None
        self._unresolved: FairQueue[Job] = FairQueue()
        self._queues: dict[str, FairQueue[Job]] = {}
        self._running: dict[str, Job] = {}
        self._changed = threading.Condition()
        self._sequence = itertools.count(1)
        self._is_stopping = False
        self._fault: Event | None = None
        self.recent: deque[Ended] = deque(maxlen=RECENT)
        self.counters = dict.fromkeys(
            ("models_loaded", "jobs_done", "jobs_failed", "jobs_refused", "jobs_cancelled"), 0
        )

    @property
    def is_ready(self) -> bool:
        """Say whether devices are known, so that jobs run."""
        return self._resolve is not None

    @property
    def is_broken(self) -> bool:
        """Say whether no job can ever run, see `break_down`."""
        return self._fault is not None

    def start(self, resolve: Callable[[str], str]) -> None:
        """Begin to run jobs; ``resolve`` gives the device that a setting stands for."""
        with self._changed:
            self._resolve = resolve
            waiting = list(self._unresolved)
            self._unresolved = FairQueue()
        for job in waiting:
            try:
                self._enqueue(job)
            except CellSegError as error:
                self._end(job, failure("refused", error))

    def break_down(self, error: dict[str, str]) -> None:
        """End the jobs that wait, and each one that still comes, as failed for that reason."""
        with self._changed:
            self._fault = failure("failed", error)
            waiting = list(self._unresolved)
            self._unresolved = FairQueue()
        for job in waiting:
            self._end(job, self._fault)

    def refuse(self, request: SegmentRequest, error: CellSegError) -> None:
        """Note an image that never became a job."""
        result = failure("refused", error)
        self._note(Ended(secrets.token_hex(8), request.client, request.title, result))

    def submit(self, job: Job) -> int:
        """Queue a job and give how many run or wait before it.

        Raises
        ------
        QueueFullError, StoppingError
            It is not taken.
        CellSegError
            Its device is not there.
        """
        job.on_end = self._count
        with self._changed:
            if self._is_stopping:
                raise StoppingError("The engine ends.", hint="Try again: the next call starts one.")
            fault = self._fault
            if self._count_waiting() >= self._limit:
                raise QueueFullError(
                    f"{self._limit} images wait already, which is the limit of this engine.",
                    hint="Try again in a while.",
                )
            if self._resolve is None and fault is None:
                self._unresolved.put(job.client, job)
                return list(self._unresolved).index(job)
        if fault is not None:
            self._end(job, fault)
            return 0
        return self._enqueue(job)

    def cancel(self, job_id: str, reason: str = "") -> str:
        """Stop a job and give what it was: ``queued``, ``running`` or empty if unknown."""
        with self._changed:
            for job in self._running.values():
                if job.id == job_id:
                    job.cancel(reason)
                    return "running"
            queues = [self._unresolved, *self._queues.values()]
            found = [(queue, job) for queue in queues for job in queue if job.id == job_id]
            for queue, job in found:
                queue.remove(job)
        for _, job in found:
            job.cancel(reason)
            self._end(job, job.cancelled_result())
        return "queued" if found else ""

    def abandon(self, job: Job) -> None:
        """Stop a job whose client has gone, if it is not over."""
        if job.result is None:
            self.cancel(job.id, "The program that asked for it has gone.")

    def stop(self) -> None:
        """Take no more jobs and stop those there are."""
        with self._changed:
            self._is_stopping = True
            jobs = [*self._running.values(), *self._waiting()]
        for job in jobs:
            self.cancel(job.id, "The engine was ended.")

    def count(self, name: str) -> None:
        """Add one to a counter."""
        with self._changed:
            self.counters[name] += 1

    def snapshot(self) -> tuple[list[Job], list[Job], list[Ended]]:
        """Give the jobs that run, those that wait in order, and the last ones, newest first."""
        with self._changed:
            return list(self._running.values()), self._waiting(), list(reversed(self.recent))

    def is_idle(self) -> bool:
        """Say whether nothing runs or waits."""
        with self._changed:
            return not self._running and not self._count_waiting()

    def inputs(self) -> list[Path]:
        """Give the files that jobs still need."""
        with self._changed:
            return [job.path for job in (*self._running.values(), *self._waiting())]

    def _waiting(self) -> list[Job]:
        return [job for queue in (self._unresolved, *self._queues.values()) for job in queue]

    def _count_waiting(self) -> int:
        return len(self._unresolved) + sum(map(len, self._queues.values()))

    def _enqueue(self, job: Job) -> int:
        if self._resolve is None:
            raise AssertionError("start() comes first")
        job.device = self._resolve(job.settings.device)
        with self._changed:
            queue = self._queues.get(job.device)
            if queue is None:
                queue = self._queues[job.device] = FairQueue()
                threading.Thread(
                    target=self._serve, args=(job.device,), name=f"run-{job.device}", daemon=True
                ).start()
            queue.put(job.client, job)
            position = list(queue).index(job) + (job.device in self._running)
            self._changed.notify_all()
        return position

    def _serve(self, device: str) -> None:
        """Run the jobs of one device, for ever."""
        run = self._make_runner(device)
        queue = self._queues[device]
        while True:
            with self._changed:
                while not queue:
                    self._changed.wait()
                job = queue.take()
                self._running[device] = job
            job.started_at = time.monotonic()
            job.sequence = next(self._sequence)
            try:
                result = run(job)
            except Exception as error:
                log.exception("job %s failed", job.id)
                message = f"Internal error of the engine: {type(error).__name__}: {error}."
                about = {"code": "internal", "message": shorten(message), "hint": REPORT_HINT}
                result = failure("failed", about)
            self._end(job, result)
            with self._changed:
                del self._running[device]

    def _end(self, job: Job, result: Event) -> None:
        seconds = dict(result.get("seconds") or {})
        now = time.monotonic()
        seconds["total"] = round(now - (job.started_at or now), 6)
        seconds["queued"] = round((job.started_at or now) - job.queued_at, 6)
        job.finish({**result, "seconds": seconds})

    def _count(self, job: Job) -> None:
        about = (job.id, job.client, job.request.title, job.result or {})
        self._note(Ended(*about, job.sequence, job.preview))

    def _note(self, ended: Ended) -> None:
        status = ended.result.get("status", "failed")
        seconds = ended.result.get("seconds", {}).get("total", 0.0)
        with self._changed:
            self.counters["jobs_done" if status == "ok" else f"jobs_{status}"] += 1
            self.recent.append(ended)
        log.info("job %s of %r: %s in %.3f s", ended.id, ended.client, status, seconds)
