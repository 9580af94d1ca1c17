"""Open an ImageJ with the command Plugins > CellSeg in its menu, to try it without a Fiji.

    .venv/bin/python tools/open_imagej.py [--no-window]

Run it with the environment that `make demo` makes. ImageJ 1.54 and Jython are fetched with Maven
(a JDK and Maven are needed), an ImageJ folder is made in .hosts/imagej, CellSeg is installed into
it as `cellseg install fiji` does for any ImageJ, and it is opened with a demo image.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import fiji_host  # noqa: E402

FOLDER = ROOT / ".hosts/imagej"
DEMO = ROOT / "cellseg_engine/demo/dense_nuclei_4d2cff9a0c8d.tif"


def main(argv: list[str] | None = None) -> int:
    """Make and open it; 1 with a sentence if that cannot be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no-window", action="store_true", help="only make the folder")
    options = parser.parse_args(argv)
    try:
        lay_out(FOLDER)
    except fiji_host.ProblemError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    install = [sys.executable, "-m", "cellseg_engine", "install", "fiji", str(FOLDER)]
    installed = subprocess.call([*install, "--no-check"])
    if installed != 0 or options.no_window:
        return installed
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        print(f"error: there is no display; ImageJ lies in {FOLDER}.", file=sys.stderr)
        return 1
    print("Opening ImageJ: Plugins > CellSeg > Segment Cells")
    return subprocess.call(
        [
            *(fiji_host.find_program("java"), "-Xmx2g"),
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            *("-cp", str(FOLDER / "ij.jar"), "ij.ImageJ", "-ijpath", str(FOLDER), str(DEMO)),
        ]
    )


def lay_out(folder: Path) -> None:
    """Make a plain ImageJ folder with Jython, or complete the one there."""
    host = fiji_host.find_or_build()
    for name in ("plugins/jars", "macros"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(fiji_host.imagej_jar(host), folder / "ij.jar")
    for jar in fiji_host.jython_jars(host):
        shutil.copy(jar, folder / "plugins/jars")


if __name__ == "__main__":
    sys.exit(main())
