"""How ``cellseg train`` shows its progress: a bar for people, lines for logs and programs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cellseg_engine.train.state import TrainingProgress


@contextmanager
def training_reporter(
    as_json: bool,
) -> Iterator[tuple[Callable[[TrainingProgress], None], Callable[[str], None]]]:
    """Give how to show progress and warnings: a bar for people, lines for programs."""
    if as_json:
        yield (
            _print_progress,
            lambda text: print_event("warning", message=text),
        )
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        tasks: dict[str, Any] = {}
        shown = ""
        lines = _EpochLines()

        def report(progress: TrainingProgress) -> None:
            nonlocal shown
            if not console.is_terminal:
                lines.report(progress)
                return
            stage = "training" if progress.stage == "scoring" else progress.stage
            if stage != shown:
                for task in tasks.values():
                    bar.update(task, visible=False)
                if stage not in tasks:
                    tasks[stage] = bar.add_task(stage)
                elif stage != "training":  # the training goes on with the next network
                    bar.reset(tasks[stage])
                shown = stage
            bar.update(
                tasks[stage],
                description=_describe(progress),
                completed=progress.done,
                total=progress.total,
                visible=True,
            )

        yield report, lambda text: _warn(text, bar.console.print if console.is_terminal else None)


class _EpochLines:
    """For a log file: a line when reading begins, and one per epoch."""

    def __init__(self) -> None:
        self._told: tuple[str, int] = ("", 0)
        self._left = minutes_left()

    def report(self, progress: TrainingProgress) -> None:
        place = (progress.stage, progress.epoch)
        if progress.stage == "scoring" or place == self._told:
            return
        self._told = place
        left = self._left(progress.stage, progress.done, progress.total)
        click.echo(_describe(progress) + left, err=True)


def minutes_left() -> Callable[[object, int, int], str]:
    """Give what says how long a stage still takes, from the stage, what is done, and the total.

    What was done before the first call of a stage does not count.
    """
    stage_before: object = None
    began, done_before = time.monotonic(), 0

    def left(stage: object, done: int, total: int) -> str:
        nonlocal stage_before, began, done_before
        if stage != stage_before:
            stage_before, began, done_before = stage, time.monotonic(), done
        if done <= done_before:
            return ""
        seconds = (time.monotonic() - began) / (done - done_before) * (total - done)
        return f"  about {math.ceil(seconds / 60)} min left"

    return left


def _warn(text: str, show: Callable[..., None] | None) -> None:
    if show is None:
        click.echo(f"Warning: {text}", err=True)
    else:
        show(f"Warning: {text}", markup=False, highlight=False, soft_wrap=True)


def _describe(progress: TrainingProgress) -> str:
    if not progress.n_epochs:
        return progress.stage
    text = f"epoch {progress.epoch}/{progress.n_epochs}"
    if not math.isnan(progress.loss):
        text += f"  loss {progress.loss:.3f}"
    if not math.isnan(progress.score):
        text += f"  best AP {progress.score:.3f}"
    return text + ("  scoring" if progress.stage == "scoring" else "")


def _print_progress(progress: TrainingProgress) -> None:
    print_event(
        "progress",
        stage=progress.stage,
        done=progress.done,
        total=progress.total,
        epoch=progress.epoch,
        n_epochs=progress.n_epochs,
        loss=None if math.isnan(progress.loss) else progress.loss,
        score=None if math.isnan(progress.score) else progress.score,
    )


def print_event(event: str, **values: Any) -> None:
    """Print a JSON object for programs."""
    click.echo(json.dumps({"event": event, **values}))
