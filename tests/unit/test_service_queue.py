"""The queue: bounded, first in first out for a client, in turn between clients."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg_engine.settings import make_settings
from cellseg_service.errors import QueueFullError
from cellseg_service.fair_queue import FairQueue
from cellseg_service.jobs import Event, Job, Mailbox, Scheduler
from cellseg_service.messages import SegmentRequest
from cellseg_service.status import describe_ended


@given(st.lists(st.sampled_from("abcd")))
def test_order_is_fair_and_is_the_one_that_was_shown(clients: list[str]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number, client in enumerate(clients):
        queue.put(client, (client, number))
    shown = list(queue)
    taken = [queue.take() for _ in range(len(queue))]
    assert taken == shown
    assert sorted(number for _, number in taken) == list(range(len(clients)))
    for client in "abcd":
        own = [number for name, number in taken if name == client]
        assert own == sorted(own)
    for place, (client, _) in enumerate(taken):
        before = [name for name, _ in taken[:place]]
        others = [before.count(name) for name in set(clients) - {client}]
        assert all(count <= before.count(client) + 1 for count in others)


@given(st.lists(st.sampled_from("abc"), min_size=1), st.data())
def test_removing_one_leaves_the_others(clients: list[str], data: st.DataObject) -> None:
    queue: FairQueue[int] = FairQueue()
    for number, client in enumerate(clients):
        queue.put(client, number)
    gone = data.draw(st.sampled_from(range(len(clients))))
    assert queue.remove(gone)
    assert not queue.remove(gone)
    assert sorted(queue) == sorted(set(range(len(clients))) - {gone})


def test_a_client_that_was_served_goes_to_the_end() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3"):
        queue.put("a", item)
    assert queue.take() == "a1"
    queue.put("b", "b1")
    assert list(queue) == ["a2", "b1", "a3"]
    with pytest.raises(IndexError, match="empty"):
        FairQueue[int]().take()


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def make_job(loop: asyncio.AbstractEventLoop, client: str = "", device: str = "cpu") -> Job:
    request = SegmentRequest.model_validate(
        {"wire": 1, "image": {"array": "a.npy"}, "client": client}
    )
    return Job(request, make_settings(device=device), Path("absent"), False, Mailbox(loop))


def last_event(loop: asyncio.AbstractEventLoop, job: Job) -> Event:
    async def wait() -> Event:
        while True:
            event = await job.mailbox.next(10)
            assert event is not None
            if event["event"] == "result":
                return event

    return asyncio.run_coroutine_threadsafe(wait(), loop).result(10)


def test_jobs_that_came_before_the_devices_were_known_run_on_one_thread_per_device() -> None:
    threads: dict[str, set[int]] = {}

    def make_runner(device: str):  # type: ignore[no-untyped-def]
        def run(job: Job) -> Event:
            threads.setdefault(device, set()).add(threading.get_ident())
            return {"status": "ok"}

        return run

    scheduler = Scheduler(make_runner, 100)
    with running_loop() as loop:
        devices = ["auto", "cpu", "cuda", "cuda:0", "cuda:1"] * 4
        jobs = [make_job(loop, device=device) for device in devices]
        for job in jobs[:10]:
            scheduler.submit(job)
        scheduler.start(lambda name: {"auto": "cuda:0", "cuda": "cuda:0"}.get(name, name))
        for job in jobs[10:]:
            scheduler.submit(job)
        assert all(last_event(loop, job)["status"] == "ok" for job in jobs)
    assert set(threads) == {"cpu", "cuda:0", "cuda:1"}
    assert all(len(ids) == 1 for ids in threads.values())
    assert sorted(job.sequence for job in jobs) == list(range(1, 21))
    assert scheduler.counters["jobs_done"] == 20


def test_limit_cancel_and_stop() -> None:
    scheduler = Scheduler(lambda device: lambda job: {"status": "ok"}, 2)
    with running_loop() as loop:
        first, second = make_job(loop), make_job(loop)
        assert [scheduler.submit(job) for job in (first, second)] == [0, 1]
        with pytest.raises(QueueFullError, match="2 images wait already"):
            scheduler.submit(make_job(loop))
        assert scheduler.cancel(first.id) == "queued"
        assert scheduler.cancel(first.id) == ""
        assert last_event(loop, first)["status"] == "cancelled"
        scheduler.stop()
        result = last_event(loop, second)
        assert result["error"]["message"] == "The engine was ended."
        assert scheduler.is_idle()


def test_without_any_device_those_who_wait_and_those_who_come_are_told_why() -> None:
    scheduler = Scheduler(lambda device: lambda job: {"status": "ok"}, 2)
    about = {"code": "load", "message": "The engine cannot be loaded.", "hint": ""}
    with running_loop() as loop:
        waiting, late = make_job(loop), make_job(loop)
        scheduler.submit(waiting)
        scheduler.break_down(about)
        assert scheduler.submit(late) == 0
        for job in (waiting, late):
            result = last_event(loop, job)
            assert (result["status"], result["error"]) == ("failed", about)
    assert scheduler.is_broken
    assert scheduler.is_idle()
    assert scheduler.counters["jobs_failed"] == 2


def test_a_result_is_one_for_all_who_ask_and_a_failed_job_harms_no_other() -> None:
    """A runner raises what the worker raises for a number that JSON cannot say."""

    def run(job: Job) -> Event:
        if job.client == "bad":
            raise ValueError("Out of range float values are not JSON compliant: nan")
        return {"status": "ok"}

    scheduler = Scheduler(lambda device: run, 10)
    with running_loop() as loop:
        scheduler.start(lambda name: name)
        jobs = [make_job(loop, client) for client in ("bad", "good")]
        for job in jobs:
            scheduler.submit(job)
        results = [last_event(loop, job) for job in jobs]
    assert [result["status"] for result in results] == ["failed", "ok"]
    json.dumps([describe_ended(ended) for ended in scheduler.snapshot()[2]], allow_nan=False)


def test_a_slow_reader_gets_the_latest_progress_and_the_result() -> None:
    with running_loop() as loop:
        job = make_job(loop)
        for step in range(1000):
            job.mailbox.post({"event": "progress", "step": step})
        job.mailbox.post({"event": "result"})

        async def read() -> list[Event | None]:
            await asyncio.sleep(0.05)
            return [await job.mailbox.next(0.05) for _ in range(3)]

        events = asyncio.run_coroutine_threadsafe(read(), loop).result(10)
    assert events == [{"event": "progress", "step": 999}, {"event": "result"}, None]
