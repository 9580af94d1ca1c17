"""``cellseg segment``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_engine.batch.outputs import DEFAULT_OUTPUTS, OPTIONAL_OUTPUTS
from cellseg_engine.batch.plan import Plan, make_plan
from cellseg_engine.cli.options import GivenPath, all_setting_options, collect_settings
from cellseg_engine.cli.report import Reporter, make_reporter
from cellseg_engine.core.axes import check_letters
from cellseg_engine.errors import CellSegError
from cellseg_engine.settings import SAME_MODEL, Settings
from cellseg_engine.zoo.store import AUTO, find_model, looks_like_path

if TYPE_CHECKING:
    from cellseg_engine.batch.auto import ModelChooser
    from cellseg_engine.batch.results import JobResult, RunOptions
    from cellseg_engine.pipeline.segmenter import Segmenter


@click.command(
    name="segment",
    context_settings={"max_content_width": 100},
    epilog="Example: cellseg segment plate1/ --out results --diameter-px 30",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--out",
    "out",
    required=True,
    type=GivenPath(file_okay=False),
    help="Folder for the results; made if needed.",
)
@click.option(
    "--axes",
    default=None,
    help="What the dimensions are, for example ZYX, CYX, TZCYX or YXS, instead of what the file "
    "says.",
)
@click.option(
    "--pattern",
    default="",
    help="For plates with one file per channel: how the names are made, for example "
    '"{well}_{site}_{channel}". The fields become columns of the tables.',
)
@click.option(
    "--existing",
    type=click.Choice(["skip", "overwrite", "error"]),
    default="skip",
    show_default=True,
    help="Where results are there already: skip them if they are what this run would make (so that "
    "a stopped run goes on), overwrite them, or fail.",
)
@click.option(
    "--outputs",
    default=",".join(DEFAULT_OUTPUTS),
    show_default=True,
    help=f"What to write, separated by commas; also {', '.join(OPTIONAL_OUTPUTS)} (for QuPath). "
    "run.json, which says how the results were made, is always written.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for programs.")
@click.option("--verbose", is_flag=True, help="Details of internal errors.")
@all_setting_options
def command(
    paths: Sequence[str],
    out: Path,
    axes: str | None,
    pattern: str,
    existing: str,
    outputs: str,
    as_json: bool,
    verbose: bool,
    **arguments: Any,
) -> int:
    """Find the cells or nuclei in images.

    PATH is an image, a folder (with its sub-folders) or a pattern such as 'plate/*.tif'. For
    each image the results are a label image, ImageJ ROIs, an overlay to look at, a table of
    objects and a run.json with everything needed to make them again; summary.csv lists all
    images. --model auto takes for each image the model that `cellseg models suggest` names.

    Exit code: 0 all done, 1 some images failed (they are named, the rest is done), 2 wrong use.
    """
    if verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s")
        logging.getLogger("numba").setLevel(logging.WARNING)
    settings = collect_settings(arguments)
    if axes is not None:
        check_letters(axes)
    plan = make_plan(paths, out, pattern)
    return run(plan, settings, out, axes, existing, _parse_outputs(outputs), as_json)


def run(
    plan: Plan,
    settings: Settings,
    out: Path,
    axes: str | None,
    existing: str,
    outputs: Sequence[str],
    as_json: bool,
) -> int:
    """Run a plan with progress on the terminal; give the exit code."""
    from cellseg_engine.batch.results import RunOptions
    from cellseg_engine.io.staging import check_writable

    options = RunOptions(out, existing, outputs, axes)
    check_writable(out)
    _check_models(settings)
    with make_reporter(as_json, len(plan.jobs), out) as reporter:
        for warning in plan.warnings:
            reporter.warn(warning)
        segmenter = _load(settings, reporter)
        if not _is_compiled():
            reporter.say("Compiling for this computer, once (up to a minute)")
        results: list[JobResult] = []
        try:
            settings = _common_diameter(plan, segmenter, settings, options, reporter)
            stop = _segment_all(plan, segmenter, settings, options, reporter, results)
        except KeyboardInterrupt:
            reporter.stopped(
                f"Stopped: {len(results)} of {len(plan.jobs)} images are done and stay; the same "
                "command goes on from there."
            )
            _summarise(out, results, reporter)
            raise
        if stop:
            reporter.stopped(f"Stopped after {len(results)} of {len(plan.jobs)} images: {stop}")
        _summarise(out, results, reporter)
    return 1 if any(result.status == "failed" for result in results) else 0


def _check_models(settings: Settings) -> None:
    """Say that a model is not there before anything is begun."""
    for name in {settings.model, settings.model_side_views} - {AUTO, SAME_MODEL}:
        if not looks_like_path(name):
            find_model(name)


def _is_compiled() -> bool:
    """Say whether kernels were compiled on this computer before: numba keeps them in files."""
    from cellseg_engine.core import clustering

    source = Path(clustering.__file__)
    folder = Path(str(clustering.number_seeds.stats.cache_path))
    kept = (path.stat().st_mtime for path in folder.glob(f"{source.stem}.number_seeds-*.nbi"))
    return any(time >= source.stat().st_mtime for time in kept)


def _load(settings: Settings, reporter: Reporter) -> Segmenter | ModelChooser:
    reporter.say("Loading the model")
    if settings.model == AUTO:
        from cellseg_engine.batch.auto import ModelChooser

        return ModelChooser(settings)
    from cellseg_engine.pipeline.segmenter import Segmenter

    return Segmenter(settings)


def _common_diameter(
    plan: Plan,
    segmenter: Segmenter | ModelChooser,
    settings: Settings,
    options: RunOptions,
    reporter: Reporter,
) -> Settings:
    """With ``diameter_scope: folder``, give settings with one diameter for all images.

    Where none shows objects to measure, it is left to each: the model's own, with a warning.
    """
    from cellseg_engine.batch.run import folder_diameter
    from cellseg_engine.pipeline.segmenter import Segmenter

    if settings.diameter_scope != "folder" or settings.diameter_px > 0:
        return settings
    if not isinstance(segmenter, Segmenter):
        raise AssertionError("a ModelChooser refuses such settings")
    reporter.say("Estimating one diameter for all images")
    found = folder_diameter(plan.jobs, segmenter, settings, options)
    if found is None:
        reporter.warn(
            f"None of {len(plan.jobs)} images showed objects to measure, so there is no common "
            "diameter and each image is treated by itself; give --diameter-px if there are objects."
        )
        return settings
    diameter, n_images = found
    reporter.say(f"Diameter for all images: {diameter:.1f} px (median of {n_images} images)")
    return settings.model_copy(update={"diameter_px": round(diameter, 3)})


def _segment_all(
    plan: Plan,
    segmenter: Segmenter | ModelChooser,
    settings: Settings,
    options: RunOptions,
    reporter: Reporter,
    results: list[JobResult],
) -> str:
    """Segment the images into ``results``; give the reason if the run had to stop."""
    from cellseg_engine.batch.run import RunStoppedError, run_jobs

    try:
        for result in run_jobs(plan.jobs, segmenter, settings, options, reporter.image_progress):
            results.append(result)
            reporter.image(result)
    except RunStoppedError as stop:
        results.append(stop.result)
        reporter.image(stop.result)
        return stop.result.error
    return ""


def _summarise(out: Path, results: Sequence[JobResult], reporter: Reporter) -> None:
    """Write the summary; not where all images failed and there is no folder of results."""
    from cellseg_engine.batch.summary import write_summary

    summary = None
    if results and out.is_dir():
        try:
            summary = write_summary(out, results)
        except CellSegError as error:
            reporter.warn(str(error))
    reporter.finish(results, out, summary)


def _parse_outputs(text: str) -> list[str]:
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    allowed = (*DEFAULT_OUTPUTS, *OPTIONAL_OUTPUTS)
    wrong = [kind for kind in kinds if kind not in allowed]
    if wrong:
        raise click.UsageError(
            f"--outputs {wrong[0]} is not known; choose from {', '.join(allowed)}."
        )
    return kinds
