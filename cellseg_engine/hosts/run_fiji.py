"""Have a Fiji run the installed command once, without its window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

TIMEOUT_S = 300.0

_MAIN = "net.imagej.Main"
_JARS = "imagej-[0-9]*.jar"
"""The jar of Fiji that has `_MAIN`."""
_LINES_SHOWN = 3


def find_java(folder: Path) -> str | None:
    """Give the Java that comes with a Fiji, else that of ``JAVA_HOME`` or of the path."""
    names = ("java.exe", "java")
    own = [path for name in names for path in sorted(folder.glob(f"java/**/bin/{name}"))]
    home = os.environ.get("JAVA_HOME")
    if home:
        own += [path for name in names if (path := Path(home, "bin", name)).is_file()]
    return str(own[0]) if own else shutil.which("java")


def can_run(folder: Path) -> bool:
    """Say whether a folder holds what starts a Fiji without its window, and there is a Java."""
    return any((folder / "jars").glob(_JARS)) and find_java(folder) is not None


def run_command(folder: Path, image: Path) -> str:
    """Run Segment Cells on an image in a Fiji for which `can_run`; give what failed, or nothing.

    Takes about ten seconds. The engine runs already, or is started by the script.
    """
    with tempfile.TemporaryDirectory(prefix="cellseg-fiji-") as name:
        results = Path(name, "results")
        macro = Path(name, "check.ijm")
        macro.write_text(
            f'open("{image.as_posix()}");\n'
            f'run("Segment Cells", "diameter_px=30 save_to=[{results.as_posix()}]");\n',
            encoding="utf-8",
        )
        try:
            ran = subprocess.run(
                _command(folder, macro),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"it could not be run: {error}."
        if list(results.glob("*_labels.tif")):
            return ""
        said = [line.strip() for line in ran.stdout.splitlines() if line.strip()]
        return "it gave no labels: " + (" | ".join(said[-_LINES_SHOWN:]) or "it said nothing.")


def _command(folder: Path, macro: Path) -> list[str]:
    return [
        find_java(folder) or "java",
        "--add-opens=java.base/java.lang=ALL-UNNAMED",
        "-Djava.awt.headless=true",
        f"-Dimagej.dir={folder}",
        f"-Dscijava.dir={folder}",
        f"-Dplugins.dir={folder}",
        "-Dpython.cachedir.skip=true",
        "-cp",
        os.pathsep.join(str(folder / name / "*") for name in ("jars", "plugins")),
        _MAIN,
        "--headless",
        "--run",
        str(macro),
    ]
