"""The double-clickable installer for Linux and macOS, as far as it goes without the network.

A whole run with uv downloads PyTorch; docs/install-hosts.md says when one was made.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.install_host import tree

FOLDER = ROOT / "tools" / "installers"
SCRIPT = FOLDER / "cellseg-installer.sh"
NEEDED = (
    *("sh", "cat", "dirname", "find", "grep", "ls", "mkdir", "printf", "rm", "rmdir", "sed"),
    *("sort", "tail", "uname"),
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="runs a script of a POSIX shell")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home of Jürgen"
    home.mkdir()
    return home


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Give a folder of the programs that every system has, without uv, curl and wget."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None, f"this system has no {name}"
        (folder / name).symlink_to(found)
    return folder


def make_kit(folder: Path) -> Path:
    """Copy what a person gets: the installers and a wheel."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    (folder / "cellseg_engine-0.1.0-py3-none-any.whl").touch()
    return folder


def run(
    home: Path, programs: Path, *arguments: object, program: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run it for a user who has nothing but a home folder."""
    program = program or (str(make_kit(home.parent / "kit") / SCRIPT.name),)
    environment = {"HOME": str(home), "PATH": str(programs), "https_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        ["/bin/sh", *program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment,
    )


def data_folder(home: Path) -> Path:
    if sys.platform == "darwin":
        return home / "Library/Application Support/cellseg-bridges/installer"
    return home / ".local/share/cellseg-bridges/installer"


def test_nothing_to_download_with(home: Path, programs: Path) -> None:
    ran = run(home, programs)
    assert ran.returncode == 1
    assert ran.stdout.endswith(
        "CellSeg was not installed: neither curl nor wget is there to download uv; install one "
        "of them, or uv itself.\n"
    )
    assert ran.stderr == ""
    assert files(home) == []
    assert not data_folder(home).parent.exists()


def test_without_a_wheel_nothing_is_taken_from_an_index(home: Path, programs: Path) -> None:
    kit = make_kit(home.parent / "a kit")
    next(kit.glob("*.whl")).unlink()
    ran = run(home, programs, program=(str(kit / SCRIPT.name),))
    assert ran.returncode == 1
    assert ran.stdout == (
        f"\nCellSeg was not installed: there is no cellseg_engine-....whl in {kit}; put it beside "
        "this file.\n"
    )
    assert not data_folder(home).parent.exists()


def test_the_wheel_is_installed_by_its_path(home: Path, programs: Path, tmp_path: Path) -> None:
    uv = programs / "uv"
    uv.write_text('#!/bin/sh\nprintf "%s|" "$@"\n[ "$1" = pip ] && exit 3\nexit 0\n')
    uv.chmod(0o755)
    kit = make_kit(tmp_path / "a kit of Jürgen")
    ran = run(home, programs, program=(str(kit / SCRIPT.name),))
    assert ran.returncode == 1
    words = next(line for line in ran.stdout.splitlines() if line.startswith("pip|")).split("|")
    assert f"{kit}/cellseg_engine-0.1.0-py3-none-any.whl[service]" in words
    assert "--find-links" not in words
    assert [word for word in words if word.startswith("cellseg-engine")] == ["cellseg-engine"]
    assert words[words.index("cellseg-engine") - 1] == "--reinstall-package"


def test_no_connection(home: Path, programs: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    (programs / "curl").symlink_to(curl)
    ran = run(home, programs)
    assert ran.returncode == 1
    assert "== Getting uv, which installs Python packages (https://astral.sh" in ran.stdout
    assert ran.stdout.endswith(
        "CellSeg was not installed: uv could not be downloaded from "
        "https://astral.sh/uv/install.sh. Is there a connection to the internet?\n"
    )
    assert files(home) == []


def files(home: Path) -> list[str]:
    return [name for name, content in tree(home).items() if content is not None]


def test_an_older_installation_survives_a_failure(home: Path, programs: Path) -> None:
    data = data_folder(home)
    data.mkdir(parents=True)
    for name in ("made-by-cellseg-installer", "hosts.txt", "something"):
        (data / name).write_text("")
    before = tree(home)
    assert run(home, programs).returncode == 1
    assert tree(home) == before


def test_a_folder_of_somebody_else_is_left_alone(home: Path, programs: Path) -> None:
    data_folder(home).mkdir(parents=True)
    (data_folder(home) / "precious.txt").write_text("mine\n")
    before = tree(home)
    for arguments, words in (
        ((), "is there already and is not from this installer."),
        (("--uninstall",), "this installer has not installed it for you"),
    ):
        ran = run(home, programs, *arguments)
        assert (ran.returncode, words in ran.stdout) == (1, True)
        assert tree(home) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--unknown",), "--unknown is not understood; allowed are --fiji DIR, "),
        (("--fiji",), "--fiji needs a folder."),
    ],
)
def test_wrong_use(home: Path, programs: Path, arguments: tuple[str, ...], words: str) -> None:
    ran = run(home, programs, *arguments)
    assert (ran.returncode, words in ran.stdout) == (1, True)
    assert files(home) == []


def test_removing_what_was_never_installed(home: Path, programs: Path) -> None:
    ran = run(home, programs, "--uninstall", "--no-wait")
    assert ran.returncode == 1
    assert ran.stdout.startswith(
        "\nCellSeg was not uninstalled: this installer has not installed it for you ("
    )
    assert files(home) == []


def test_removing_ends_where_a_host_cannot_be_cleaned(home: Path, programs: Path) -> None:
    """A host whose record is gone is passed over; one that fails keeps the engine installed."""
    data = data_folder(home)
    (data / "environment/bin").mkdir(parents=True)
    (data / "made-by-cellseg-installer").write_text("")
    cellseg = data / "environment/bin/cellseg"
    cellseg.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 2\n')
    cellseg.chmod(0o755)
    fiji = home / "Fiji ü.app"
    fiji.mkdir()
    (fiji / "cellseg-installed.json").write_text("{}")
    (data / "hosts.txt").write_text(f"cellprofiler\t{home}/gone\nfiji\t{fiji}\n")
    ran = run(home, programs, "--uninstall")
    assert ran.returncode == 1
    assert f"uninstall|fiji|{fiji}|" in ran.stdout
    assert "cellprofiler" not in ran.stdout
    assert f"{fiji} still has CellSeg in it; see above. The engine stays" in ran.stdout
    assert cellseg.exists()


@pytest.mark.parametrize("system", ["Linux", "macOS"])
@pytest.mark.parametrize(
    ("task", "words"),
    [("Install", "neither curl nor wget"), ("Uninstall", "has not installed it for you")],
)
def test_the_files_to_double_click(
    home: Path, programs: Path, tmp_path: Path, system: str, task: str, words: str
) -> None:
    kit = make_kit(tmp_path / "CellSeg kit")
    if system == "macOS":
        program: tuple[str, ...] = (str(kit / f"{task} CellSeg (macOS).command"),)
    else:
        entry = kit / f"{task} CellSeg (Linux).desktop"
        program = tuple(words_of(entry)[1:])
    ran = run(home, programs, program=program)
    assert (ran.returncode, words in ran.stdout) == (1, True), ran.stdout + ran.stderr


def words_of(entry: Path) -> list[str]:
    """Take the command line of a desktop entry apart as its specification says."""
    (line,) = (line for line in entry.read_text().splitlines() if line.startswith("Exec="))
    value = line.removeprefix("Exec=").replace("\\\\", "\\")
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', value)
    plain = [re.sub(r"\\(.)", r"\1", quoted) or bare for quoted, bare in words]
    return [str(entry) if word == "%k" else word for word in plain]


def test_they_can_be_started_by_a_double_click() -> None:
    for path in (SCRIPT, *FOLDER.glob("*.command"), *FOLDER.glob("*.desktop")):
        assert os.access(path, os.X_OK), path.name


def run_part(home: Path, programs: Path, script: Path, words: str, given: str = "") -> str:
    """Run one function of the script in the place of its last line, as if in a terminal."""
    text = SCRIPT.read_text(encoding="utf-8").replace("[ -t 0 ]", "true")
    script.write_text(text.replace('"run_$task"', words), encoding="utf-8")
    ran = subprocess.run(
        ["/bin/sh", str(script)],
        input=given,
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(home), "PATH": str(programs)},
    )
    return ran.stdout


def test_the_newest_wheel_is_taken(home: Path, programs: Path, tmp_path: Path) -> None:
    beside = tmp_path / "a folder"
    beside.mkdir()
    for version in ("0.9.0", "0.10.0", "0.10.0.dev1", "0.2.11"):
        (beside / f"cellseg_engine-{version}-py3-none-any.whl").touch()
    newest = run_part(home, programs, beside / "installer.sh", "newest_wheel")
    assert newest.startswith("0.10.0")
    assert newest.endswith("-py3-none-any.whl\n")


@pytest.mark.parametrize("typed", [r"/Applications/My\ Fiji.app ", "'/Applications/My Fiji.app' "])
def test_a_folder_that_was_dragged(home: Path, programs: Path, tmp_path: Path, typed: str) -> None:
    script = tmp_path / "installer.sh"
    folder = run_part(home, programs, script, "ask_folder Which?", f"{typed}\n")
    assert folder == "/Applications/My Fiji.app"
