"""The state of one engine: its exchange folders, jobs, downloads and last activity."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import time
from pathlib import Path
from typing import Any

from imagecodecs import png_encode

from cellseg_engine._version import __version__
from cellseg_engine.errors import CellSegError, ModelNotFoundError, SettingsError
from cellseg_engine.io.overlays import render_overlay
from cellseg_service import memory, status, training_folders, update
from cellseg_service.arrays import read_header
from cellseg_service.errors import ExchangeLostError, FileNameError
from cellseg_service.exchange import Exchange, remove
from cellseg_service.jobs import Job, Mailbox, Runner, Scheduler
from cellseg_service.messages import (
    SegmentRequest,
    WeightsRequest,
    named_upload,
    parse_body,
    settings_of,
    shorten,
)
from cellseg_service.model_files import weights_sha256
from cellseg_service.options import ServiceOptions
from cellseg_service.training import Training, Trainings
from cellseg_service.training_messages import (
    AddRequest,
    FolderRequest,
    TrainRequest,
    named_arrays,
    parse_training,
)
from cellseg_service.transfers import Transfers
from cellseg_service.wire import WIRE
from cellseg_service.worker import MakeSegmenter, Worker

log = logging.getLogger(__name__)

RESULTS_READ_S = 10.0
"""So long after the last request its results have been read, or the next file is asked for."""


class Service:
    """One engine, without its HTTP.

    Parameters
    ----------
    options
        As started.
    token
        The secret.
    exchange
        Its folders.
    make_segmenter
        Loads a model.
    """

    def __init__(
        self,
        options: ServiceOptions,
        token: str,
        exchange: Exchange,
        make_segmenter: MakeSegmenter,
    ) -> None:
        self.options = options
        self.exchange = exchange
        self.scheduler = Scheduler(self._make_runner, options.queue_limit)
        self.trainings = Trainings()
        self.transfers = Transfers()
        self.device = ""
        self._token = token
        self._make_segmenter = make_segmenter
        self._started = time.monotonic()
        self._active = time.monotonic()

    # -- requests ----------------------------------------------------------------------

    def accept(self, body: bytes, loop: asyncio.AbstractEventLoop) -> tuple[Job, int]:
        """Check a request for a segmentation and queue it; give it and how many come first.

        Raises
        ------
        CellSegError
            It is refused; its input is removed.
        """
        self.touch()
        try:
            request = parse_body(body, SegmentRequest)
        except CellSegError:
            with contextlib.suppress(FileNameError):
                remove(self.transfers.take_upload(named_upload(body)))
            raise
        try:
            job = self._make_job(request, loop)
            try:
                return job, self.scheduler.submit(job)
            except BaseException:
                remove(job.path)
                raise
        except CellSegError as error:
            self.scheduler.refuse(request, error)
            raise

    def _make_job(self, request: SegmentRequest, loop: asyncio.AbstractEventLoop) -> Job:
        image, remote = request.image, bool(request.image.upload)
        path = self.transfers.take_upload(image.upload) if remote else self._input(image.array)
        try:
            settings = settings_of(request, allow_paths=self.options.is_local)
            header = read_header(path)
            needed = memory.needed_bytes(header, request.axes, settings, request.outputs)
            if self.scheduler.is_idle():
                memory.check_memory(needed, memory.available_bytes())
            else:  # what runs now gives its memory back; the worker looks again
                memory.check_total(needed)
            self.exchange.check_space(
                memory.output_bytes(header, request.axes, settings, request.outputs)
            )
            return Job(request, settings, path, remote, Mailbox(loop))
        except BaseException:
            remove(path)
            raise

    def health(self, nonce: str, authorized: bool) -> dict[str, Any]:
        """Give the proof that the token is known here; with the token also how it goes.

        Whatever has become of the exchange folders: without them it is no activity, and
        `why_over` ends the engine.
        """
        try:
            self.exchange.make_sure()
            self.touch()
        except ExchangeLostError as error:
            log.warning("%s", error)
        proof = hmac.new(self._token.encode(), nonce.encode(), hashlib.sha256).hexdigest()
        answer: dict[str, Any] = {"proof": proof, "pid": os.getpid(), "wire": WIRE}
        if authorized:
            answer |= {
                "version": __version__,
                "state": self.state,
                "upload_limit_bytes": self.options.upload_limit_bytes,
            }
        return answer

    def models(self) -> list[dict[str, Any]]:
        """Give the models that can be used by name."""
        from cellseg_engine.zoo.store import list_models

        self.touch()
        found = []
        for entry in list_models():
            try:
                card = entry.card()
            except (ModelNotFoundError, SettingsError, ValueError, OSError) as error:
                log.warning("the model %s cannot be read: %s", entry.name, error)
                continue
            found.append(
                {
                    "name": entry.name,
                    "source": entry.source,
                    "description": card.description,
                    "licence": card.licence,
                    "diam_mean_px": card.diam_mean_px,
                    "n_channels": card.n_channels,
                }
            )
        return found

    def weights(self, body: bytes) -> dict[str, Any]:
        """Give the SHA-256 of the weights that a segmentation with these settings would use.

        Raises
        ------
        CellSegError
            There is no such model, or the request is wrong.
        """
        self.touch()
        request = parse_body(body, WeightsRequest)
        settings = settings_of(request, allow_paths=self.options.is_local)
        return {"weights_sha256": weights_sha256(settings)}

    def describe_folder(self, body: bytes) -> dict[str, Any]:
        """Give what is in a training folder.

        Raises
        ------
        CellSegError
            It is none, or the request is wrong.
        """
        self.touch()
        request = parse_training(body, FolderRequest, is_local=self.options.is_local)
        return training_folders.describe_folder(request.path)

    def add_to_folder(self, body: bytes) -> dict[str, Any]:
        """Add an image to a training folder; its files in the exchange folder are removed.

        Raises
        ------
        CellSegError
            It is refused, and the training folder is as it was.
        """
        self.touch()
        try:
            request = parse_training(body, AddRequest, is_local=self.options.is_local)
            return training_folders.add_to_folder(request, self._input)
        finally:
            for name in named_arrays(body):
                with contextlib.suppress(FileNameError):
                    remove(self._input(name))

    def train(self, body: bytes, loop: asyncio.AbstractEventLoop) -> Training:
        """Check a request for a training and start it.

        Raises
        ------
        CellSegError
            It is refused.
        """
        self.touch()
        request = parse_training(body, TrainRequest, is_local=self.options.is_local)
        return self.trainings.start(request, Mailbox(loop))

    def cancel(self, job_id: str) -> str:
        """Stop a segmentation or training; gives what it was, empty if unknown."""
        return self.scheduler.cancel(job_id) or self.trainings.cancel(job_id)

    def stop(self) -> None:
        """Take nothing more, and stop what runs."""
        self.trainings.stop()
        self.scheduler.stop()

    def status(self) -> dict[str, Any]:
        """Give what the status page shows; asking for it is no activity."""
        running, queued, recent = self.scheduler.snapshot()
        now = time.monotonic()
        torch = status.loaded_torch() if self.scheduler.is_ready else None  # else half imported
        return {
            "version": __version__,
            "wire": WIRE,
            "pid": os.getpid(),
            "state": self.state,
            "device": self.device,
            "uptime_s": round(now - self._started, 1),
            "idle_exit_s": self.options.idle_timeout_s,
            "memory": {**memory.describe(), "gpu": status.describe_gpu(torch)},
            "counters": dict(self.scheduler.counters),
            "running": [status.describe_running(job, now) for job in running],
            "training": self.trainings.describe(),
            "queued": [status.describe_waiting(job, n) for n, job in enumerate(queued)],
            "recent": [status.describe_ended(ended) for ended in recent],
            "recent_trainings": [
                status.describe_ended_training(ended) for ended in self.trainings.recent()
            ],
        }

    def thumbnail(self, job_id: str) -> bytes:
        """Give the thumbnail of one of the last jobs as PNG; nothing if there is none."""
        recent = self.scheduler.snapshot()[2]
        preview = next((ended.preview for ended in recent if ended.id == job_id), None)
        return b"" if preview is None else bytes(png_encode(render_overlay(*preview), level=1))

    # -- files of remote clients -------------------------------------------------------

    def new_upload(self, size_bytes: int) -> Path:
        """Give the path for an upload.

        Raises
        ------
        ExchangeFullError
            There is no space.
        """
        self.touch()
        return self.exchange.new_upload(size_bytes)

    def keep_results(self, download: str) -> None:
        """Keep all results of the job of a download: its client fetches them, one by one."""
        self.touch()
        self.transfers.refresh(download)

    # -- life --------------------------------------------------------------------------

    def touch(self) -> None:
        """Note that somebody uses the engine."""
        self._active = time.monotonic()

    @property
    def state(self) -> str:
        """How it is: ``starting``, ``ready``, or ``failed``, when it can segment nothing."""
        if self.scheduler.is_broken:
            return "failed"
        return "ready" if self.scheduler.is_ready else "starting"

    def is_busy(self) -> bool:
        """Say whether something runs or waits."""
        return not self.scheduler.is_idle() or self.trainings.running is not None

    def why_over(self) -> str:
        """Give the reason why it ends now: no exchange folders, idle, outdated; else nothing."""
        try:
            self.exchange.make_sure()
        except ExchangeLostError as error:
            return error.message
        if self.is_busy():
            self.touch()
        limit, idle_s = self.options.idle_timeout_s, time.monotonic() - self._active
        if 0 < limit < idle_s:
            return f"idle for {limit:g} s"
        newer = update.newer_version() if limit > 0 and idle_s > RESULTS_READ_S else ""
        return f"version {__version__} runs, and {newer} is installed" if newer else ""

    def tidy(self) -> None:
        """Remove files that nobody fetched or asked for in time."""
        self.exchange.remove_old(self.options.keep_s, self.scheduler.inputs())
        self.transfers.forget_removed()

    def warm_up(self) -> None:
        """Import what is heavy and begin to run jobs; in a thread, while requests come in."""
        import torch

        import cellseg_engine.pipeline.segmenter  # noqa: F401 - not from an update at the first job
        from cellseg_engine.nets.runtimes import choose_device, describe_device

        def resolve(name: str) -> str:
            device = choose_device(name)
            return f"cuda:{device.index or 0}" if device.type == "cuda" else device.type

        self.device = describe_device(torch.device(resolve("auto")))
        self.scheduler.start(resolve)
        log.info("ready on %s", self.device)

    def break_down(self, error: Exception) -> str:
        """Answer each image, waiting or to come, with the reason that none runs; give it, too."""
        reason = f"The engine cannot be loaded: {type(error).__name__}: {error}".rstrip(".") + "."
        hint = "Run `cellseg doctor` in the environment of the engine: it says what is wrong there."
        about = {"code": "load", "message": shorten(reason), "hint": hint}
        self.scheduler.break_down(about)
        return f"{reason} {hint}"

    def _make_runner(self, device: str) -> Runner:
        return Worker(
            device,
            self._make_segmenter,
            self.exchange,
            self._describe_file,
            lambda: self.scheduler.count("models_loaded"),
        )

    def _describe_file(self, path: Path, job: Job) -> dict[str, Any]:
        if not job.remote:
            return {"array": path.name, "path": str(path)}
        return self.transfers.offer(path, job.id)

    def _input(self, name: str) -> Path:
        path = self.exchange.find(name)
        if path in self.scheduler.inputs():
            raise FileNameError(
                f"{name!r} is the image of another job.", hint="Give each job a file of its own."
            )
        return path
