"""The bar of a training on a terminal."""

from __future__ import annotations

from typing import Any

import pytest
import rich.console
import rich.progress

from cellseg_engine.cli.train_report import training_reporter
from cellseg_engine.train.state import TrainingProgress


def test_the_bar_shows_the_stage_that_is_on_with_each_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console, bars = rich.console.Console, []

    class Bar(rich.progress.Progress):
        def __init__(self, *columns: Any, **options: Any) -> None:
            super().__init__(*columns, **options)
            bars.append(self)

    monkeypatch.setattr(
        rich.console, "Console", lambda **options: console(force_terminal=True, **options)
    )
    monkeypatch.setattr(rich.progress, "Progress", Bar)
    stages = [
        TrainingProgress("reading", 3, 3),
        TrainingProgress("training", 4, 8, 1, 2, 0.5),
        TrainingProgress("scoring", 4, 8, 1, 2),
        TrainingProgress("size model", 3, 3),
        TrainingProgress("training", 5, 8, 2, 2, 0.5),
        TrainingProgress("size model", 1, 3),
    ]
    with training_reporter(False) as (report, _):
        shown = []
        for progress in stages:
            report(progress)
            (task,) = (task for task in bars[0].tasks if task.visible)
            shown.append((task.description.split("  ")[0], task.completed, task.finished))
    assert shown == [
        ("reading", 3, True),
        ("epoch 1/2", 4, False),
        ("epoch 1/2", 4, False),
        ("size model", 3, True),
        ("epoch 2/2", 5, False),
        ("size model", 1, False),
    ]
