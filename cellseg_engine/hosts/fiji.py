"""Recognise the folder of a Fiji or an ImageJ."""

from __future__ import annotations

import os
from pathlib import Path

from cellseg_engine.errors import ReadError

FOLDER_VARIABLE = "FIJI_HOME"

_FIJI_JARS = ("fiji-*.jar", "imagej-*.jar", "imagej-legacy-*.jar", "ij-1*.jar")
_IMAGEJ_JARS = ("ij.jar", "ImageJ.app/Contents/Java/ij.jar")


def recognise(folder: Path) -> tuple[Path, str]:
    """Say what lies in a folder.

    Returns
    -------
    tuple
        The absolute path, and the key of its layout: ``fiji`` or ``imagej``.

    Raises
    ------
    ReadError
        It is neither; the hint names the right folder if it lies just above or below.
    """
    folder = Path(os.path.abspath(folder))
    if is_fiji(folder):
        return folder, "fiji"
    if is_imagej(folder):
        return folder, "imagej"
    if not folder.is_dir():
        raise ReadError(
            f"There is no folder {folder}.",
            hint="Give the folder of your Fiji, usually named Fiji.app or Fiji.",
        )
    near = [folder.parent, *sorted(path for path in folder.iterdir() if path.is_dir())]
    meant = next((path for path in near if is_fiji(path) or is_imagej(path)), None)
    raise ReadError(
        f"{folder} is no folder of Fiji (it would hold jars and plugins) or ImageJ (it would hold "
        "ij.jar and plugins).",
        hint=f"Did you mean {meant}?"
        if meant
        else "In Fiji, Plugins > Utilities > ImageJ Properties shows it as ImageJ home.",
    )


def is_fiji(folder: Path) -> bool:
    """Say whether a folder holds a Fiji, or another ImageJ2."""
    if not (folder / "plugins").is_dir():
        return False
    return any(any((folder / "jars").glob(pattern)) for pattern in _FIJI_JARS)


def is_imagej(folder: Path) -> bool:
    """Say whether a folder holds an ImageJ 1."""
    has_jar = any((folder / name).is_file() for name in _IMAGEJ_JARS)
    return has_jar and (folder / "plugins").is_dir()


def describe_missing_jython(folder: Path) -> str:
    """Say what to do where the scripts cannot run, since Jython is missing; else nothing."""
    places = (folder / "jars", folder / "plugins", folder / "plugins/jars")
    if any(path for place in places for path in place.glob("[jJ]ython*.jar")):
        return ""
    return (
        "There is no Jython in it, which runs the scripts: in Fiji update with Help > Update..., "
        "in ImageJ put jython-slim.jar or jython-standalone.jar into plugins/jars."
    )
