"""``cellseg serve``."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import sys

import click

from cellseg_engine.errors import MissingDependencyError

NEEDED = ("cellseg_service", "starlette", "uvicorn", "psutil")


class ServiceCommand(click.Command):
    """A command whose options are the service's own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        if importlib.util.find_spec("cellseg_service") is not None:
            parser = importlib.import_module("cellseg_service.options").make_parser()
            formatter.write(parser.format_help().partition("show this help message and exit\n")[2])


@click.command(
    name="serve",
    cls=ServiceCommand,
    options_metavar="[OPTIONS]",
    context_settings={"ignore_unknown_options": True, "max_content_width": 100},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
def command(arguments: tuple[str, ...]) -> None:
    """Run the engine as a service for Fiji, CellProfiler and other machines.

    The service knows the engine, not the other way round: it is run as
    ``python -m cellseg_service`` would run it, in this process, and reads its own options.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"The service needs {', '.join(missing)}.",
            hint=f"Install it: {sys.executable} -m pip install 'cellseg-engine[service]'.",
        )
    sys.argv = ["cellseg serve", *arguments]
    runpy.run_module("cellseg_service", run_name="__main__")
