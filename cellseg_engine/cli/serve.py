"""``cellseg serve``."""

from __future__ import annotations

import importlib.util
import runpy
import sys

import click

from cellseg_engine.errors import MissingDependencyError

NEEDED = ("cellseg_service", "starlette", "uvicorn", "psutil")


@click.command(
    name="serve",
    context_settings={"ignore_unknown_options": True, "max_content_width": 100},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run the engine as a service for Fiji, CellProfiler and other machines.

    The service knows the engine, not the other way round: it is run as
    ``python -m cellseg_service`` would run it, in this process, and reads its own options.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"The service needs {', '.join(missing)}.",
            hint="Install it: pip install 'cellseg-engine[service]'.",
        )
    sys.argv = ["cellseg serve", *arguments]
    runpy.run_module("cellseg_service", run_name="__main__")
