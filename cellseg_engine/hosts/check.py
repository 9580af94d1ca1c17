"""Verify an installation by one real call of the client that the host will use."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellseg_engine._version import __version__
from cellseg_engine.hosts import run_fiji
from cellseg_engine.hosts.layouts import Layout

TIMEOUT_S = 420.0

_PROGRAM = Path(__file__).with_name("call_client.py")
_DEMO = Path(__file__).parents[1] / "demo"


@dataclass(frozen=True)
class Check:
    """How the call went.

    Attributes
    ----------
    problem, hint
        What failed and what to do; empty if nothing did.
    n_objects, seconds
        What was found, and how long it took with the start of the engine.
    image
        Name of the image.
    client
        File of the client that ran.
    engine_version, engine_pid
        Of the engine that answered.
    host_ran
        Whether the host itself ran the installed command as well.
    """

    problem: str = ""
    hint: str = ""
    n_objects: int = 0
    seconds: float = 0.0
    image: str = ""
    client: str = ""
    engine_version: str = ""
    engine_pid: int = 0
    host_ran: bool = False

    @property
    def note(self) -> str:
        """A sentence about what is not as it should be, though it worked; or empty."""
        if self.engine_version in ("", __version__):
            return ""
        return (
            f"An engine of version {self.engine_version} still runs (process {self.engine_pid}); "
            f"end it, then the next call starts version {__version__}."
        )


def check_installation(folder: Path, layout: Layout) -> Check:
    """Try what was installed; the one place where a host's own scripts can be run as well.

    Parameters
    ----------
    folder, layout
        Of the host.

    Returns
    -------
    Check
        Never raises for what an installation can lack; it is said in ``problem``.
    """
    check = _check_client(folder, layout)
    if check.problem or layout.name != "Fiji" or not run_fiji.can_run(folder):
        return check
    failure = run_fiji.run_command(folder, _demo_image())
    if failure:
        return Check(
            f"The engine works, but Fiji did not run Segment Cells: {failure}",
            "Start Fiji and try Plugins > CellSeg > Segment Cells; Engine Status explains more.",
        )
    return replace(check, host_ran=True)


def _demo_image() -> Path:
    return min(_DEMO.glob("*.tif"), key=lambda path: path.stat().st_size)


def _check_client(folder: Path, layout: Layout) -> Check:
    """Have the installed client segment a small image, in a process that sees nothing else."""
    image = _demo_image()
    client = [str(folder / layout.client)] if layout.client else []
    # -I: neither this folder nor PYTHONPATH can lend the client a module that the host lacks;
    # -B: the host's folder stays as it was installed.
    command = [sys.executable, "-I", "-B", "-X", "utf8", str(_PROGRAM)]
    try:
        ran = subprocess.run(
            [*command, str(folder / layout.configuration), str(image), *client],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check(f"There was no result after {TIMEOUT_S:g} s.", "Look with: cellseg doctor")
    return _read_answer(ran.stdout, ran.stderr, image.name, client)


def _read_answer(output: str, errors: str, image: str, client: list[str]) -> Check:
    try:
        about: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        last = (errors.strip().splitlines() or ["it said nothing"])[-1]
        return Check(f"The installed client does not run: {last}.", "Install again.")
    if "error" in about:
        return Check(about["error"], about["hint"])
    check = Check(image=image, **about)
    if client and not Path(check.client).is_relative_to(client[0]):
        return Check(f"The client that ran is {check.client}, not the installed one.", "")
    if not check.n_objects:
        return Check(f"The engine found nothing in {image}, which shows nuclei.", "Install again.")
    return check
