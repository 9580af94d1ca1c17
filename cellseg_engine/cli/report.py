"""What the command line shows while it works: a progress bar for people, lines for programs."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from cellseg_engine.cli.options import name_options

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from cellseg_engine.batch.plan import Job
    from cellseg_engine.batch.results import JobResult
    from cellseg_engine.pipeline.progress import Progress


class Reporter(AbstractContextManager["Reporter"], ABC):
    """Tells the user what happens."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Tell what is being done."""

    @abstractmethod
    def warn(self, text: str) -> None:
        """Tell something the user should read."""

    @abstractmethod
    def stopped(self, text: str) -> None:
        """Tell that the run ended early."""

    @abstractmethod
    def image(self, result: JobResult) -> None:
        """Tell what became of an image."""

    @abstractmethod
    def finish(self, results: Sequence[JobResult], out: Path, summary: Path | None) -> None:
        """Tell what became of the run."""

    def image_progress(self, job: Job) -> Callable[[Progress], None]:
        """Give the progress callback of an image."""
        return lambda _: None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


def make_reporter(as_json: bool, n_images: int, out: Path) -> Reporter:
    """Give the reporter for programs or for people."""
    return JsonReporter() if as_json else TerminalReporter(n_images, out)


class JsonReporter(Reporter):
    """One JSON object per line on standard output."""

    def say(self, text: str) -> None:
        self._write(event="status", message=text)

    def warn(self, text: str) -> None:
        self._write(event="warning", message=text)

    def stopped(self, text: str) -> None:
        self._write(event="stopped", message=text)

    def image(self, result: JobResult) -> None:
        self._write(
            event="image",
            image=[str(path) for path in result.job.files],
            status=result.status,
            objects=None if result.status == "failed" else result.n_objects,
            diameter_px=None if result.status == "failed" else result.diameter_px,
            seconds=round(result.seconds, 4),
            outputs=result.outputs,
            warnings=list(result.warnings),
            error=result.error or None,
            **({"fields": result.job.fields} if result.job.fields else {}),
        )

    def finish(self, results: Sequence[JobResult], out: Path, summary: Path | None) -> None:
        self._write(
            event="summary",
            **_counts(results),
            out=str(out),
            summary=str(summary) if summary else None,
        )

    def _write(self, **event: Any) -> None:
        click.echo(json.dumps(event))


class TerminalReporter(Reporter):
    """A line per image on standard output, a progress bar with the time left on standard error."""

    def __init__(self, n_images: int, out: Path) -> None:
        self._n_images, self._out = n_images, out
        self._done = 0
        self._shares: dict[str, float] = {}
        self._bar: RichProgress | None = None

    def __enter__(self) -> TerminalReporter:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("images  elapsed"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=False),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("Segmenting", total=self._n_images)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        else:
            click.echo(f"{text} ...", err=True)

    def warn(self, text: str) -> None:
        self._line(f"Warning: {text}", err=True)

    def stopped(self, text: str) -> None:
        self._line(text, err=True)

    def image_progress(self, job: Job) -> Callable[[Progress], None]:
        name = job.name if len(job.name) < 40 else "…" + job.name[-39:]

        def show(progress: Progress) -> None:
            if self._bar is not None:
                plane = (progress.plane + progress.done / progress.total) / progress.n_planes
                share = {"size": 0.5 * plane, "network": plane, "labels": 1.0}[progress.stage]
                plural = f" plane {progress.plane + 1}/{progress.n_planes}"
                what = plural if progress.n_planes > 1 else ""
                self._shares[job.title] = min(share, 0.99)
                self._move(f"{name}{what}: {progress.stage}")

        return show

    def image(self, result: JobResult) -> None:
        self._done += 1
        self._shares.pop(result.job.title, None)
        self._move()
        names = _names(result.job, self._out)
        if result.status == "failed":
            error = name_options(result.error, names)
            self._line(f"FAILED  {result.job.title}: {error}", err=True)
            return
        state = (
            "skipped, results were there"
            if result.status == "skipped"
            else (f"{result.seconds:.1f} s")
        )
        self._line(
            f"{result.job.title}: objects: {result.n_objects}, diameter "
            f"{result.diameter_px:.1f} px, {state}"
        )
        for warning in result.warnings:
            self._line(f"  Warning: {name_options(warning, names)}", err=True)

    def finish(self, results: Sequence[JobResult], out: Path, summary: Path | None) -> None:
        self._close()
        counts = _counts(results)
        parts = [f"{counts['ok']} segmented"]
        parts += [f"{counts['skipped']} skipped"] if counts["skipped"] else []
        parts += [f"{counts['failed']} failed"] if counts["failed"] else []
        is_written = summary or counts["ok"] or counts["skipped"]
        end = f"Results: {out}" if is_written else "Nothing was written."
        click.echo(f"{', '.join(parts)}; {counts['objects']} objects in all. {end}")
        if summary:
            click.echo(f"Summary: {summary}")

    def _move(self, description: str | None = None) -> None:
        """Let the bar stand at the images that are done and the shares of those at work."""
        if self._bar is not None:
            done = self._done + sum(tuple(self._shares.values()))
            self._bar.update(self._task, completed=done, description=description)

    def _line(self, text: str, *, err: bool = False) -> None:
        if self._bar is not None and (err or sys.stdout.isatty()):
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=err)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left while a terminal is attached; give how to move it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _names(job: Job, out: Path) -> list[str]:
    """Give the paths that sentences about an image may have in them."""
    from cellseg_engine.batch.outputs import output_path
    from cellseg_engine.batch.plan import OUTPUT_ENDINGS

    given = [name for file in job.files for name in (str(file), str(file.resolve()), file.name)]
    return [*given, job.name, str(out), *(str(output_path(out, job, k)) for k in OUTPUT_ENDINGS)]


def _counts(results: Sequence[JobResult]) -> dict[str, int]:
    counts = {
        status: sum(result.status == status for result in results)
        for status in ("ok", "skipped", "failed")
    }
    return counts | {"objects": sum(result.n_objects for result in results)}
