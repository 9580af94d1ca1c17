"""Where CellProfiler looks for plugins, read from its own preferences.

CellProfiler 4 keeps them with wxWidgets: on Linux and macOS in a file of lines ``key=value``, on
Windows in the registry.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from cellseg_engine.errors import ReadError

FILE_NAME = "CellProfilerLocal.cfg"
GLOBAL_FILE_NAME = "CellProfilerGlobal.cfg"
KEYS = ("PluginDirectoryCP4", "PluginDirectory")
"""The second one is of CellProfiler 3; version 4 takes it over where it has none of its own."""

WHERE_TO_LOOK = (
    "In CellProfiler open File > Preferences > CellProfiler plugins directory, choose a folder "
    "and save; or give the folder with --plugins-directory."
)

_VARIABLE = re.compile(r"\\\$|\$(?:(\w+)|\{(\w+)\}|\((\w+)\))")
_ESCAPE = re.compile(r'\\([nrt\\"])')
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"'}


def find_plugins_directory() -> Path:
    """Give the plugins directory that CellProfiler's preferences name.

    Raises
    ------
    ReadError
        They name none, or one that does not exist.
    """
    folder = read_plugins_directory()
    if folder is None:
        raise ReadError(
            "The preferences of CellProfiler name no plugins directory, or CellProfiler was never "
            "run by this user.",
            hint=WHERE_TO_LOOK,
        )
    return check_plugins_directory(folder)


def check_plugins_directory(folder: Path) -> Path:
    """Give the folder back, as an absolute path.

    Raises
    ------
    ReadError
        It does not exist.
    """
    if not folder.is_dir():
        raise ReadError(
            f"There is no folder {folder}, so it cannot be CellProfiler's plugins directory.",
            hint=f"Make that folder, or name another one. {WHERE_TO_LOOK}",
        )
    return Path(os.path.abspath(folder))


def read_plugins_directory() -> Path | None:
    """Give what the preferences name, None if they name nothing; it need not exist."""
    if sys.platform == "win32":
        return _read_registry()
    for file in preferences_files(sys.platform, Path.home(), os.environ):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # not there, or not for us: as CellProfiler would see it
        value = parse_preferences(text, os.environ)
        if value:
            return Path(value)
    return None


def preferences_files(system: str, home: Path, environment: Mapping[str, str]) -> list[Path]:
    """Give the files that may hold the preferences, the most likely one first.

    Parameters
    ----------
    system
        ``sys.platform``.
    home
        Of the user.
    environment
        Variables.
    """
    if system == "darwin":
        folders = [home / "Library/Preferences"]
        shared = Path("/Library/Preferences")
    else:
        # XDG is what CellProfiler asks for; without it wxWidgets uses the home folder.
        folders = [Path(environment.get("XDG_CONFIG_HOME") or home / ".config"), home]
        shared = Path("/etc")
    return [*(folder / FILE_NAME for folder in folders), shared / GLOBAL_FILE_NAME]


def parse_preferences(text: str, environment: Mapping[str, str]) -> str:
    """Find the plugins directory in the text of a preferences file, ``""`` if it has none."""
    values = {}
    for line in text.split("\n"):
        if line.lstrip().startswith("["):
            break  # from here on keys belong to a group; CellProfiler's own belong to none
        key, equals, value = line.partition("=")
        if equals and key.strip() in KEYS:
            values[key.strip()] = value.lstrip().rstrip("\r")
    value = next((values[key] for key in KEYS if values.get(key)), "")
    return _expand(_unescape(value), environment)


def _unescape(value: str) -> str:
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        value = value[1:-1]
    return _ESCAPE.sub(lambda found: _ESCAPED[found[1]], value)


def _expand(value: str, environment: Mapping[str, str]) -> str:
    """Put in environment variables, as wxWidgets does; an unknown one stays as it is written."""

    def replace(found: re.Match[str]) -> str:
        if found.lastindex is None:
            return "$"
        return environment.get(found[found.lastindex], found[0])

    return _VARIABLE.sub(replace, value)


if sys.platform == "win32":
    import winreg

    def _read_registry() -> Path | None:
        # wxWidgets takes the name of the local file as the name of the key.
        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, rf"Software\{FILE_NAME}") as key:
                found = dict(
                    winreg.EnumValue(key, n)[:2] for n in range(winreg.QueryInfoKey(key)[1])
                )
        except FileNotFoundError:
            return None  # CellProfiler was never run by this user
        value = next((found[name] for name in KEYS if found.get(name)), None)
        return Path(value) if value else None
