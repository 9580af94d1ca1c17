"""The entry point: commands are imported only when they are called, so that help is quick."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from cellseg_engine._version import __version__
from cellseg_engine.errors import CellSegError

EXIT_USE = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "segment": "Find the cells or nuclei in images, folders or plates.",
    "train": "Train a model on your own annotated images.",
    "learning-curve": "Say how many annotated objects are worth having.",
    "evaluate": "Score label images against the truth.",
    "models": "List, explain, suggest, compare, import and export models.",
    "serve": "Run the engine as a service for Fiji, CellProfiler and other machines.",
    "install": "Put CellSeg into CellProfiler or Fiji, or update it there.",
    "uninstall": "Take CellSeg out of CellProfiler or Fiji again.",
    "doctor": "Say what is installed, what is missing and how to get it.",
    "about": "Version, how to cite, and a methods paragraph for a paper.",
    "demo": "Segment the real images that come with the program.",
}

LEARNING_CURVE = "--learning-curve"
"""With ``train`` this is the command of that name, which has options of its own."""


class LazyGroup(click.Group):
    """A group whose commands live in `cellseg_engine.cli.NAME` as ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,
        name: str,
    ) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(
            f"cellseg_engine.cli.{name.replace('-', '_')}"
        ).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] == "train" and LEARNING_CURVE in args:
            args = ["learning-curve", *(arg for arg in args[1:] if arg != LEARNING_CURVE)]
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: cellseg demo. Then: cellseg segment FOLDER --out RESULTS. "
    "Each command explains itself with --help.",
)
@click.version_option(__version__, "-V", "--version", prog_name="cellseg")
def cli() -> None:
    """Find cells and nuclei in microscopy images."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 all done, 1 some images failed, 2 wrong use."""
    _escape_what_cannot_be_shown()
    try:
        status = cli.main(args=arguments, prog_name="cellseg", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USE)
    except CellSegError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_USE)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Stopped.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except UnicodeEncodeError:
        click.echo(
            "Error: the name of a file or folder is not valid UTF-8 and cannot be written; give it "
            "another one.",
            err=True,
        )
        sys.exit(1)
    except BrokenPipeError:
        # The reader of a pipe went away (for example `| head`); nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        click.echo(f"Error: {error.strerror or error}{where}.", err=True)
        sys.exit(EXIT_USE)
    sys.exit(status if isinstance(status, int) else 0)


def _escape_what_cannot_be_shown() -> None:
    """Write characters that an output's encoding lacks as escapes, instead of ending the run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
