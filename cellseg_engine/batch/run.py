"""Run a plan: one warm model, image after image; a failure is named and the rest goes on."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from cellseg_engine.batch.auto import ChosenModel, ModelChooser
from cellseg_engine.batch.lookahead import Gate, in_order
from cellseg_engine.batch.outputs import output_path, with_tracks, write_outputs
from cellseg_engine.batch.plan import Job
from cellseg_engine.batch.record import (
    ExistingResultsError,
    check_record_state,
    check_unchanged,
    describe_sources,
    is_complete,
    read_record,
    record_state,
    same_size_model,
    settings_agree,
)
from cellseg_engine.batch.results import JobResult, RunOptions, check_targets, existing_result
from cellseg_engine.errors import CellSegError, ReadError, WriteError
from cellseg_engine.io.images import ImageData, read_image
from cellseg_engine.io.plates import read_plate_image
from cellseg_engine.io.staging import remove_stale, writing
from cellseg_engine.pipeline.progress import ProgressCallback
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.settings import Settings

log = logging.getLogger(__name__)

FOLDER_ESTIMATE = "folder estimate"
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "DefaultCPUAllocator")
SCOPE_SAMPLE = 10
"""Images looked at when the diameter is estimated once for a whole run."""
IMAGES_AT_ONCE = 2
"""While the network works on one, another is read, made labels of, or written."""
GPU_IMAGES_AT_ONCE = 6
"""There small images share a batch too."""
ALONE_FROM_PIXELS = 4_000_000
"""Images with more values than that are segmented one at a time, to spare memory."""


class RunStoppedError(Exception):
    """The run cannot go on: the disk is full or read-only."""

    def __init__(self, result: JobResult) -> None:
        super().__init__(result.error)
        self.result = result


def run_jobs(
    jobs: Sequence[Job],
    segmenter: Segmenter | ModelChooser,
    settings: Settings,
    options: RunOptions,
    progress: Callable[[Job], ProgressCallback] | None = None,
) -> Iterator[JobResult]:
    """Segment the images, yielding what became of each, in order.

    While the network works on an image, the next one is read and prepared and the labels of the
    one before are made and written. Ending the iteration early stops the work on images that
    were not given yet; nothing of them is left half written.

    Parameters
    ----------
    segmenter
        For all images, or what chooses one for each.
    settings
        With a diameter; see `folder_diameter` for one diameter per run.
    progress
        Gives the progress callback of an image; it is called in threads.

    Raises
    ------
    RunStoppedError
        Results can no longer be written; the images before are complete.
    """
    options = replace(options, outputs=with_tracks(options.outputs, settings))
    for folder in {output_path(options.out, job, "run").parent for job in jobs}:
        remove_stale(folder)
    run = _Run(segmenter, settings, options, progress)
    yield from in_order(run.result, jobs, run.images_at_once, run.cancelled)


class _Run:
    """What the images of a run share."""

    def __init__(
        self,
        segmenter: Segmenter | ModelChooser,
        settings: Settings,
        options: RunOptions,
        progress: Callable[[Job], ProgressCallback] | None,
    ) -> None:
        self._segmenter, self._settings, self._options = segmenter, settings, options
        self._progress = progress
        self._gate = Gate()
        self._choosing = threading.Lock()
        self.cancelled = threading.Event()
        on_gpu = isinstance(segmenter, Segmenter) and segmenter.model.device != "cpu"
        self.images_at_once = GPU_IMAGES_AT_ONCE if on_gpu else IMAGES_AT_ONCE

    def result(self, job: Job) -> JobResult:
        """Segment an image; give what became of it.

        Raises
        ------
        RunStoppedError
            Results can no longer be written.
        """
        start = time.perf_counter()
        try:
            result = self._segment(job)
        except CellSegError as error:
            keeps_earlier = isinstance(error, ExistingResultsError)
            result = JobResult(job, "failed", error=str(error), keeps_earlier=keeps_earlier)
            if isinstance(error, WriteError) and _is_hopeless(error):
                raise RunStoppedError(result) from error
        except Exception as error:
            if _is_out_of_memory(error):
                result = JobResult(job, "failed", error=str(_too_large(job)))
            else:
                log.debug("internal error on %s", job.title, exc_info=True)
                result = JobResult(job, "failed", error=_internal_error(job, error))
        return replace(result, seconds=time.perf_counter() - start)

    def _segment(self, job: Job) -> JobResult:
        options = self._options
        there = output_path(options.out, job, "run")
        with writing(there.parent):
            state = record_state(there)
        replaces = options.existing == "overwrite"
        keeps = state is not None and not replaces
        chosen = self._choose(job, there if keeps else None)
        segmenter, settings = chosen.segmenter, chosen.settings
        if keeps:
            existing = existing_result(job, segmenter, settings, options)
            if existing is not None:
                return existing
        earlier = check_targets(job, options)
        sources = describe_sources(job.files)
        image = load_image(job, options)
        _check_begins(job, image)
        others = [path for path in image.files if path not in job.files]
        sources += describe_sources(others)
        with self._gate.enter(alone=image.pixels.size > ALONE_FROM_PIXELS):
            result = segmenter.segment(
                image.pixels,
                image.axes,
                settings=settings,
                channel_names=image.channel_names,
                pixel_size_um=image.pixel_size_um,
                keep_fields=False,
                progress=self._progress(job) if self._progress else None,
                is_cancelled=self.cancelled.is_set,
                diameter_source=_diameter_source(segmenter, settings),
            )
            result = chosen.annotate(result)
            check_unchanged(sources)
            outputs = write_outputs(
                options.out,
                job,
                image,
                result,
                options.outputs,
                sources=sources,
                axes=options.axes,
                earlier=earlier,
                confirm=(lambda: None) if replaces else partial(check_record_state, there, state),
            )
        return JobResult(
            job,
            "ok",
            result.n_objects,
            result.diameter_px,
            outputs=outputs,
            warnings=(*image.warnings, *result.warnings),
        )

    def _choose(self, job: Job, run_file: Path | None) -> ChosenModel:
        """Give the model for an image."""
        if not isinstance(self._segmenter, ModelChooser):
            return ChosenModel(self._segmenter, self._settings)
        with self._choosing:
            return self._segmenter.choose(run_file, lambda: load_image(job, self._options))


def _check_begins(job: Job, image: ImageData) -> None:
    """Refuse files that are parts of an image of which another file is the first.

    Each of them would give the objects of the whole image again.
    """
    if image.files[0] not in job.files:
        raise ReadError(
            f"{job.title} holds a part of the image that begins in {image.files[0].name}.",
            hint="Give that file: it stands for the whole image.",
        )


def _is_out_of_memory(error: Exception) -> bool:
    """Say whether memory ran out; PyTorch tells it by a RuntimeError."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    )


def _internal_error(job: Job, error: Exception) -> str:
    return (
        f"Internal error on {job.title}: {type(error).__name__}: {error}. Please report it with "
        "the output of the same command and --verbose."
    )


def _too_large(job: Job) -> CellSegError:
    return CellSegError(f"{job.title} does not fit into memory.", hint="Segment it in parts.")


def _earlier_diameters(
    jobs: Sequence[Job], segmenter: Segmenter, settings: Settings, options: RunOptions
) -> list[float]:
    """Give the common diameter that earlier runs with the same settings estimated, once a job."""
    diameters = []
    for job in jobs if options.existing != "overwrite" else ():
        try:
            record = read_record(output_path(options.out, job, "run"))
        except ReadError:
            continue
        if (
            is_complete(record)
            and record.get("diameter_source") == FOLDER_ESTIMATE
            and list(record["model"]["weights_sha256"]) == list(segmenter.weights_sha256)
            and same_size_model(record["model"], segmenter.size_model_sha256)
            and settings_agree(record["settings"], settings)
        ):
            diameters.append(float(record["diameter_px"]))
    return diameters


def folder_diameter(
    jobs: Sequence[Job], segmenter: Segmenter, settings: Settings, options: RunOptions
) -> tuple[float, int] | None:
    """Estimate one diameter for a whole run, as the median over a sample of its images.

    Where none of the sample shows objects, the others are looked at until one does. One that
    earlier runs of the same settings estimated for the folder is kept, so that adding an image
    leaves the others' results valid.

    Returns
    -------
    diameter_px, n_images
        The diameter, and how many images showed objects to measure; None if none did.

    Raises
    ------
    CellSegError
        The model has no size model.
    """
    if earlier := _earlier_diameters(jobs, segmenter, settings, options):
        return earlier[0], len(earlier)
    if segmenter.model.size_model is None:
        raise CellSegError(
            f"The model {segmenter.model.card.name} has no size model, so no common diameter can "
            "be estimated.",
            hint="Give --diameter-px.",
        )
    sample = np.unique(np.linspace(0, len(jobs) - 1, SCOPE_SAMPLE).astype(int)).tolist()
    found: list[float] = []
    for number, index in enumerate(dict.fromkeys((*sample, *range(len(jobs))))):
        if found and number >= len(sample):
            break
        diameter = _measure(jobs[index], segmenter, settings, options)
        if diameter is not None:
            found.append(diameter)
    return (float(np.median(found)), len(found)) if found else None


def _measure(
    job: Job, segmenter: Segmenter, settings: Settings, options: RunOptions
) -> float | None:
    """Estimate the diameter of an image; None without objects, or where it will fail by itself."""
    try:
        image = load_image(job, options)
        estimate = segmenter.estimate(
            image.pixels, image.axes, settings=settings, channel_names=image.channel_names
        )
    except Exception:
        log.debug("no diameter of %s", job.title, exc_info=True)
        return None
    return estimate.diameter_px if estimate.found_objects else None


def load_image(job: Job, options: RunOptions) -> ImageData:
    """Read the image of a job."""
    if job.plate is not None:
        return read_plate_image(job.plate, axes=options.axes)
    return read_image(job.files[0], axes=options.axes)


def _diameter_source(segmenter: Segmenter, settings: Settings) -> str:
    """Say where a diameter comes from: the user asked for one per run but gave none."""
    estimated = settings.diameter_scope == "folder" and segmenter.settings.diameter_px == 0
    return FOLDER_ESTIMATE if estimated else "given"


def _is_hopeless(error: WriteError) -> bool:
    """Say whether the reason will stop every other image too (no space, read-only)."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
    )
