"""What tests have CellProfiler's own Python do: run, load, save and share out pipelines.

    PYTHON -m tests.integration.cellprofiler_inside COMMAND PLUGINS JSON

``run`` runs pipelines one after the other as the command line does, in one process; ``keep`` loads
and saves them; ``share`` runs one with the worker processes of "Analyze images".
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.make_example_pipelines import load, save, start

MODULE = "IdentifyCells"


def main() -> int:
    """Do what is asked and print the answer as the last line."""
    command, plugins, task = sys.argv[1:]
    start(Path(plugins))
    answers: dict[str, Callable[[Any], Any]] = {"run": run_all, "keep": keep, "share": share}
    sys.stdout.write(json.dumps(answers[command](json.loads(task))) + "\n")
    return 0


# --- one after the other -----------------------------------------------------------------------


def run_all(tasks: list[dict[str, str]]) -> list[int]:
    """Run pipelines; the log of each goes to its output folder."""
    with java():
        return [run_one(task) for task in tasks]


def run_one(task: dict[str, str]) -> int:
    """Run a pipeline with CellProfiler's own function for that; gives its exit code."""
    from cellprofiler_core.preferences import (
        set_always_continue,
        set_default_image_directory,
        set_default_output_directory,
    )

    program = import_module("cellprofiler.__main__")
    options, rest = program.parse_args(
        ["cellprofiler", "-c", "-r", "-p", task["pipeline"], "-i", task["images"]]
    )
    set_default_image_directory(task["images"])
    set_default_output_directory(task["out"])
    set_always_continue(task["on_error"] == "continue", globally=False)
    with log_to(Path(task["out"]) / "log.txt"):
        return int(program.run_pipeline_headless(options, rest))


@contextlib.contextmanager
def java() -> Iterator[None]:
    """Have the Java that reads images, and end it."""
    from cellprofiler_core.preferences import set_awt_headless
    from cellprofiler_core.utilities.java import start_java

    set_awt_headless(True)
    start_java()
    try:
        yield
    finally:
        import_module("cellprofiler.__main__").stop_cellprofiler()


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Write what is logged to a file too."""
    handler = logging.FileHandler(path, encoding="utf-8")
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


# --- loaded and saved --------------------------------------------------------------------------


def keep(tasks: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Load pipelines and save them again; says what they hold, and what is wrong."""
    from cellprofiler_core.constants.modules import all_modules

    answers = []
    for task in tasks:
        pipeline = load(Path(task["pipeline"]))
        ours = [module for module in pipeline.modules() if module.module_name == MODULE]
        save(pipeline, Path(task["saved"]))
        answers.append(
            {
                "in_list": MODULE in all_modules,
                "modules": [module.module_name for module in pipeline.modules()],
                "problems": [problem_of(module, pipeline) for module in ours],
                "shown": [[s.text for s in module.visible_settings()] for module in ours],
            }
        )
    return answers


def problem_of(module: Any, pipeline: Any) -> str:
    """Give what the window would say of a module."""
    from cellprofiler_core.setting import ValidationError

    try:
        module.test_valid(pipeline)
    except ValidationError as error:
        return str(error.message)
    return ""


# --- shared out --------------------------------------------------------------------------------


class Listener:
    """Does what the window does with the news of an analysis."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.errors: list[str] = []
        self.shown: list[dict[str, Any]] = []
        self.measurements: Any = None

    def __call__(self, event: Any) -> None:
        """Take an event, and answer it if it is a worker's question."""
        from cellprofiler_core.analysis import event as events
        from cellprofiler_core.analysis import request
        from cellprofiler_core.analysis.reply import Ack
        from cellprofiler_core.utilities.zmq.communicable.reply import Reply

        if isinstance(event, request.Display):
            self.shown.append(dict(event.display_data_dict, number=event.image_set_number))
            event.reply(Ack())
        elif isinstance(event, request.ExceptionReport):
            self.errors.append(f"{event.exc_type}: {event.exc_message}")
            event.reply(Reply(disposition="Continue"))
        elif isinstance(event, events.Finished):
            self.measurements = event.measurements
            self.done.set()


def share(task: dict[str, Any]) -> dict[str, Any]:
    """Run a pipeline with several workers, as "Analyze images" does."""
    from cellprofiler_core.analysis._analysis import Analysis
    from cellprofiler_core.analysis._runner import Runner
    from cellprofiler_core.preferences import set_default_output_directory

    set_default_output_directory(task["out"])
    listener = Listener()
    with java(), log_to(Path(task["out"]) / "log.txt"):
        pipeline, measurements = prepare(task)
        analysis = Analysis(pipeline, measurements)
        analysis.start(listener, num_workers=task["workers"])
        is_done = listener.done.wait(task["limit_s"])
        workers = [worker.pid for worker in Runner.workers]
        Runner.stop_workers()
        sets = list_sets(listener.measurements) if is_done else []
    return {
        "done": is_done,
        "errors": listener.errors,
        "shown": [describe_shown(data) for data in listener.shown],
        "workers": workers,
        "sets": sets,
    }


def prepare(task: dict[str, Any]) -> tuple[Any, Any]:
    """Give a pipeline and the measurements that list its image sets."""
    from cellprofiler_core.image import ImageSetList
    from cellprofiler_core.measurement import Measurements
    from cellprofiler_core.workspace import Workspace

    pipeline = load(Path(task["pipeline"]))
    pipeline.add_pathnames_to_file_list([str(p) for p in sorted(Path(task["images"]).iterdir())])
    measurements = Measurements()
    workspace = Workspace(pipeline, None, None, None, measurements, ImageSetList())
    if not pipeline.prepare_run(workspace):
        raise RuntimeError("The pipeline cannot be prepared.")
    return pipeline, measurements


def list_sets(measurements: Any) -> list[dict[str, Any]]:
    """Give status and count of every image set."""
    return [
        {
            "number": int(number),
            "status": str(measurements["Image", "ProcessingStatus", number]),
            "count": float(measurements["Image", "Count_Nuclei", number]),
        }
        for number in measurements.get_image_numbers()
    ]


def describe_shown(data: dict[str, Any]) -> dict[str, Any]:
    """Give what a worker sent for the figure, as plain data."""
    arrays = ("image", "labels", "by_size", "by_border")
    return {
        "number": data["number"],
        "shapes": {name: list(data[name].shape) for name in arrays},
        "table": data["table"],
    }


if __name__ == "__main__":
    sys.exit(main())
