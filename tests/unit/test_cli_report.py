"""What the command line shows while it works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cellseg_engine.batch.plan import Job
from cellseg_engine.batch.results import JobResult
from cellseg_engine.cli.report import TerminalReporter
from cellseg_engine.pipeline.progress import Progress

JOBS = [Job(f"[b]{n}", (Path(f"{n}.tif"),)) for n in range(4)]


def test_images_at_work_count_when_one_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with TerminalReporter(len(JOBS), Path("out")) as reporter:
        bar: Any = reporter._bar
        for job in JOBS[:2]:
            reporter.image_progress(job)(Progress("network", 0, 1, 5, 10))
        assert bar.tasks[0].completed == 1
        reporter.image(JobResult(JOBS[0], "ok"))
        assert bar.tasks[0].completed == 1.5
        assert str(bar.columns[0].render(bar.tasks[0])) == "[b]1: network"


@pytest.mark.parametrize("name", ["my diameter_px test", "min_area_px x"])
def test_options_are_named_and_paths_stay(capsys: pytest.CaptureFixture[str], name: str) -> None:
    out = Path(name)
    job = Job(name, (out / f"{name}.tif",))
    run = out / f"{name}_run.json"
    text = "made with other settings: min_area_px 0 instead of 33"
    reporter = TerminalReporter(1, out)
    reporter.image(JobResult(job, "failed", error=f"{run} belongs to results {text}. {job.title}"))
    reporter.image(JobResult(job, "ok", warnings=(f"{job.title}: set diameter_px.",)))
    failed, warning = capsys.readouterr().err.splitlines()
    named = text.replace("min_area_px", "--min-area-px")
    assert failed == f"FAILED  {job.title}: {run} belongs to results {named}. {job.title}"
    assert warning == f"  Warning: {job.title}: set --diameter-px."
