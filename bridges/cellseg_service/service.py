"""The state of one engine: its exchange folders, jobs, downloads and last activity."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import secrets
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imagecodecs import png_encode

from cellseg_engine._version import __version__
from cellseg_engine.errors import ModelNotFoundError, SettingsError
from cellseg_engine.io.overlays import render_overlay
from cellseg_engine.train.finetune import newest_model
from cellseg_engine.train.folder import Content, Correction, add_image, read_or_begin
from cellseg_engine.train.part import Part
from cellseg_service import memory
from cellseg_service.errors import FileNameError
from cellseg_service.exchange import Exchange, load_array, read_header, remove
from cellseg_service.jobs import Job, Mailbox, Runner, Scheduler
from cellseg_service.messages import parse_request, parse_weights
from cellseg_service.model_files import weights_sha256
from cellseg_service.options import ServiceOptions
from cellseg_service.training import Training, Trainings
from cellseg_service.training_messages import (
    AddRequest,
    FolderRequest,
    TrainRequest,
    parse_training,
)
from cellseg_service.wire import WIRE
from cellseg_service.worker import MakeSegmenter, Worker

log = logging.getLogger(__name__)


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
        self.device = ""
        self._token = token
        self._make_segmenter = make_segmenter
        self._started = time.monotonic()
        self._active = time.monotonic()
        self._uploads: dict[str, Path] = {}
        self._downloads: dict[str, Path] = {}

    # -- requests ----------------------------------------------------------------------

    def accept(self, body: bytes, loop: asyncio.AbstractEventLoop) -> tuple[Job, int]:
        """Check a request for a segmentation and queue it; give it and how many come first.

        Raises
        ------
        CellSegError
            It is refused; its input is removed.
        """
        self.touch()
        request, settings = parse_request(body, allow_paths=self.options.is_local)
        remote = bool(request.image.upload)
        path = self._upload(request.image.upload) if remote else self._input(request.image.array)
        try:
            header = read_header(path)
            memory.check_memory(
                memory.needed_bytes(header, request.axes, settings, request.outputs),
                memory.available_bytes(),
            )
            self.exchange.check_space(
                memory.output_bytes(header, request.axes, settings, request.outputs)
            )
            job = Job(request, settings, path, remote, Mailbox(loop))
            return job, self.scheduler.submit(job)
        except BaseException:
            remove(path)
            raise

    def health(self, nonce: str, authorized: bool) -> dict[str, Any]:
        """Give the proof that the token is known here; with the token also how it goes."""
        self.touch()
        self.exchange.make_sure()
        proof = hmac.new(self._token.encode(), nonce.encode(), hashlib.sha256).hexdigest()
        answer: dict[str, Any] = {"proof": proof, "pid": os.getpid(), "wire": WIRE}
        if authorized:
            answer |= {
                "version": __version__,
                "state": "ready" if self.scheduler.is_ready else "starting",
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
        settings = parse_weights(body, allow_paths=self.options.is_local)
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
        return describe_content(read_or_begin(request.path))

    def add_to_folder(self, body: bytes) -> dict[str, Any]:
        """Add an image to a training folder; its files in the exchange folder are removed.

        Raises
        ------
        CellSegError
            It is refused, and the training folder is as it was.
        """
        self.touch()
        request = parse_training(body, AddRequest, is_local=self.options.is_local)
        references = [request.image, request.rois, request.predicted]
        paths = [self._input(file.array) for file in references if file is not None]
        try:
            pixels, rois, *predicted = (load_array(path) for path in paths)
            correction = Correction(
                pixels=pixels,
                axes=request.axes,
                rois=rois.tobytes(),
                predicted=predicted[0].tobytes() if predicted else b"",
                title=request.title,
                source=request.source,
                model=request.model,
                pixel_size_um={str(axis): um for axis, um in request.pixel_size_um.items()},
                part=Part(**request.part.model_dump()) if request.part else None,
            )
            image, remarks, content = add_image(request.path, correction)
        finally:
            for path in paths:
                remove(path)
        return {"image": asdict(image), "remarks": list(remarks), **describe_content(content)}

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
        return {
            "version": __version__,
            "wire": WIRE,
            "pid": os.getpid(),
            "state": "ready" if self.scheduler.is_ready else "starting",
            "device": self.device,
            "uptime_s": round(now - self._started, 1),
            "idle_exit_s": self.options.idle_timeout_s,
            "memory": {**memory.describe(), "gpu": self._gpu_memory()},
            "counters": dict(self.scheduler.counters),
            "running": [
                {
                    **_about(job),
                    "stage": job.progress.get("stage", ""),
                    "fraction": job.progress.get("fraction"),
                    "plane": job.progress.get("plane", 0),
                    "planes": job.progress.get("planes", 1),
                    "seconds": round(now - job.started_at, 2),
                }
                for job in running
            ],
            "training": self.trainings.describe(),
            "queued": [{**_about(job), "position": n} for n, job in enumerate(queued)],
            "recent": [_outcome(job) for job in recent],
        }

    def thumbnail(self, job_id: str) -> bytes:
        """Give the thumbnail of one of the last jobs as PNG; nothing if there is none."""
        recent = self.scheduler.snapshot()[2]
        preview = next((job.preview for job in recent if job.id == job_id), None)
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

    def keep_upload(self, path: Path) -> str:
        """Take over a complete upload and give its id."""
        name = secrets.token_hex(16)
        self._uploads[name] = path
        return name

    def download(self, name: str) -> Path | None:
        """Give the file of a download, or None."""
        self.touch()
        path = self._downloads.get(name)
        return path if path is not None and path.is_file() else None

    def drop_download(self, name: str) -> bool:
        """Remove a download that was fetched and say whether it was there."""
        path = self._downloads.pop(name, None)
        if path is not None:
            remove(path)
        return path is not None

    # -- life --------------------------------------------------------------------------

    def touch(self) -> None:
        """Note that somebody uses the engine."""
        self._active = time.monotonic()

    def is_over(self) -> bool:
        """Say whether it has been idle for so long that it ends."""
        if not self.scheduler.is_idle() or self.trainings.running is not None:
            self.touch()
        limit = self.options.idle_timeout_s
        return limit > 0 and time.monotonic() - self._active > limit

    def tidy(self) -> None:
        """Remove files that nobody fetched or asked for in time."""
        self.exchange.remove_old(self.options.keep_s, self.scheduler.inputs())
        for files in (self._uploads, self._downloads):
            # Of a copy: requests come and go meanwhile, in other threads.
            for name, path in files.copy().items():
                if not path.exists():
                    files.pop(name, None)

    def warm_up(self) -> None:
        """Import what is heavy and begin to run jobs; in a thread, while requests come in."""
        import torch

        from cellseg_engine.nets.runtimes import choose_device, describe_device

        def resolve(name: str) -> str:
            device = choose_device(name)
            return f"cuda:{device.index or 0}" if device.type == "cuda" else device.type

        self.device = describe_device(torch.device(resolve("auto")))
        self.scheduler.start(resolve)
        log.info("ready on %s", self.device)

    def _gpu_memory(self) -> dict[str, Any] | None:
        """Give the memory of the GPU in use, or None; while it starts, torch is half imported."""
        torch = sys.modules.get("torch")
        if not self.scheduler.is_ready or torch is None or not torch.cuda.is_initialized():
            return None
        free, total = torch.cuda.mem_get_info()
        return {
            "name": torch.cuda.get_device_name(),
            "used_bytes": total - free,
            "total_bytes": total,
        }

    def _make_runner(self, device: str) -> Runner:
        return Worker(
            device,
            self._make_segmenter,
            self.exchange,
            self._describe_file,
            lambda: self.scheduler.count("models_loaded"),
        )

    def _describe_file(self, path: Path, remote: bool) -> dict[str, Any]:
        if not remote:
            return {"array": path.name, "path": str(path)}
        name = secrets.token_hex(16)
        self._downloads[name] = path
        return {"download": name, "bytes": path.stat().st_size}

    def _input(self, name: str) -> Path:
        path = self.exchange.find(name)
        if path in self.scheduler.inputs():
            raise FileNameError(
                f"{name!r} is the image of another job.", hint="Give each job a file of its own."
            )
        return path

    def _upload(self, name: str) -> Path:
        path = self._uploads.pop(name, None)
        if path is None or not path.is_file():
            raise FileNameError(
                f"There is no upload {name[:100]!r}.",
                hint="Upload the image again; one upload is for one job.",
            )
        return path


def describe_content(content: Content) -> dict[str, Any]:
    """Give what is in a training folder, as an answer has it."""
    return {
        "images": [asdict(image) for image in content.images],
        "models": [asdict(model) for model in content.models],
        "objects": content.objects,
        "median_diameter_px": content.median_diameter_px,
        "newest_model": newest_model(content),
    }


def _about(job: Job) -> dict[str, Any]:
    return {"id": job.id, "client": job.client, "title": job.request.title}


def _outcome(job: Job) -> dict[str, Any]:
    result = job.result or {}
    return {
        **_about(job),
        "status": result.get("status", ""),
        "objects": result.get("objects"),
        "diameter_px": result.get("diameter_px"),
        "seconds": result.get("seconds", {}).get("total", 0.0),
        "sequence": job.sequence,
        "warnings": result.get("warnings", []),
        "error": result.get("error"),
        "thumbnail": f"/v1/thumbnails/{job.id}.png" if job.preview else None,
    }
