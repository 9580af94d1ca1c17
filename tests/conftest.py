"""What all tests share: the data beside the project, and a home of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

# Before numpy, numba and torch are imported: at least 2 threads, so that races can show, and no
# more than 4, so that tests run beside other work.
_THREADS = str(min(4, max(2, os.cpu_count() or 1)))
for _variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, _THREADS)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
Thing = TypeVar("Thing")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Give the folder of real images, weights and reference values."""
    if not SHARED.is_dir():
        pytest.skip("needs the shared data folder beside the project")
    return SHARED


def require(thing: Thing | None, reason: str) -> Thing:
    """Give back a host or tool that a test needs.

    Without it the test is skipped, with the reason; where ``CELLSEG_REQUIRE_HOSTS`` is 1, as in
    continuous integration, it fails.
    """
    if thing:
        return thing
    if os.environ.get("CELLSEG_REQUIRE_HOSTS") == "1":
        pytest.fail(f"{reason} (CELLSEG_REQUIRE_HOSTS is 1)", pytrace=False)
    pytest.skip(reason)


def find_pythons(version: str) -> list[Path]:
    """Give the Pythons of an older version, for example ``3.8``, that this machine has.

    They are no hosts but the ages of hosts: a test without one is skipped, also in continuous
    integration.
    """
    roots = [Path(os.environ.get("PYENV_ROOT", "~/.pyenv")), Path("~/.pyenv")]
    managed = [
        python
        for root in dict.fromkeys(root.expanduser() for root in roots)
        for python in sorted((root / "versions").glob(f"{version}.*/bin/python"))
    ]
    on_path = shutil.which(f"python{version}")
    return [*managed, *([Path(on_path)] if on_path else [])]


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests, and the programs they start, out of the user's own folders."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLSEG_MODELS", str(home / "models"))
        for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
            patch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
        runtime = home / "runtime"
        runtime.mkdir(mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the checks that failed before the tests, right above the closing line."""
    failed = os.environ.get("CELLSEG_FAILED_CHECKS")
    if failed:
        terminalreporter.section("failed before the tests", red=True)
        terminalreporter.write_line(f"{failed}: see the output above the tests")
