"""The check of an installation by a real engine, and what the doctor says about hosts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile

from cellseg_engine._version import __version__
from cellseg_engine.hosts import check, examine, installation
from cellseg_engine.hosts.layouts import LAYOUTS
from tests.conftest import ROOT
from tests.integration.cli import Cli
from tests.integration.install_host import Assets, make_assets, make_fiji, make_plugins, tree
from tests.integration.service import Place, place

DEMO = ROOT / "cellseg_engine/demo/sparse_small_nuclei_e4ae1ceddb27.tif"


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assets:
    return make_assets(tmp_path, monkeypatch)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    return make_plugins(tmp_path)


@pytest.fixture
def fiji(tmp_path: Path) -> Path:
    return make_fiji(tmp_path)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give a place where engines are started by the installed clients."""
    with place(tmp_path_factory.mktemp("engine")) as there, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLSEG_RUNTIME", str(there.runtime))
        patch.setenv("CELLSEG_ENGINE_PYTHON", str(there.folder / "not this one"))
        patch.setenv("PYTHONPATH", str(there.folder / "nor what lies here"))
        yield there


def test_the_installed_client_segments_with_a_real_engine(
    cli: Cli, assets: Assets, there: Place, plugins: Path, fiji: Path
) -> None:
    outcome = cli("install", "cellprofiler", "--plugins-directory", plugins)
    assert (outcome.code, outcome.err) == (0, "")
    assert not [name for name in tree(plugins) if "__pycache__" in name]
    said = re.search(
        r"^Check: (\d+) objects in (\S+) after [\d.]+ s, with (.+)$", outcome.out, re.M
    )
    assert said is not None, outcome.out
    assert said[3] == str(plugins / "_cellseg/cellseg_client/__init__.py")
    engine = there.engine()
    assert said[2] == DEMO.name
    assert int(said[1]) == engine.segment(tifffile.imread(DEMO), "YX").n_objects > 5

    again = cli("install", "fiji", fiji)
    assert (again.code, again.err) == (0, "")
    assert f"Check: {said[1]} objects in {DEMO.name}" in again.out
    assert there.engine().pid == engine.pid


def test_a_failed_check_keeps_the_files(
    cli: Cli, assets: Assets, plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("CELLSEG_RUNTIME", str(tmp_path / "a file/runtime"))
    outcome = cli("install", "cellprofiler", "--plugins-directory", plugins)
    assert outcome.code == 1
    assert (plugins / "_cellseg/installed.json").exists()
    assert outcome.err.startswith(
        f"Error: the files are installed in {plugins}, but the check failed: "
    )
    assert outcome.err.endswith("Set CELLSEG_RUNTIME to a folder of yours.\n")
    assert cli("uninstall", "cellprofiler", "--plugins-directory", plugins).code == 0
    assert list(tree(plugins)) == ["other.py"]


def test_the_check_sees_what_is_wrong(
    assets: Assets, plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLSEG_RUNTIME", str(tmp_path / "runtime"))
    layout = LAYOUTS["cellprofiler"]
    installation.install(plugins, "cellprofiler")
    configuration = plugins / layout.configuration

    point_to(configuration, tmp_path / "gone/python")
    problem = check.check_installation(plugins, layout).problem
    assert f"The engine's Python cannot be started: {tmp_path / 'gone/python'}" in problem

    python = make_python(tmp_path / "bare")
    point_to(configuration, python)
    found = check.check_installation(plugins, layout)
    assert f"could not be started with {python} (exit code 1)" in found.problem
    assert found.hint.startswith("It has no engine: install one there, or set CELLSEG_ENGINE_")

    (plugins / "_cellseg/cellseg_client/connection.py").write_text("import nothing_of_that_name\n")
    problem = check.check_installation(plugins, layout).problem
    assert problem == (
        "The installed client does not run: ModuleNotFoundError: No module named "
        "'nothing_of_that_name'."
    )


def test_a_client_that_is_missing_is_not_replaced_by_another(
    assets: Assets, there: Place, plugins: Path
) -> None:
    """The Python that runs the check has a client of its own, which must not help out."""
    installation.install(plugins, "cellprofiler")
    for path in (plugins / "_cellseg/cellseg_client").iterdir():
        path.unlink()
    found = check.check_installation(plugins, LAYOUTS["cellprofiler"])
    assert re.match(r"The client that ran is .*, not the installed one\.", found.problem)


# --- the doctor ----------------------------------------------------------------------------------


def test_the_doctor_knows_no_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("FIJI_HOME", raising=False)
    findings = list(examine.examine_hosts(None, None))
    assert [(finding.what, finding.state) for finding in findings] == [
        ("CellProfiler", "note"),
        ("Fiji", "note"),
    ]
    assert "cellseg doctor --plugins-directory DIR" in findings[0].remedy
    (tmp_path / "CellProfilerLocal.cfg").write_text(f"PluginDirectoryCP4={tmp_path / 'gone'}\n")
    gone = next(examine.examine_hosts(None, None))
    assert (gone.state, str(tmp_path / "gone") in gone.detail) == ("note", True)
    named = next(examine.examine_hosts(tmp_path / "gone", None))
    assert (named.state, named.detail) == ("problem", f"there is no folder {tmp_path / 'gone'}")


def test_the_doctor_finds_both_hosts(
    cli: Cli, assets: Assets, plugins: Path, fiji: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIJI_HOME", str(fiji))
    outcome = cli("doctor", "--plugins-directory", plugins)
    assert outcome.code == 0, outcome.out
    assert f"note     CellProfiler: CellSeg is not installed in {plugins}\n" in outcome.out
    assert f"-> cellseg install cellprofiler --plugins-directory '{plugins}'\n" in outcome.out
    assert f"-> cellseg install fiji '{fiji}'\n" in outcome.out

    installation.install(plugins, "cellprofiler")
    installation.install(fiji, "fiji")
    (jython,) = fiji.glob("jars/jython*")
    jython.rename(fiji / "moved.jar")
    *_, last = examine.examine_hosts(plugins, None)
    assert (last.state, last.detail.startswith("There is no Jython in it")) == ("note", True)
    (fiji / "moved.jar").rename(jython)
    findings = list(examine.examine_hosts(plugins, None))
    assert [(finding.what, finding.state) for finding in findings] == [
        ("CellProfiler", "ok"),
        ("CellProfiler files", "ok"),
        ("CellProfiler engine", "ok"),
        ("Fiji", "ok"),
        ("Fiji files", "ok"),
        ("Fiji engine", "ok"),
    ]
    (wrong,) = [f for f in examine.examine_hosts(plugins, plugins) if f.what == "Fiji"]
    assert (wrong.state, "is no folder of Fiji" in wrong.detail) == ("problem", True)
    assert findings[2].detail == f"{sys.executable} has version {__version__} with the service"


def test_the_doctor_names_changed_and_missing_files(
    cli: Cli, assets: Assets, plugins: Path
) -> None:
    installation.install(plugins, "cellprofiler")
    (plugins / "identifycells.py").write_text("mine = 1\n")
    assert look(plugins)["CellProfiler files"] == (
        "note",
        "changed since they were installed: identifycells.py",
    )
    (plugins / "_cellseg/objects.py").unlink()
    outcome = cli("doctor", "--json", "--plugins-directory", plugins)
    assert outcome.code == 1
    (missing,) = [f for f in json.loads(outcome.out) if f["state"] == "problem"]
    assert missing["detail"] == "missing: _cellseg/objects.py"
    assert missing["remedy"].startswith("cellseg install cellprofiler --plugins-directory ")
    (plugins / "_cellseg/installed.json").write_text("{")
    assert look(plugins)["CellProfiler"][0] == "problem"


def test_the_doctor_names_another_version(assets: Assets, plugins: Path) -> None:
    installation.install(plugins, "cellprofiler")
    path = plugins / "_cellseg/installed.json"
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps({**record, "version": "0.0.1"}))
    state, detail = look(plugins)["CellProfiler"]
    assert state == "note"
    assert detail.endswith(f"is installed in {plugins}, this engine is {__version__}")
    assert detail.startswith("CellSeg 0.0.1 ")


def test_the_doctor_looks_at_the_engine_that_the_host_will_start(
    assets: Assets, plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a terminal sets for Python must not hide what that Python lacks.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'bridges'}")
    installation.install(plugins, "cellprofiler")
    configuration = plugins / "_cellseg/engine.json"

    point_to(configuration, tmp_path / "gone")
    assert look(plugins)["CellProfiler engine"] == (
        "problem",
        f"{tmp_path / 'gone'} is gone or does not run",
    )
    python = make_python(tmp_path / "bare")
    point_to(configuration, python)
    assert look(plugins)["CellProfiler engine"] == ("problem", f"{python} has no cellseg-engine")
    (finding,) = [f for f in examine.examine_hosts(plugins, None) if f.what.endswith("engine")]
    assert finding.remedy.startswith("cellseg install cellprofiler")
    assert finding.remedy.endswith("(to use this one)")

    packages = next((tmp_path / "bare").rglob("site-packages"))
    for name in ("cellseg_engine", "cellseg_service", "uvicorn"):
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text("raise SystemExit('imported')")
    assert look(plugins)["CellProfiler engine"] == (
        "problem",
        f"{python} lacks starlette, psutil for the service",
    )
    (finding,) = [f for f in examine.examine_hosts(plugins, None) if f.what.endswith("engine")]
    assert finding.remedy == f"{python} -m pip install 'cellseg-engine[service]'"

    configuration.write_text("[]")
    assert look(plugins)["CellProfiler engine"] == ("problem", f"{configuration} cannot be read")


def look(plugins: Path) -> dict[str, tuple[str, str]]:
    findings = examine.examine_host(plugins, "cellprofiler")
    return {finding.what: (finding.state, finding.detail) for finding in findings}


def point_to(configuration: Path, python: Path) -> None:
    configuration.write_text(json.dumps({"engine_python": str(python), "version": __version__}))


def make_python(folder: Path) -> Path:
    """Make an environment with nothing in it."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True)
    return next(path for path in folder.rglob("python*") if path.stem == "python")
