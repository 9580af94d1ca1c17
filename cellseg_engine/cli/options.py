"""Command-line options made from the settings' schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from cellseg_engine.errors import SettingsError
from cellseg_engine.settings import Settings, make_settings

Command = TypeVar("Command", bound=Callable[..., Any])
_TYPES = {"number": click.FLOAT, "integer": click.INT, "string": click.STRING}
_EVERY = "|".join(Settings.model_fields)
_CLEAR = "|".join(name for name in Settings.model_fields if "_" in name)
_NAMED = re.compile(
    rf"^(?P<given>{_EVERY}) = |(?<=\bSet )(?P<asked>{_EVERY})(?= to )"
    rf"|(?<![-\w/\\])(?P<clear>{_CLEAR})(?!\w)"
)
"""Where a sentence names a setting: one that is a word, such as model, only in these places."""


class GivenPath(click.Path):
    """A path that is not the empty string, which would stand for the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check and convert the value."""
        if value == "":
            self.fail("the path is empty.", param, ctx)
        return super().convert(value, param, ctx)


def all_setting_options(command: Command) -> Command:
    """Add one option per setting; only those given arrive in the command's arguments."""
    return setting_options(tuple(Settings.model_fields))(command)


def setting_options(names: Collection[str]) -> Callable[[Command], Command]:
    """Add an option for each of these settings, in the order of the settings."""

    def add(command: Command) -> Command:
        properties = Settings.model_json_schema()["properties"]
        for name, schema in reversed(properties.items()):
            if name in names:
                command = _option(name, schema)(command)
        return command

    return add


def collect_settings(arguments: dict[str, Any]) -> Settings:
    """Take the settings out of a command's arguments and check them.

    Raises
    ------
    SettingsError
        A value is out of range.
    """
    given = {name: arguments.pop(name, None) for name in Settings.model_fields}
    try:
        return make_settings({name: value for name, value in given.items() if value is not None})
    except SettingsError as error:
        raise SettingsError(name_options(error.message), hint=error.hint) from None


def name_options(sentence: str, paths: Iterable[str] = ()) -> str:
    """Give a sentence with options where it names settings: --channel instead of channel.

    Parameters
    ----------
    paths
        What may be in the sentence and stays as it is, though a setting is called so.
    """
    kept = [rf"(?<!\w){re.escape(path)}(?!\w)" for path in sorted(paths, key=len, reverse=True)]

    def name(found: re.Match[str]) -> str:
        setting = found["given"] or found["asked"] or found["clear"]
        if setting is None:
            return found[0]
        return _flag(setting) + (" " if found["given"] else "")

    return re.sub("|".join((*kept, _NAMED.pattern)), name, sentence)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _option(name: str, schema: dict[str, Any]) -> Callable[[Command], Command]:
    flag = _flag(name)
    unit = f" [{schema['unit']}]" if "unit" in schema else ""
    text = f"{schema['description']}{unit}"
    default = schema["default"]
    if schema["type"] == "boolean":
        return click.option(
            f"{flag}/--no-{flag[2:]}", name, default=None, help=f"{text}  [default: {default}]"
        )
    kind: Any = click.Choice(schema["enum"]) if "enum" in schema else _TYPES[schema["type"]]
    shown = f"{default:g}" if isinstance(default, float) else default
    return click.option(flag, name, type=kind, default=None, help=f"{text}  [default: {shown}]")
