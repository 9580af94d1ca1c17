"""The Java machine of this process, and its classes looked up when they are needed."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellseg_engine.errors import MissingDependencyError, ReadError
from cellseg_imagej.errors import JavaError, JavaTypeError

IMAGEPLUS = "ij.ImagePlus"
DATASET = "net.imagej.Dataset"
_IMAGEPLUS_ENTRY = "ij/ImagePlus.class"
_INSTALL = "pip install 'cellseg-engine[imagej]'"
_START = "Start one first: cellseg_imagej.start_imagej(FOLDER), or imagej.init(FOLDER) of pyimagej."


def start_imagej(
    place: Path | str, *, headless: bool = True, options: Sequence[str] = ("-Xmx4g",)
) -> None:
    """Start the Java machine of this process with an ImageJ; does nothing where one runs.

    Takes the Java of the computer (JAVA_HOME, else the PATH) and the jars that are there: nothing
    is downloaded. A Fiji is better started by pyimagej's ``imagej.init(FOLDER)``, which brings
    its plugins and services too.

    Parameters
    ----------
    place
        An ``ij.jar``, or a folder with it: that of ImageJ or Fiji, or of jars.
    headless
        Without windows; False needs a display.
    options
        Of the Java machine.

    Raises
    ------
    ReadError
        There is no ImageJ in that place.
    JavaError
        There is no Java, or one runs already that has no ImageJ.
    MissingDependencyError
        jpype1 or scyjava is not installed.
    """
    jpype = _import_jpype()
    if jpype.isJVMStarted():
        java_class(IMAGEPLUS)
        return
    try:
        import scyjava
    except ImportError as error:
        raise MissingDependencyError(
            "Starting ImageJ needs the package scyjava, which is not installed.", hint=_INSTALL
        ) from error
    # Absolute: JPype takes relative paths from the folder of the code that calls it.
    scyjava.config.add_classpath(*(str(jar) for jar in _find_jars(Path(place).absolute())))
    _name_java_home()
    # Else scyjava asks the network for a Java of the version it prefers.
    scyjava.config.set_java_constraints(fetch="never")
    scyjava.config.add_options([*options, f"-Djava.awt.headless={str(headless).lower()}"])
    try:
        scyjava.start_jvm()
    except (OSError, RuntimeError, ValueError, jpype.JVMNotFoundException) as error:
        raise JavaError(
            f"Java cannot be started: {error}.",
            hint="Install a JDK 11 or newer, for example openjdk-17-jdk, and set JAVA_HOME to it.",
        ) from error
    java_class(IMAGEPLUS)


def java_class(name: str) -> Any:
    """Give a Java class by its full name.

    Raises
    ------
    MissingDependencyError
        jpype1 is not installed.
    JavaError
        No Java machine runs in this process, or its class path lacks the class.
    """
    found = find_class(name)
    if found is None:
        raise JavaError(
            f"The Java machine has no class {name} on its class path.",
            hint="Start it with the jars of ImageJ or Fiji; in a process it can be started once.",
        )
    return found


def find_class(name: str) -> Any | None:
    """Give a Java class by its full name, or None if the class path lacks it; see `java_class`."""
    jpype = _import_jpype()
    if not jpype.isJVMStarted():
        raise JavaError("No Java machine runs in this process.", hint=_START)
    try:
        return jpype.JClass(name)
    except TypeError:
        return None


def check_imageplus(image: Any, task: str) -> Any:
    """Give an ImagePlus as it is.

    Raises
    ------
    JavaTypeError
        It is something else; the sentence names the task and what it is.
    """
    if not isinstance(image, java_class(IMAGEPLUS)):
        raise JavaTypeError(
            f"{task} takes an ij.ImagePlus; this is {describe_type(image)}.",
            hint="to_imageplus makes one from an array and its axes.",
        )
    return image


def is_dataset(image: Any) -> bool:
    """Say whether something is a net.imagej.Dataset."""
    kind = find_class(DATASET)
    return kind is not None and isinstance(image, kind)


def describe_type(thing: Any) -> str:
    """Name the class of a Python or Java object."""
    if thing is None:
        return "None"
    kind = type(thing)
    name = f"{kind.__module__}.{kind.__qualname__}"
    return name.removeprefix("builtins.").removeprefix("java.")


def is_headless() -> bool:
    """Say whether the Java machine has no windows, and so no ROI Manager."""
    return bool(java_class("java.awt.GraphicsEnvironment").isHeadless())


def _import_jpype() -> Any:
    try:
        import jpype
    except ImportError as error:
        raise MissingDependencyError(
            "ImageJ in Python needs the package jpype1, which is not installed.", hint=_INSTALL
        ) from error
    return jpype


def _name_java_home() -> None:
    """Set JAVA_HOME, where it is not, to that of the ``java`` on the PATH.

    Where that is a link, scyjava takes the folder of the link, for example /usr, and JPype then
    searches all of it.
    """
    found = shutil.which("java")
    if found is None or os.environ.get("JAVA_HOME"):
        return
    home = Path(found).resolve().parent.parent
    if (home / "release").is_file():
        os.environ["JAVA_HOME"] = str(home)


def _find_jars(place: Path) -> list[Path]:
    """Give the jars of a place, one of which is ImageJ's."""
    if place.is_file():
        jars = [place]
    else:
        folders = (place, place / "jars", place / "jars" / "bio-formats", place / "plugins")
        jars = sorted(jar for folder in folders for jar in folder.glob("*.jar"))
    if not any(_has_imagej(jar) for jar in jars):
        found = f"{len(jars)} jars, none of them" if jars else "no jar"
        raise ReadError(
            f"{place} holds {found} with ImageJ." if place.exists() else f"There is no {place}.",
            hint="Give the folder of an ImageJ or Fiji, or its ij.jar.",
        )
    return jars


def _has_imagej(jar: Path) -> bool:
    if not jar.name.startswith("ij"):
        return False
    try:
        with zipfile.ZipFile(jar) as archive:
            return _IMAGEPLUS_ENTRY in archive.NameToInfo
    except (OSError, zipfile.BadZipFile):
        return False
