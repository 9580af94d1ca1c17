"""``cellseg uninstall``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.hosts import cellprofiler
from cellseg_engine.hosts.installation import uninstall

dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.group(name="uninstall", context_settings={"max_content_width": 100})
def command() -> None:
    """Take CellSeg out of CellProfiler or Fiji again.

    Exactly what the record of the installation lists is removed; files that you changed since
    stay and are named.
    """


@command.command(name="cellprofiler")
@click.option(
    "--plugins-directory",
    type=GivenPath(file_okay=False),
    metavar="DIR",
    help="CellProfiler's plugins directory; by default the one that its preferences name.",
)
@dry_run
def cellprofiler_command(plugins_directory: Path | None, dry_run: bool) -> None:
    """Remove the module IdentifyCells from CellProfiler."""
    if plugins_directory is None:
        folder = cellprofiler.find_plugins_directory()
    else:
        folder = cellprofiler.check_plugins_directory(plugins_directory)
    _run(folder, "cellprofiler", dry_run)


@command.command(name="fiji")
@click.argument("folder", type=GivenPath(file_okay=False), metavar="DIR")
@dry_run
def fiji_command(folder: Path, dry_run: bool) -> None:
    """Remove the commands Plugins > CellSeg from the Fiji or ImageJ in DIR."""
    _run(Path(os.path.abspath(folder)), "fiji", dry_run)


def _run(folder: Path, host: str, dry_run: bool) -> None:
    done = uninstall(folder, host, is_rehearsal=dry_run)
    click.echo(f"This would be done in {folder}:" if dry_run else f"In {folder}:")
    for name in done.files:
        click.echo(f"  remove  {name}")
    for name in done.folders:
        click.echo(f"  remove  {name}/")
    for name in done.kept:
        click.echo(f"Warning: {name} was changed since it was installed, so it stays.", err=True)
    if dry_run:
        click.echo("Nothing was changed (--dry-run).")
    else:
        click.echo("CellSeg is removed from there; the engine itself stays installed.")
