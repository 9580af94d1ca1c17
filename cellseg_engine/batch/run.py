"""Run a plan: one warm model, image after image; a failure is named and the rest goes on."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cellseg_engine.batch.auto import ChosenModel, ModelChooser
from cellseg_engine.batch.outputs import DEFAULT_OUTPUTS, output_path, write_outputs
from cellseg_engine.batch.plan import Job
from cellseg_engine.batch.record import (
    check_same_run,
    check_unchanged,
    describe_sources,
    is_complete,
    read_record,
    settings_agree,
)
from cellseg_engine.errors import CellSegError, ReadError, WriteError
from cellseg_engine.io.images import ImageData, read_image
from cellseg_engine.io.plates import read_plate_image
from cellseg_engine.io.staging import remove_stale
from cellseg_engine.pipeline.progress import ProgressCallback
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.settings import Settings

log = logging.getLogger(__name__)

FOLDER_ESTIMATE = "folder estimate"
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "DefaultCPUAllocator")
SCOPE_SAMPLE = 10
"""Images looked at when the diameter is estimated once for a whole run."""


@dataclass(frozen=True)
class RunOptions:
    """How a run treats files.

    Attributes
    ----------
    out
        Output folder.
    existing
        What to do where results are there already: ``skip`` them if this run would make the
        same (else the image fails and nothing is touched), ``overwrite`` them, or ``error``.
    outputs
        Kinds of files, see `cellseg_engine.batch.outputs.write_outputs`.
    axes
        Instead of what the files say, or None.
    """

    out: Path
    existing: str = "skip"
    outputs: Sequence[str] = DEFAULT_OUTPUTS
    axes: str | None = None


@dataclass(frozen=True)
class JobResult:
    """What became of one image.

    Attributes
    ----------
    job
        The image.
    status
        ``ok``, ``skipped`` (results were there) or ``failed``.
    n_objects, diameter_px, seconds
        Of the image; seconds of this run.
    outputs
        Path of each file.
    warnings
        Sentences for the user.
    error
        One sentence, with what to do; empty unless failed.
    """

    job: Job
    status: str
    n_objects: int = 0
    diameter_px: float = 0.0
    seconds: float = 0.0
    outputs: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: str = ""

    def as_row(self) -> dict[str, object]:
        """Give it as a row of the summary table."""
        failed = self.status == "failed"
        return {
            **self.job.fields,
            "image": self.job.title,
            "status": self.status,
            "objects": "" if failed else self.n_objects,
            "diameter_px": "" if failed else round(self.diameter_px, 3),
            "seconds": round(self.seconds, 3),
            "labels": self.outputs.get("labels", ""),
            "warnings": " ".join(self.warnings),
            "error": self.error,
        }


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
    """Segment the images, yielding what became of each.

    Parameters
    ----------
    segmenter
        For all images, or what chooses one for each.
    settings
        With a diameter; see `folder_diameter` for one diameter per run.
    progress
        Gives the progress callback of an image.

    Raises
    ------
    RunStoppedError
        Results can no longer be written; the images before are complete.
    """
    for folder in {output_path(options.out, job, "run").parent for job in jobs}:
        remove_stale(folder)
    for job in jobs:
        start = time.perf_counter()
        try:
            result = _run_job(job, segmenter, settings, options, progress)
        except WriteError as error:
            result = JobResult(job, "failed", error=str(error))
            if _is_hopeless(error):
                raise RunStoppedError(result) from error
        except CellSegError as error:
            result = JobResult(job, "failed", error=str(error))
        except Exception as error:
            if _is_out_of_memory(error):
                yield JobResult(
                    job, "failed", seconds=time.perf_counter() - start, error=str(_too_large(job))
                )
                continue
            log.debug("internal error on %s", job.title, exc_info=True)
            result = JobResult(
                job,
                "failed",
                error=f"Internal error on {job.title}: {type(error).__name__}: {error}. Please "
                "report it with the output of the same command and --verbose.",
            )
        yield replace(result, seconds=time.perf_counter() - start)


def _is_out_of_memory(error: Exception) -> bool:
    """Say whether memory ran out; PyTorch tells it by a RuntimeError."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
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
            and settings_agree(record["settings"], settings)
        ):
            diameters.append(float(record["diameter_px"]))
    return diameters


def folder_diameter(
    jobs: Sequence[Job], segmenter: Segmenter, settings: Settings, options: RunOptions
) -> tuple[float, int]:
    """Estimate one diameter for a whole run, as the median over a sample of its images.

    One that earlier runs of the same settings estimated for the folder is kept, so that adding
    an image leaves the others' results valid.

    Returns
    -------
    diameter_px, n_images
        The diameter, and how many images showed objects to measure.

    Raises
    ------
    CellSegError
        The model has no size model, no image of the sample can be read, or none shows objects.
    """
    if earlier := _earlier_diameters(jobs, segmenter, settings, options):
        return earlier[0], len(earlier)
    if segmenter.model.size_model is None:
        raise CellSegError(
            f"The model {segmenter.model.card.name} has no size model, so no common diameter can "
            "be estimated.",
            hint="Give --diameter-px.",
        )
    chosen = np.unique(np.linspace(0, len(jobs) - 1, SCOPE_SAMPLE).astype(int))
    found = []
    problem: CellSegError | None = None
    for index in chosen:
        try:
            image = load_image(jobs[index], options)
            estimate = segmenter.estimate(
                image.pixels, image.axes, settings=settings, channel_names=image.channel_names
            )
        except CellSegError as error:
            problem = error
            continue
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            problem = _too_large(jobs[index])
            continue
        if estimate.found_objects:
            found.append(estimate.diameter_px)
    if found:
        return float(np.median(found)), len(found)
    if problem is not None:
        raise problem
    raise CellSegError(
        f"No objects were found in {len(chosen)} sampled images, so no common diameter could be "
        "estimated.",
        hint="Give --diameter-px, or use --diameter-scope image.",
    )


def load_image(job: Job, options: RunOptions) -> ImageData:
    """Read the image of a job."""
    if job.plate is not None:
        return read_plate_image(job.plate, axes=options.axes)
    return read_image(job.files[0], axes=options.axes)


def _run_job(
    job: Job,
    segmenter: Segmenter | ModelChooser,
    settings: Settings,
    options: RunOptions,
    progress: Callable[[Job], ProgressCallback] | None,
) -> JobResult:
    there = output_path(options.out, job, "run")
    keeps = there.exists() and options.existing != "overwrite"
    if isinstance(segmenter, ModelChooser):
        chosen = segmenter.choose(there if keeps else None, lambda: load_image(job, options))
    else:
        chosen = ChosenModel(segmenter, settings)
    segmenter, settings = chosen.segmenter, chosen.settings
    if keeps:
        existing = _existing_result(job, segmenter, settings, options)
        if existing is not None:
            return existing
    earlier = _check_targets(job, options)
    sources = describe_sources(job.files)
    image = load_image(job, options)
    result = segmenter.segment(
        image.pixels,
        image.axes,
        settings=settings,
        channel_names=image.channel_names,
        pixel_size_um=image.pixel_size_um,
        keep_fields=False,
        progress=progress(job) if progress else None,
        diameter_source=_diameter_source(segmenter, settings),
    )
    result = chosen.annotate(result)
    check_unchanged(sources, job.files)
    outputs = write_outputs(
        options.out,
        job,
        image,
        result,
        options.outputs,
        sources=sources,
        axes=options.axes,
        earlier=earlier,
    )
    return JobResult(
        job,
        "ok",
        result.n_objects,
        result.diameter_px,
        outputs=outputs,
        warnings=(*image.warnings, *result.warnings),
    )


def _diameter_source(segmenter: Segmenter, settings: Settings) -> str:
    """Say where a diameter comes from: the user asked for one per run but gave none."""
    estimated = settings.diameter_scope == "folder" and segmenter.settings.diameter_px == 0
    return FOLDER_ESTIMATE if estimated else "given"


def _check_targets(job: Job, options: RunOptions) -> set[str]:
    """Give the names of the files of an earlier run, which are the only ones to be replaced."""
    run = output_path(options.out, job, "run")
    ours: set[str] = set()
    if run.exists():
        try:
            ours = {run.name, *read_record(run)["outputs"].values()}
        except ReadError:
            ours = {output_path(options.out, job, kind).name for kind in options.outputs}
    for kind in options.outputs:
        path = output_path(options.out, job, kind)
        if path.exists() and path.name not in ours:
            raise WriteError(
                f"{path} is there already and was not written by cellseg (no run.json names it).",
                hint="Use another --out, or move the file away.",
            )
    return ours


def _existing_result(
    job: Job, segmenter: Segmenter, settings: Settings, options: RunOptions
) -> JobResult | None:
    """Give the results that are there, or say why they are not those of this run.

    None where a process was killed while it put them there.
    """
    path = output_path(options.out, job, "run")
    record = read_record(path)
    if not is_complete(record):
        check_same_run(record, path, job.files, settings, ())
        return None
    if options.existing == "error":
        raise WriteError(
            f"There are results of {job.title} already: {path}.",
            hint="Use --existing skip or overwrite, or another --out.",
        )
    check_same_run(
        record,
        path,
        job.files,
        settings,
        segmenter.weights_sha256,
        axes=options.axes,
        fields=job.fields,
    )
    outputs = {kind: path.with_name(name) for kind, name in record["outputs"].items()}
    missing = [output.name for output in outputs.values() if not output.exists()]
    missing += [kind for kind in options.outputs if kind not in outputs]
    if missing:
        raise WriteError(
            f"The results of {job.title} are incomplete: {', '.join(missing)} is missing.",
            hint="Use --existing overwrite to make them again.",
        )
    return JobResult(
        job,
        "skipped",
        record["objects"],
        record["diameter_px"],
        outputs={kind: str(output) for kind, output in outputs.items()},
        warnings=tuple(record["warnings"]),
    )


def _is_hopeless(error: WriteError) -> bool:
    """Say whether the reason will stop every other image too (no space, read-only)."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
    )
