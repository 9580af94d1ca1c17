"""What a run does with results that are there already, and what becomes of an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cellseg_engine.batch.outputs import DEFAULT_OUTPUTS, output_path
from cellseg_engine.batch.plan import Job
from cellseg_engine.batch.record import (
    ExistingResultsError,
    check_same_run,
    is_complete,
    read_record,
)
from cellseg_engine.errors import ReadError, WriteError
from cellseg_engine.pipeline.segmenter import Segmenter
from cellseg_engine.settings import Settings


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
    keeps_earlier
        It failed only because results of another request are there, which stay.
    """

    job: Job
    status: str
    n_objects: int = 0
    diameter_px: float = 0.0
    seconds: float = 0.0
    outputs: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: str = ""
    keeps_earlier: bool = False

    def as_row(self) -> dict[str, object]:
        """Give it as a row of the summary table."""
        failed = self.status == "failed"
        labels = self.outputs.get("labels", "")
        return {
            **self.job.fields,
            "image": os.path.abspath(self.job.files[0]),
            "status": self.status,
            "objects": "" if failed else self.n_objects,
            "diameter_px": "" if failed else round(self.diameter_px, 3),
            "seconds": round(self.seconds, 3),
            "labels": os.path.abspath(labels) if labels else "",
            "warnings": " ".join(self.warnings),
            "error": self.error,
        }


def check_targets(job: Job, options: RunOptions) -> set[str]:
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


def existing_result(
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
        raise ExistingResultsError(
            f"There are results of {job.title} already: {path}.",
            hint="Use --existing skip or overwrite, or another --out.",
        )
    check_same_run(
        record,
        path,
        job.files,
        settings,
        segmenter.weights_sha256,
        size_model_sha256=segmenter.size_model_sha256,
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
