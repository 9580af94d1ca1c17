"""``cellseg install``."""

from __future__ import annotations

from pathlib import Path

import click

from cellseg_engine.cli.options import GivenPath
from cellseg_engine.hosts import cellprofiler, fiji
from cellseg_engine.hosts.changes import Changes
from cellseg_engine.hosts.check import Check, check_installation
from cellseg_engine.hosts.installation import install, plan_installation
from cellseg_engine.hosts.layouts import LAYOUTS, engine_python

EXIT_CHECK_FAILED = 1

no_check = click.option(
    "--no-check", is_flag=True, help="Do not try the installed client with a real image."
)
dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.group(name="install", context_settings={"max_content_width": 100})
def command() -> None:
    """Put CellSeg into CellProfiler or Fiji, or update it there.

    Only files of CellSeg are written; a record beside them lets `cellseg uninstall` remove
    exactly these. Exit code 1: installed, but the check failed; 2: nothing was changed.
    """


@command.command(name="cellprofiler")
@click.option(
    "--plugins-directory",
    type=GivenPath(file_okay=False),
    metavar="DIR",
    help="CellProfiler's plugins directory; by default the one that its preferences name.",
)
@no_check
@dry_run
def cellprofiler_command(plugins_directory: Path | None, no_check: bool, dry_run: bool) -> int:
    """Add the module IdentifyCells to CellProfiler 4."""
    if plugins_directory is None:
        folder = cellprofiler.find_plugins_directory()
    else:
        folder = cellprofiler.check_plugins_directory(plugins_directory)
    return _run(folder, "cellprofiler", no_check, dry_run)


@command.command(name="fiji")
@click.argument("folder", type=GivenPath(file_okay=False), metavar="DIR")
@no_check
@dry_run
def fiji_command(folder: Path, no_check: bool, dry_run: bool) -> int:
    """Add the commands Plugins > CellSeg to the Fiji or ImageJ in DIR."""
    folder, host = fiji.recognise(folder)
    status = _run(folder, host, no_check, dry_run)
    missing = fiji.describe_missing_jython(folder)
    if missing:
        click.echo(f"Note: {missing}", err=True)
    return status


def _run(folder: Path, host: str, no_check: bool, dry_run: bool) -> int:
    layout = LAYOUTS[host]
    if dry_run:
        click.echo(f"This would be done in {folder}:")
        _show(plan_installation(folder, host))
        click.echo("Nothing was changed (--dry-run).")
        return 0
    changes = install(folder, host)
    click.echo(f"Installed CellSeg {changes.record.version} into {folder}:")
    _show(changes)
    click.echo(f"Engine: {engine_python()}")
    if not no_check:
        click.echo("Check: the installed client segments an image ...")
        check = check_installation(folder, layout)
        if check.problem:
            _report_failure(check, folder)
            return EXIT_CHECK_FAILED
        _report_check(check)
    click.echo(layout.next_step)
    return 0


def _show(changes: Changes) -> None:
    for name, kept in changes.keep.items():
        click.echo(f"Warning: you changed {name}; yours is kept as {kept}.", err=True)
    for name in changes.write:
        click.echo(f"  write   {name}")
    for name in changes.remove:
        click.echo(f"  remove  {name}")
    if changes.unchanged:
        click.echo(f"  {len(changes.unchanged)} files are there already, unchanged")


def _report_check(check: Check) -> None:
    where = f", with {check.client}" if check.client else ""
    click.echo(
        f"Check: {check.n_objects} objects in {check.image} after {check.seconds:.1f} s{where}"
    )
    if check.host_ran:
        click.echo("Check: Fiji, without its window, ran Segment Cells on it")
    if check.note:
        click.echo(f"Note: {check.note}", err=True)


def _report_failure(check: Check, folder: Path) -> None:
    click.echo(
        f"Error: the files are installed in {folder}, but the check failed: {check.problem} "
        f"{check.hint}".strip(),
        err=True,
    )
