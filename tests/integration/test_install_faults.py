"""Installing where something fails in the middle: the host is as it was, or can be mended."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_engine.errors import WriteError
from cellseg_engine.hosts import installation
from tests.integration.cli import Cli
from tests.integration.install_host import (
    Assets,
    make_assets,
    make_fiji,
    make_plugins,
    read_only,
    small_disk,
    tree,
)


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assets:
    return make_assets(tmp_path, monkeypatch)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    return make_plugins(tmp_path)


@pytest.fixture
def fiji(tmp_path: Path) -> Path:
    return make_fiji(tmp_path)


def test_a_full_disk_leaves_the_host_as_it_was(cli: Cli, assets: Assets, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    with small_disk(plugins, 40):
        (plugins / "other.py").write_text("mine = 1\n")
        before = tree(plugins)
        outcome = cli("install", "cellprofiler", "--plugins-directory", plugins)
        assert (outcome.code, tree(plugins)) == (2, before)
    assert outcome.err == (
        f"Error: Nothing was installed: {plugins} cannot be written: No space left on device. "
        f"{plugins} is as it was. Free some space or choose a folder that you may write, then "
        "install again.\n"
    )


@pytest.mark.parametrize("part", ["", "scripts"])
def test_a_read_only_folder_is_left_as_it_was(
    cli: Cli, assets: Assets, fiji: Path, part: str
) -> None:
    """Also where only a part is read-only, so that other parts were written already."""
    before = tree(fiji)
    with read_only(fiji / part):
        outcome = cli("install", "fiji", fiji)
    assert (outcome.code, tree(fiji)) == (2, before)
    assert outcome.err.startswith(f"Error: Nothing was installed: {fiji / part}")
    assert "cannot be written: Read-only file system." in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("is_update", [False, True])
def test_whatever_step_fails_all_is_taken_back(
    assets: Assets, plugins: Path, monkeypatch: pytest.MonkeyPatch, is_update: bool
) -> None:
    """Let the first step fail, then the second one, and so on, until none is left."""
    if is_update:
        installation.install(plugins, "cellprofiler")
        (plugins / "identifycells.py").write_text("mine = 1\n")
        assets.write("cellprofiler_modules/_cellseg/objects.py", "objects = 2\n")
        assets.write("cellprofiler_modules/_cellseg/new/part.py", "part = 1\n")
        assets.remove("cellprofiler_modules/_cellseg/help/texts.txt")
    before = tree(plugins)
    rename, steps, left = Path.rename, 0, 0

    def fail_at_last(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return rename(path, target)

    while True:
        steps += 1
        left = steps
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", fail_at_last)
            try:
                installation.install(plugins, "cellprofiler")
            except WriteError as error:
                assert "is as it was" in str(error)  # noqa: PT017 - the last round raises none
            else:
                break
        assert tree(plugins) == before
    assert steps > (6 if is_update else 15)
    assert tree(plugins) != before


@pytest.mark.parametrize("step", [2, 8, 13])
def test_a_computer_that_stops_in_the_middle(
    cli: Cli, assets: Assets, plugins: Path, step: int
) -> None:
    """Every file that is there then has an owner: installing goes on, removing removes all."""
    code = (
        "import os, pathlib, sys\n"
        "from cellseg_engine.hosts import installation, layouts\n"
        "rename, left = pathlib.Path.rename, int(sys.argv[1])\n"
        "def stop(path, target):\n"
        "    global left\n"
        "    left -= 1\n"
        "    return rename(path, target) if left else os._exit(9)\n"
        "pathlib.Path.rename = stop\n"
        "layouts.asset_folder = pathlib.Path(sys.argv[2]).joinpath\n"
        "installation.install(pathlib.Path(sys.argv[3]), 'cellprofiler')\n"
    )
    command = [sys.executable, "-c", code, str(step), str(assets.folder), str(plugins)]
    assert subprocess.run(command, check=False).returncode == 9
    arguments = ("cellprofiler", "--plugins-directory", plugins)
    assert "or one was interrupted" in cli("install", *arguments).err
    shutil.rmtree(plugins / ".cellseg-installing")
    assert cli("install", *arguments, "--no-check").code == 0
    assert cli("uninstall", *arguments).code == 0
    assert [name for name, content in tree(plugins).items() if content is not None] == ["other.py"]


def test_what_a_broken_rollback_lost_is_named(
    assets: Assets, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.install(plugins, "cellprofiler")
    assets.write("cellprofiler_modules/_cellseg/objects.py", "objects = 2\n")
    rename = Path.rename

    def fail_late(path: Path, target: Path) -> Path:
        if path.name == "objects.py" or target.name == "objects.py":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return rename(path, target)

    def never(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "rename", fail_late)
    monkeypatch.setattr(Path, "unlink", never)
    with pytest.raises(WriteError) as caught:
        installation.install(plugins, "cellprofiler")
    assert "could not be put back as they were: " in str(caught.value)
    assert str(plugins / "_cellseg/installed.json") in str(caught.value)


def test_two_installations_at_once(cli: Cli, assets: Assets, fiji: Path) -> None:
    (fiji / ".cellseg-installing").mkdir()
    before = tree(fiji)
    outcome = cli("install", "fiji", fiji)
    assert (outcome.code, tree(fiji)) == (2, before)
    assert f"Another installation into {fiji} is running, or one was interrupted" in outcome.err
    assert f"delete the folder {fiji / '.cellseg-installing'}" in outcome.err
