"""``cellseg models``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from cellseg_engine.cli.models_build import command as build_command
from cellseg_engine.cli.models_choose import compare_command, suggest_command
from cellseg_engine.cli.models_export import command as export_command
from cellseg_engine.cli.options import GivenPath
from cellseg_engine.errors import CellSegError
from cellseg_engine.zoo import store


@click.group(name="models", context_settings={"max_content_width": 100})
def command() -> None:
    """List, explain, suggest, compare, get, import, export and build models."""


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_command(as_json: bool) -> None:
    """List the models that can be used by name."""
    rows = []
    for entry in store.list_models():
        try:
            card = entry.card()
            description, diameter = entry.description or card.description, card.diam_mean_px
        except CellSegError as error:
            description, diameter = f"cannot be used: {error}", 0.0
        rows.append((entry.name, entry.source, len(entry.files), diameter, description))
    rows += [
        (entry.name, "not on this computer", len(entry.files), 0.0, entry.description)
        for entry in store.absent_models()
    ]
    if as_json:
        names = ("name", "source", "networks", "diam_mean_px", "description")
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    for name, source, networks, _, description in rows:
        several = f", ensemble of {networks}" if networks > 1 else ""
        click.echo(f"{name}  ({source}{several})\n    {description}")
    click.echo(f"\nImported models are in {store.models_folder()}.")
    if store.absent_models():
        click.echo(f"What is not on this computer is got by: {store.get_command('NAME')}")


@command.command(name="info")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info_command(model: str, as_json: bool) -> None:
    """Tell all about a model: a name, or a weights file."""
    files = store.read_model(model)
    card = asdict(files[0].card)
    card["networks"] = len(files)
    card["size_model"] = files[0].size_model is not None
    card["weights_sha256"] = [file.sha256 for file in files]
    if as_json:
        click.echo(json.dumps(card, indent=2))
        return
    for name, value in card.items():
        click.echo(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


@command.command(name="get")
@click.argument("model")
@click.option(
    "--from",
    "place",
    required=True,
    help="Its file, a folder with it, or an address (https://...); one that ends with / is a "
    "folder.",
)
def get_command(model: str, place: str) -> None:
    """Get a model that comes beside the program, and check that it is the right file."""
    from cellseg_engine.zoo.fetch import fetch_model

    with click.progressbar(length=1, label=f"Getting {model}", file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.length = max(total, done)
            bar.update(done - bar.pos)

        entry = fetch_model(model, place, show)
    click.echo(f"{entry.name} is here: use it with --model {entry.name}.")


@command.command(name="import")
@click.argument("files", nargs=-1, required=True, type=GivenPath())
@click.option("--name", default="", help="Name for the model; the file's own if left out.")
@click.option("--licence", default="", help="Licence of the weights, written into every run.json.")
@click.option("--origin", default="", help="Where they come from, written into every run.json.")
@click.option(
    "--flow-variant",
    type=click.Choice(["v3", "v2", "paper"]),
    default=None,
    help="Flow targets the model was trained on: v3 for Cellpose 3, v2 for Cellpose 0.6 to 2. "
    "Files of Cellpose 2 cannot be told from those of 3 and are taken for v3, as Cellpose 3 itself "
    "does; older ones for v2.",
)
@click.option(
    "--size-model",
    type=GivenPath(),
    default=None,
    help="Its official size_*.npy; found by itself when it lies beside the weights.",
)
@click.option(
    "--diam-mean-px",
    type=float,
    default=0,
    help="Diameter at which the networks see objects, for files older than Cellpose 2, which do "
    "not say it; without, that of the size model, or else a guess by the file's name: 17 for "
    "nuclei, 30 for others. [px]",
)
def import_command(
    files: Sequence[Path],
    name: str,
    licence: str,
    origin: str,
    flow_variant: str | None,
    size_model: Path | None,
    diam_mean_px: float,
) -> None:
    """Copy weights into the models folder, to use them by name.

    FILES are official Cellpose 1-3 weights (.pth or without ending) or CellSeg .safetensors;
    several files, or a folder of .safetensors, are the networks of one ensemble, whose outputs are
    averaged.
    """
    entry = store.import_model(
        files,
        name,
        licence=licence,
        origin=origin,
        flow_variant=flow_variant or "",
        size_file=size_model,
        diam_mean_px=diam_mean_px,
    )
    card = entry.card()
    several = f" ({len(entry.files)} networks)" if len(entry.files) > 1 else ""
    guessed = " (guessed)" if card.diam_mean_is_guessed else ""
    click.echo(
        f"Imported {entry.name}{several}: licence {card.licence}, from {card.origin}; objects are "
        f"seen at {card.diam_mean_px:g} px{guessed}. Use it with --model {entry.name}."
    )
    if guessed:
        click.echo("If that is wrong, import it again with --diam-mean-px.", err=True)
    if card.licence == "unknown":
        click.echo("State its licence with --licence if results are to be published.", err=True)


@command.command(name="remove")
@click.argument("model")
def remove_command(model: str) -> None:
    """Delete an imported model."""
    store.remove_model(model)
    click.echo(f"Removed {model}.")


command.add_command(build_command)
command.add_command(export_command)
command.add_command(suggest_command)
command.add_command(compare_command)
