"""Run a plan: one warm model, image after image; a failure is named and the rest goes on."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cellseg_engine.batch.outputs import DEFAULT_OUTPUTS, output_path, write_outputs
from cellseg_engine.batch.plan import Job
from cellseg_engine.batch.record import check_same_run, read_record
from cellseg_engine.errors import CellSegError, WriteError
from cellseg_engine.io.images import ImageData, read_image
from cellseg_engine.io.plates import read_plate_image
from cellseg_engine.io.staging import remove_stale, staged
from cellseg_engine.io.tables import write_table
from cellseg_engine.pipeline.progress import ProgressCallback
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.settings import Settings

log = logging.getLogger(__name__)

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
    segmenter: Segmenter,
    settings: Settings,
    options: RunOptions,
    progress: Callable[[Job], ProgressCallback] | None = None,
) -> Iterator[JobResult]:
    """Segment the images, yielding what became of each.

    Parameters
    ----------
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
        except MemoryError:
            result = JobResult(
                job, "failed", error=f"{job.title} does not fit into memory. Segment it in parts."
            )
        except Exception as error:
            log.debug("internal error on %s", job.title, exc_info=True)
            result = JobResult(
                job,
                "failed",
                error=f"Internal error on {job.title}: {type(error).__name__}: {error}. Please "
                "report it with the output of the same command and --verbose.",
            )
        yield replace(result, seconds=time.perf_counter() - start)


def folder_diameter(
    jobs: Sequence[Job], segmenter: Segmenter, settings: Settings, options: RunOptions
) -> tuple[float, int]:
    """Estimate one diameter for a whole run, as the median over a sample of its images.

    Returns
    -------
    diameter_px, n_images
        The diameter, and how many images showed objects to measure.

    Raises
    ------
    CellSegError
        No image of the sample can be read, or none shows objects.
    """
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


def write_summary(out: Path, results: Sequence[JobResult]) -> Path:
    """Write ``summary.csv``, a row per image.

    Raises
    ------
    WriteError
        It cannot be written.
    """
    path = out / "summary.csv"
    rows = [result.as_row() for result in results]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with staged(out) as stage:
        write_table(stage.path(path.name), columns, rows)
    return path


def _run_job(
    job: Job,
    segmenter: Segmenter,
    settings: Settings,
    options: RunOptions,
    progress: Callable[[Job], ProgressCallback] | None,
) -> JobResult:
    there = output_path(options.out, job, "run")
    if there.exists() and options.existing != "overwrite":
        return _existing_result(job, segmenter, settings, options)
    _check_targets(job, options)
    image = load_image(job, options)
    result = segmenter.segment(
        image.pixels,
        image.axes,
        settings=settings,
        channel_names=image.channel_names,
        keep_fields=False,
        progress=progress(job) if progress else None,
    )
    outputs = write_outputs(options.out, job, image, result, options.outputs)
    return JobResult(
        job,
        "ok",
        result.n_objects,
        result.diameter_px,
        outputs=outputs,
        warnings=(*image.warnings, *result.warnings),
    )


def _check_targets(job: Job, options: RunOptions) -> None:
    """Make sure that no file is replaced that an earlier run did not write."""
    if output_path(options.out, job, "run").exists():
        return
    for kind in options.outputs:
        path = output_path(options.out, job, kind)
        if path.exists():
            raise WriteError(
                f"{path} is there already and was not written by cellseg (it has no run.json).",
                hint="Use another --out, or move the file away.",
            )


def _existing_result(
    job: Job, segmenter: Segmenter, settings: Settings, options: RunOptions
) -> JobResult:
    """Give the results that are there, or say why they are not those of this run."""
    path = output_path(options.out, job, "run")
    if options.existing == "error":
        raise WriteError(
            f"There are results of {job.title} already: {path}.",
            hint="Use --existing skip or overwrite, or another --out.",
        )
    record = read_record(path)
    check_same_run(record, path, job.files, settings, segmenter.model.weights_sha256)
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
        errno.EACCES,
        errno.EPERM,
    )
