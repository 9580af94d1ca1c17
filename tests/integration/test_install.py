"""Installing into CellProfiler and Fiji, updating and removing: what is left behind each time."""

from __future__ import annotations

import json
import py_compile
import sys
from pathlib import Path

import pytest

from cellseg_engine._version import __version__
from cellseg_engine.hosts import installation
from cellseg_engine.hosts.record import hash_bytes
from tests.integration.cli import Cli
from tests.integration.install_host import (
    CLIENT,
    Assets,
    make_assets,
    make_fiji,
    make_plugins,
    read_only,
    tree,
)

HOSTS = ("cellprofiler", "fiji")


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assets:
    return make_assets(tmp_path, monkeypatch)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    return make_plugins(tmp_path)


@pytest.fixture
def fiji(tmp_path: Path) -> Path:
    return make_fiji(tmp_path)


def place(host: str, plugins: Path, fiji: Path) -> tuple[Path, list[object]]:
    """Give the folder of a host and the arguments that name it."""
    if host == "fiji":
        return fiji, ["fiji", fiji]
    return plugins, ["cellprofiler", "--plugins-directory", plugins]


def test_cellprofiler_gets_its_files(cli: Cli, assets: Assets, plugins: Path) -> None:
    outcome = cli("install", "cellprofiler", "--plugins-directory", plugins, "--no-check")
    assert outcome.code == 0, outcome.err
    client = [f"_cellseg/cellseg_client/{path.name}" for path in CLIENT.glob("*.py")]
    files = {
        "identifycells.py",
        "_cellseg/__init__.py",
        "_cellseg/objects.py",
        "_cellseg/help/texts.txt",
        "_cellseg/engine.json",
        *client,
    }
    folders = {"_cellseg", "_cellseg/help", "_cellseg/cellseg_client"}
    found = tree(plugins)
    assert set(found) == {"other.py", "_cellseg/installed.json", *files, *folders}
    assert json.loads(found["_cellseg/engine.json"] or b"") == {
        "engine_python": sys.executable,
        "version": __version__,
    }
    record = json.loads(found["_cellseg/installed.json"] or b"")
    assert record["files"] == {name: hash_bytes(found[name] or b"") for name in files}
    assert set(record["folders"]) == folders
    assert f"Engine: {sys.executable}" in outcome.out
    assert all(f"  write   {name}\n" in outcome.out for name in files)
    assert outcome.out.splitlines()[-1] == (
        "Restart CellProfiler, then: Add module > Object Processing > IdentifyCells."
    )


def test_fiji_gets_its_files(cli: Cli, assets: Assets, fiji: Path) -> None:
    before = set(tree(fiji))
    outcome = cli("install", "fiji", fiji, "--no-check")
    assert outcome.code == 0, outcome.err
    assert set(tree(fiji)) - before == {
        "cellseg-installed.json",
        "scripts/Plugins/CellSeg",
        "scripts/Plugins/CellSeg/Segment_Cells.py",
        "jars/Lib",
        "jars/Lib/cellseg_jy",
        "jars/Lib/cellseg_jy/__init__.py",
        "jars/Lib/cellseg_jy/wire.py",
        "jars/Lib/cellseg_jy/engine.json",
    }
    record = json.loads((fiji / "cellseg-installed.json").read_bytes())
    assert record["folders"] == ["jars/Lib", "jars/Lib/cellseg_jy", "scripts/Plugins/CellSeg"]
    assert outcome.out.endswith("Restart Fiji, then: Plugins > CellSeg > Segment Cells.\n")


@pytest.mark.parametrize("host", HOSTS)
def test_what_was_installed_can_be_removed(
    cli: Cli, assets: Assets, plugins: Path, fiji: Path, host: str
) -> None:
    folder, arguments = place(host, plugins, fiji)
    before = tree(folder)
    assert cli("install", *arguments, "--no-check").code == 0
    outcome = cli("uninstall", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert tree(folder) == before


@pytest.mark.parametrize("host", HOSTS)
def test_a_rehearsal_changes_nothing(
    cli: Cli, assets: Assets, plugins: Path, fiji: Path, host: str
) -> None:
    folder, arguments = place(host, plugins, fiji)
    before = tree(folder)
    rehearsal = cli("install", *arguments, "--dry-run")
    assert (rehearsal.code, tree(folder)) == (0, before)
    real = cli("install", *arguments, "--no-check")
    assert written(rehearsal.out) == written(real.out) != []

    installed = tree(folder)
    rehearsal = cli("uninstall", *arguments, "--dry-run")
    assert (rehearsal.code, tree(folder)) == (0, installed)
    assert rehearsal.out.endswith("Nothing was changed (--dry-run).\n")


def written(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("  write")]


def test_installing_again_changes_nothing(cli: Cli, assets: Assets, fiji: Path) -> None:
    cli("install", "fiji", fiji, "--no-check")
    before = tree(fiji)
    outcome = cli("install", "fiji", fiji, "--no-check")
    assert tree(fiji) == before
    assert written(outcome.out) == []
    assert "  4 files are there already, unchanged" in outcome.out


def test_an_update_replaces_adds_and_removes(cli: Cli, assets: Assets, plugins: Path) -> None:
    arguments = ("cellprofiler", "--plugins-directory", plugins, "--no-check")
    cli("install", *arguments)
    assets.write("cellprofiler_modules/_cellseg/objects.py", "objects = 2\n")
    assets.write("cellprofiler_modules/_cellseg/new/part.py", "part = 1\n")
    assets.remove("cellprofiler_modules/_cellseg/help/texts.txt")
    outcome = cli("install", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    found = tree(plugins)
    assert found["_cellseg/objects.py"] == b"objects = 2\n"
    assert found["_cellseg/new/part.py"] == b"part = 1\n"
    assert "_cellseg/help" not in found
    assert "  remove  _cellseg/help/texts.txt\n" in outcome.out
    assert cli("uninstall", *arguments[:3]).code == 0
    assert list(tree(plugins)) == ["other.py"]


def test_what_the_user_changed_is_kept_beside(cli: Cli, assets: Assets, fiji: Path) -> None:
    cli("install", "fiji", fiji, "--no-check")
    script = fiji / "scripts/Plugins/CellSeg/Segment_Cells.py"
    wire = fiji / "jars/Lib/cellseg_jy/wire.py"
    script.write_text("print 'mine'\n")
    wire.write_text("wire = 'mine'\n")
    assets.remove("fiji_scripts/cellseg_jy/wire.py")
    outcome = cli("install", "fiji", fiji, "--no-check")
    assert outcome.code == 0
    for name in ("scripts/Plugins/CellSeg/Segment_Cells.py", "jars/Lib/cellseg_jy/wire.py"):
        assert f"Warning: you changed {name}; yours is kept as {name}.saved.\n" in outcome.err
    assert script.read_text() == "print 'segment'\n"
    assert script.with_name("Segment_Cells.py.saved").read_text() == "print 'mine'\n"
    assert wire.with_name("wire.py.saved").read_text() == "wire = 'mine'\n"
    assert not wire.exists()

    script.write_text("print 'mine again'\n")
    cli("install", "fiji", fiji, "--no-check")
    assert script.with_name("Segment_Cells.py.saved").read_text() == "print 'mine'\n"
    assert script.with_name("Segment_Cells.py.saved2").read_text() == "print 'mine again'\n"


def test_compiled_copies_go_with_their_files(assets: Assets, fiji: Path, plugins: Path) -> None:
    installation.install(plugins, "cellprofiler")
    before = set(tree(plugins))
    py_compile.compile(str(plugins / "_cellseg/objects.py"))
    py_compile.compile(str(plugins / "identifycells.py"))
    py_compile.compile(str(plugins / "other.py"))
    assert len(set(tree(plugins)) - before) == 5  # three files in two folders
    installation.uninstall(plugins, "cellprofiler")
    left = [name for name in tree(plugins) if not name.startswith("__pycache__/other.")]
    assert left == ["__pycache__", "other.py"]

    installation.install(fiji, "fiji")
    compiled = fiji / "jars/Lib/cellseg_jy/wire$py.class"
    compiled.write_bytes(b"Jython would run this without its source")
    assets.remove("fiji_scripts/cellseg_jy/wire.py")
    installation.install(fiji, "fiji")
    assert not compiled.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "same file"])
@pytest.mark.parametrize("name", ["identifycells.py", "_cellseg/objects.py"])
def test_files_of_others_are_never_overwritten(
    cli: Cli, assets: Assets, plugins: Path, name: str, kind: str
) -> None:
    path = plugins / name
    path.parent.mkdir(exist_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(plugins / "nowhere")
    else:
        own = (assets.folder / "cellprofiler_modules" / name).read_text()
        path.write_text(own if kind == "same file" else "mine = 1\n")
    before = tree(plugins)
    outcome = cli("install", "cellprofiler", "--plugins-directory", plugins, "--no-check")
    assert outcome.code == 2
    assert outcome.err == (
        f"Error: {path} is there already and was not installed by CellSeg, so nothing was "
        "written. Move it away, then install again.\n"
    )
    assert tree(plugins) == before
    assert path.is_symlink() == (kind == "link")


def test_a_file_in_place_of_a_folder(cli: Cli, assets: Assets, plugins: Path) -> None:
    (plugins / "_cellseg").write_text("mine\n")
    before = tree(plugins)
    outcome = cli("install", "cellprofiler", "--plugins-directory", plugins)
    assert (outcome.code, tree(plugins)) == (2, before)
    assert "_cellseg is in the way: a folder is needed there, so nothing was written" in outcome.err


# --- removing ------------------------------------------------------------------------------------


def test_removing_keeps_what_is_not_ours(cli: Cli, assets: Assets, plugins: Path) -> None:
    arguments = ("cellprofiler", "--plugins-directory", plugins)
    cli("install", *arguments, "--no-check")
    (plugins / "_cellseg/objects.py").write_text("objects = 'mine'\n")
    (plugins / "_cellseg/help/notes.txt").write_text("mine\n")
    (plugins / "identifycells.py").unlink()
    outcome = cli("uninstall", *arguments)
    assert outcome.code == 0
    assert outcome.err == (
        "Warning: _cellseg/objects.py was changed since it was installed, so it stays.\n"
    )
    assert list(tree(plugins)) == [
        "_cellseg",
        "_cellseg/help",
        "_cellseg/help/notes.txt",
        "_cellseg/objects.py",
        "other.py",
    ]


@pytest.mark.parametrize("host", HOSTS)
def test_without_a_record_nothing_is_touched(
    cli: Cli, assets: Assets, plugins: Path, fiji: Path, host: str
) -> None:
    folder, arguments = place(host, plugins, fiji)
    before = tree(folder)
    outcome = cli("uninstall", *arguments)
    assert (outcome.code, tree(folder)) == (2, before)
    assert f"CellSeg is not installed in {folder}: there is no " in outcome.err
    assert "Nothing was touched." in outcome.err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"host": "cellprofiler", "version": "1", "files": [], "folders": []}',
        '{"host": "x", "version": "1", "files": {"a": "0", "../other.py": "0"}, "folders": []}',
        '{"host": "cellprofiler", "version": "1", "files": {}, "folders": ["/tmp"]}',
    ],
)
def test_a_damaged_record_touches_nothing(
    cli: Cli, assets: Assets, plugins: Path, text: str
) -> None:
    arguments = ("cellprofiler", "--plugins-directory", plugins)
    cli("install", *arguments, "--no-check")
    (plugins / "_cellseg/installed.json").write_text(text)
    before = tree(plugins)
    for command in ("install", "uninstall"):
        outcome = cli(command, *arguments)
        assert (outcome.code, tree(plugins)) == (2, before)
        assert "installed.json, is damaged, so nothing was touched" in outcome.err


def test_removing_can_be_tried_again(cli: Cli, assets: Assets, fiji: Path) -> None:
    before = tree(fiji)
    cli("install", "fiji", fiji, "--no-check")
    with read_only(fiji / "scripts"):
        outcome = cli("uninstall", "fiji", fiji)
    assert outcome.code == 2
    assert "Segment_Cells.py cannot be removed: Read-only file system. Close Fiji" in outcome.err
    assert cli("uninstall", "fiji", fiji).code == 0
    assert tree(fiji) == before


# --- which folder --------------------------------------------------------------------------------


def test_the_plugins_directory_of_the_preferences(
    cli: Cli, assets: Assets, plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform in ("win32", "darwin"):
        pytest.skip("writes the preferences of CellProfiler for Linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for command in ("install", "uninstall"):
        outcome = cli(command, "cellprofiler")
        assert outcome.code == 2
        assert "The preferences of CellProfiler name no plugins directory" in outcome.err
        assert "File > Preferences > CellProfiler plugins directory" in outcome.err
    (tmp_path / "config").mkdir()
    preferences = tmp_path / "config/CellProfilerLocal.cfg"
    preferences.write_text(f"PreferencesVersion=1\nPluginDirectoryCP4={plugins}\n", "utf-8")
    assert cli("install", "cellprofiler", "--no-check").code == 0
    assert (plugins / "identifycells.py").exists()
    assert cli("uninstall", "cellprofiler").code == 0
    assert list(tree(plugins)) == ["other.py"]

    preferences.write_text(f"PluginDirectoryCP4={tmp_path / 'gone'}\n", "utf-8")
    outcome = cli("install", "cellprofiler")
    assert outcome.code == 2
    assert f"There is no folder {tmp_path / 'gone'}" in outcome.err
    assert not (tmp_path / "gone").exists()


def test_a_folder_that_does_not_exist_is_not_made(cli: Cli, assets: Assets, tmp_path: Path) -> None:
    for arguments in (
        ("cellprofiler", "--plugins-directory", tmp_path / "x"),
        ("fiji", tmp_path / "x"),
    ):
        outcome = cli("install", *arguments)
        assert outcome.code == 2
        assert f"There is no folder {tmp_path / 'x'}" in outcome.err
    assert not (tmp_path / "x").exists()


def test_only_fiji_and_imagej_are_taken(cli: Cli, assets: Assets, fiji: Path) -> None:
    wrong = fiji.parent / "Downloads"
    (wrong / "inner").mkdir(parents=True)
    outcome = cli("install", "fiji", wrong)
    assert (outcome.code, list(tree(wrong))) == (2, ["inner"])
    assert f"{wrong} is no folder of Fiji" in outcome.err
    assert "ImageJ Properties" in outcome.err

    for near in (fiji.parent, fiji / "plugins"):
        outcome = cli("install", "fiji", near)
        assert (outcome.code, f"Did you mean {fiji}?" in outcome.err) == (2, True)

    imagej = wrong / "ImageJ"
    (imagej / "plugins").mkdir(parents=True)
    assert cli("install", "fiji", imagej).code == 2


def test_a_plain_imagej_gets_a_jar_and_needs_jython(
    cli: Cli, assets: Assets, tmp_path: Path
) -> None:
    imagej = tmp_path / "ImageJ"
    (imagej / "plugins/jars").mkdir(parents=True)
    (imagej / "ij.jar").write_bytes(b"")
    before = tree(imagej)
    outcome = cli("install", "fiji", imagej, "--no-check")
    assert outcome.code == 0
    assert (imagej / "plugins/CellSeg_.jar").read_text() == "a jar\n"
    assert (imagej / "scripts/Plugins/CellSeg/Segment_Cells.py").exists()
    assert "Source.java" not in "".join(tree(imagej))
    assert outcome.out.endswith("Restart ImageJ, then: Plugins > CellSeg > Segment Cells.\n")
    assert outcome.err.startswith("Note: There is no Jython in it")
    (imagej / "plugins/jars/jython-slim-2.7.4.jar").write_bytes(b"")
    assert cli("install", "fiji", imagej, "--no-check").err == ""
    (imagej / "plugins/jars/jython-slim-2.7.4.jar").unlink()
    assert cli("uninstall", "fiji", imagej).code == 0
    assert tree(imagej) == before


def test_an_engine_without_the_files_says_so(cli: Cli, assets: Assets, fiji: Path) -> None:
    assets.remove("fiji_scripts/Segment_Cells.py")
    before = tree(fiji)
    outcome = cli("install", "fiji", fiji)
    assert (outcome.code, tree(fiji)) == (2, before)
    assert "This installation of CellSeg Bridges has no files for Fiji" in outcome.err
