"""Runs jobs on one device: the array in, the engine's own `Segmenter`, the files out."""

from __future__ import annotations

import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cellseg_engine.batch.outputs import (
    middle_plane,
    object_columns,
    object_rows,
    track_columns,
    track_rows,
)
from cellseg_engine.errors import CancelledError, CellSegError, MemoryNeededError
from cellseg_engine.io.images import ImageData
from cellseg_engine.io.rois import encode_rois
from cellseg_engine.io.tables import write_table
from cellseg_engine.pipeline.progress import Progress, ProgressCallback
from cellseg_engine.pipeline.result import Segmentation
from cellseg_engine.settings import Settings
from cellseg_service import memory
from cellseg_service.arrays import load_array, read_header
from cellseg_service.exchange import Exchange, remove
from cellseg_service.jobs import Event, Job, failure
from cellseg_service.messages import encode_event
from cellseg_service.model_files import find_stamps

log = logging.getLogger(__name__)

MODELS_KEPT = 2
THUMBNAIL_PX = 256
MAX_UINT16 = 65535
_CELL_BYTES = 12
"""Of a table: nine digits, a point and a comma."""


class SegmenterLike(Protocol):
    """What of a `cellseg_engine.Segmenter` is used."""

    def segment(
        self,
        image: np.ndarray,
        axes: str | None = None,
        *,
        settings: Settings | None = None,
        channel_names: Sequence[str] = (),
        pixel_size_um: Mapping[str, float] | None = None,
        keep_fields: bool = True,
        progress: ProgressCallback | None = None,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> Segmentation:
        """Find the objects of an image."""
        ...


MakeSegmenter = Callable[[Settings], SegmenterLike]
FileAnswer = Callable[[Path, Job], dict[str, Any]]


class Worker:
    """What runs jobs on one device.

    Parameters
    ----------
    device
        All its models are loaded there.
    make_segmenter
        Loads a model.
    exchange
        Where results are written.
    describe_file
        Says how the answer names a file of the result of a job.
    on_model_loaded
        Called when a model was loaded.
    """

    def __init__(
        self,
        device: str,
        make_segmenter: MakeSegmenter,
        exchange: Exchange,
        describe_file: FileAnswer,
        on_model_loaded: Callable[[], None],
    ) -> None:
        self._device = device
        self._make_segmenter = make_segmenter
        self._exchange = exchange
        self._describe_file = describe_file
        self._on_model_loaded = on_model_loaded
        self._models: OrderedDict[tuple[object, ...], SegmenterLike] = OrderedDict()

    def __call__(self, job: Job) -> Event:
        """Run a job and give its result event."""
        written: list[Path] = []
        try:
            return self._segment(job, written)
        except CancelledError:
            result = job.cancelled_result()
        except MemoryError as error:
            known = error if isinstance(error, MemoryNeededError) else _no_memory(self._device)
            result = failure("refused", known)
        except CellSegError as error:
            result = failure("refused", error)
        except BaseException:
            _remove_all(written)
            raise
        _remove_all(written)
        return result

    def _segment(self, job: Job, written: list[Path]) -> Event:
        request = job.request
        clock = {"start": time.perf_counter()}
        header = read_header(job.path)
        needed = memory.needed_bytes(header, request.axes, job.settings, request.outputs)
        memory.check_memory(needed, memory.available_bytes())
        job.tell("loading", 0.0)
        segmenter = self._model(job.settings)
        clock["model"] = time.perf_counter()
        pixels = load_array(job.path)
        clock["read"] = time.perf_counter()
        result, warnings = self._run(segmenter, job, pixels)
        clock["segment"] = time.perf_counter()
        _stop_if_cancelled(job)
        answer = self._write(job, result, written)
        _stop_if_cancelled(job)
        clock["write"] = time.perf_counter()
        times = list(clock.items())
        seconds = {
            name: round(now - before, 6) for (_, before), (name, now) in itertools.pairwise(times)
        }
        event = {
            "status": "ok",
            "objects": result.n_objects,
            "diameter_px": round(result.diameter_px, 4),
            "axes": result.axes,
            **answer,
            "provenance": {**result.provenance, "settings": job.settings.model_dump()},
            "warnings": [*warnings, *result.warnings],
            "seconds": seconds,
        }
        encode_event(event)  # what JSON cannot say is found here, not by each who asks later
        job.preview = _preview(job, pixels, result)
        return event

    def _model(self, settings: Settings) -> SegmenterLike:
        names = (settings.model, settings.model_side_views)
        key = (*names, settings.precision, *map(find_stamps, names))
        if key in self._models:
            self._models.move_to_end(key)
            return self._models[key]
        while len(self._models) >= MODELS_KEPT:
            self._models.popitem(last=False)
            _empty_cuda_cache()
        log.info("loading %s (%s) on %s", settings.model, settings.precision, self._device)
        made = self._make_segmenter(settings.model_copy(update={"device": self._device}))
        self._models[key] = made
        self._on_model_loaded()
        return made

    def _run(
        self, segmenter: SegmenterLike, job: Job, pixels: np.ndarray
    ) -> tuple[Segmentation, list[str]]:
        """Segment; when the GPU's memory is too small, once more with half the batch."""
        settings = job.settings
        try:
            return self._call(segmenter, job, pixels, settings), []
        except RuntimeError as error:
            if not _is_cuda_oom(error):
                raise
        _empty_cuda_cache()
        half = max(1, settings.batch_size // 2)
        log.warning("out of memory on %s; trying again with batches of %d", self._device, half)
        try:
            result = self._call(
                segmenter, job, pixels, settings.model_copy(update={"batch_size": half})
            )
        except RuntimeError as error:
            if not _is_cuda_oom(error):
                raise
            _empty_cuda_cache()
            raise _no_gpu_memory(self._device, half, error) from error
        warning = (
            f"The memory of {self._device} was too small for batches of {settings.batch_size} "
            f"tiles, so {half} were used; set the batch size to that, or end other programs there."
        )
        return result, [warning]

    def _call(
        self, segmenter: SegmenterLike, job: Job, pixels: np.ndarray, settings: Settings
    ) -> Segmentation:
        def show(progress: Progress) -> None:
            job.tell(
                progress.stage, progress.done / progress.total, progress.plane, progress.n_planes
            )

        return segmenter.segment(
            pixels,
            job.request.axes,
            settings=settings,
            channel_names=tuple(job.request.channel_names),
            pixel_size_um={str(axis): um for axis, um in job.request.pixel_size_um.items()},
            keep_fields=bool({"probability", "flows"} & set(job.request.outputs)),
            progress=show,
            is_cancelled=job.is_cancelled,
        )

    def _write(self, job: Job, result: Segmentation, written: list[Path]) -> dict[str, Any]:
        outputs = set(job.request.outputs)
        answer: dict[str, Any] = {}

        def keep(path: Path) -> dict[str, Any]:
            written.append(path)
            return self._describe_file(path, job)

        if "labels" in outputs:
            answer["labels"] = keep(self._exchange.save_array(_compact(result)))
        if "probability" in outputs:
            answer["probability"] = keep(self._exchange.save_array(result.probability))
        if "flows" in outputs:
            answer["flows"] = keep(self._exchange.save_array(result.flows))
        if "rois" in outputs:
            rois = encode_rois(result.labels, result.axes)
            answer["rois"] = keep(self._exchange.save_bytes(rois, ".zip"))
        if "table" in outputs:
            sizes = {str(axis): size for axis, size in job.request.pixel_size_um.items()}

            def table(
                columns: list[str], n_rows: int, rows: Callable[[], Iterable[dict[str, object]]]
            ) -> dict[str, Any]:
                file = keep(
                    self._exchange.save_file(
                        ".csv",
                        _CELL_BYTES * len(columns) * n_rows,
                        lambda path: write_table(path, columns, rows()),
                    )
                )
                return {"columns": columns, "rows": n_rows, "csv": file}

            answer["table"] = table(
                object_columns(result, sizes, {}),
                result.n_objects,
                lambda: object_rows(result, sizes, {}),
            )
            if result.tracks:
                answer["tracks"] = table(
                    track_columns(result, sizes),
                    len(result.tracks["track"]),
                    lambda: track_rows(result, sizes),
                )
        return answer


def _stop_if_cancelled(job: Job) -> None:
    """Leave no files for a client that has gone since the last tile."""
    if job.is_cancelled():
        raise CancelledError("The segmentation was cancelled.")


def _compact(result: Segmentation) -> np.ndarray:
    """Give the labels as uint16 where the ids allow it, else int32."""
    largest = int(result.objects["label"].max(initial=0))  # quicker than over the pixels
    return result.labels.astype(np.uint16 if largest <= MAX_UINT16 else np.int32, copy=False)


def _preview(
    job: Job, pixels: np.ndarray, result: Segmentation
) -> tuple[np.ndarray, np.ndarray] | None:
    """Give every n-th pixel of the middle plane and of its labels, for a thumbnail."""
    axes = (job.request.axes or "YX").upper()
    image = ImageData(pixels, axes, tuple(job.request.channel_names), {}, Path())
    try:
        plane, labels = middle_plane(image, result)
    except (ValueError, IndexError):
        log.exception("no thumbnail of job %s", job.id)
        return None
    step = max(1, -(-max(labels.shape) // THUMBNAIL_PX))
    return plane[::step, ::step].copy(), labels[::step, ::step].copy()


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        remove(path)


def _is_cuda_oom(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)


def _empty_cuda_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _no_memory(device: str) -> MemoryNeededError:
    return MemoryNeededError(
        f"The memory ran out while the image was segmented on {device}; "
        f"{memory.amount(memory.available_bytes())} are free now.",
        hint="Segment a part of it at a time, ask for fewer outputs, or end other programs.",
    )


def _no_gpu_memory(device: str, batch: int, error: RuntimeError) -> MemoryNeededError:
    first = str(error).splitlines()[0][:300]
    return MemoryNeededError(
        f"The memory of {device} is too small even for batches of {batch} tiles: {first}",
        hint="End other programs that use it, set the batch size to 1, or use the CPU.",
    )
