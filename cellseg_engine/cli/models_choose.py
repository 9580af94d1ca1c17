"""``cellseg models suggest`` and ``cellseg models compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_engine.cli.options import GivenPath, collect_settings, setting_options
from cellseg_engine.errors import CellSegError, SettingsError
from cellseg_engine.zoo.store import absent_models, get_command, list_models

if TYPE_CHECKING:
    from cellseg_engine.batch.advice import Advice

_LOOK = ("channel", "nuclear_channel", "invert", "percentile_low", "percentile_high")
_RUN = ("diameter_px", "device", "precision")
_DECIDE = ("probability_threshold", "flow_threshold", "min_area_px", "exclude_edge_objects")


@click.command(name="suggest")
@click.argument("paths", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--axes", default=None, help="What the dimensions are, for example CYX.")
@click.option(
    "--index",
    "index_file",
    type=GivenPath(),
    default=None,
    help="Styles of training images made by tools/make_style_index.py, instead of those that come "
    "with the program.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for programs.")
@setting_options((*_LOOK, *_RUN))
def suggest_command(
    paths: Sequence[str], axes: str | None, index_file: Path | None, as_json: bool, **arguments: Any
) -> int:
    """Say which model to try for images.

    IMAGE is an image, a folder (with its sub-folders) or a pattern such as 'plate/*.tif'. A
    network describes each image by a style of 256 numbers; the model is the one for the 5 training
    images whose styles are nearest. An image that looks like none of them gets a warning.

    Exit code: 0 all done, 1 some images failed (they are named), 2 wrong use.
    """
    from cellseg_engine.batch.advice import Adviser
    from cellseg_engine.batch.plan import make_plan
    from cellseg_engine.io.images import read_image
    from cellseg_engine.zoo.styles import INDEX_FILE

    settings = collect_settings(arguments)
    plan = make_plan(paths)
    adviser = Adviser(settings, index_file or INDEX_FILE)
    n_failed = 0
    for job in plan.jobs:
        try:
            image = read_image(job.files[0], axes=axes)
            advice = adviser.advise(image)
        except CellSegError as error:
            n_failed += 1
            if as_json:
                click.echo(json.dumps({"image": job.title, "error": str(error)}))
            else:
                click.echo(f"{job.title}: {error}", err=True)
            continue
        if as_json:
            record = {"image": job.title, **advice.as_record()}
            warnings = [*image.warnings, *advice.warnings]
            record |= {"is_here": advice.is_here, "warnings": warnings}
            click.echo(json.dumps(record))
        else:
            for warning in image.warnings:
                click.echo(f"Warning: {warning}", err=True)
            _show(job.title, advice, index_file)
    return 1 if n_failed else 0


@click.command(name="compare")
@click.argument("image", type=GivenPath())
@click.option(
    "--models",
    default="",
    help="Names or weights files, separated by commas; without, all models on this computer.",
)
@click.option(
    "--out",
    required=True,
    type=GivenPath(file_okay=False),
    help="Folder for the picture and the table; made if needed.",
)
@click.option("--axes", default=None, help="What the dimensions are, for example CYX.")
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option("--json", "as_json", is_flag=True, help="The table as JSON, for programs.")
@setting_options((*_LOOK, *_RUN, *_DECIDE))
def compare_command(
    image: Path,
    models: str,
    out: Path,
    axes: str | None,
    force: bool,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Run several models on one image, to see which one suits it.

    Writes IMAGE_models.png, the image with the outlines of each model side by side, and
    IMAGE_models.csv, with objects, diameter, time, and how far each two models agree (average
    precision at an IoU of 0.5).
    """
    from cellseg_engine.batch.compare import (
        comparison_files,
        comparison_rows,
        run_models,
        write_comparison,
    )
    from cellseg_engine.io.images import read_image

    settings = collect_settings(arguments)
    names = [name.strip() for name in models.split(",") if name.strip()]
    there = [path for path in comparison_files(image, out) if path.exists()]
    if there and not force:
        raise SettingsError(f"{there[0]} is there already.", hint="Use --force to replace it.")
    data = read_image(image, axes=axes)
    for warning in data.warnings:
        click.echo(f"Warning: {warning}", err=True)
    results = []
    for one in run_models(data, names or [entry.name for entry in list_models()], settings):
        results.append(one)
        if not as_json:
            click.echo(
                f"{one.name}: {one.result.n_objects} objects, diameter "
                f"{one.result.diameter_px:.1f} px, {one.seconds:.1f} s"
            )
    paths = write_comparison(data, results, out)
    if as_json:
        files = [str(path) for path in paths]
        click.echo(json.dumps({"models": comparison_rows(results), "files": files}))
    else:
        for path in paths:
            click.echo(f"Wrote {path}")


def _show(title: str, advice: Advice, index_file: Path | None) -> None:
    suggestion = advice.suggestion
    click.echo(f"{title}: {suggestion.model}")
    click.echo(
        f"    {suggestion.reason}: "
        + ", ".join(f"{one.name} ({one.kind}, {one.distance:.3f})" for one in suggestion.neighbours)
    )
    source = {"given": "given", "estimate": "estimated"}.get(
        advice.style.diameter_source, "of the training images: none could be estimated"
    )
    click.echo(f"    Diameter of the objects: {advice.style.diameter_px:.1f} px ({source})")
    for warning in advice.warnings:
        click.echo(f"    Warning: {warning}")
    if not advice.is_here:
        how = _how_to_get(suggestion.model, index_file)
        click.echo(f"    It is not on this computer by this name: {how}")


def _how_to_get(model: str, index_file: Path | None) -> str:
    """Give the command that makes a model usable by its name: one of ours, or of a zoo."""
    if index_file is None or any(entry.name == model for entry in absent_models()):
        return get_command(model)
    below = Path("models", model, f"{model}.safetensors")
    beside = index_file.parent / below
    file = beside if beside.is_file() else Path("FOLDER_OF_THE_ZOO") / below
    return f'cellseg models import "{file}" --name {model}'
