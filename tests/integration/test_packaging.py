"""What a wheel carries, and that the source archive builds the same one."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from email.message import Message
from pathlib import Path, PurePosixPath

import pytest

import cellseg_engine
from cellseg_engine.errors import MissingDependencyError
from cellseg_engine.hosts import assets
from cellseg_engine.zoo.citations import METHOD
from tests.conftest import ROOT

LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "demo_output", "build", "dist", "benchmarks")


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a wheel or sdist without the network and give its path."""
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "build", f"--{kind}", "--no-isolation"),
            *("--outdir", str(target), str(source)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (built,) = target.iterdir()
    return built


def contents(wheel: Path) -> dict[str, int]:
    """Give the files of a wheel with their checksums, without the list of files itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {e.filename: e.CRC for e in archive.infolist() if not e.filename.endswith("/RECORD")}


def tops(files: Iterable[str]) -> set[str]:
    return {PurePosixPath(name).parts[0] for name in files}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the source tree, with one file of code in each folder that is to be packaged."""
    tree = tmp_path_factory.mktemp("source") / "tree"
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    shutil.copy(ROOT / ".gitignore", tree)
    for package in ("cellseg_client", "cellseg_imagej", "cellseg_service"):
        (tree / "bridges" / package).mkdir(exist_ok=True)
        (tree / "bridges" / package / "probe.py").write_text("")
    (tree / "fiji_scripts/Probe_Cells.py").write_text("print 'Jython 2.7'\n")
    (tree / "cellprofiler_modules/_cellseg").mkdir(exist_ok=True)
    (tree / "cellprofiler_modules/_cellseg/probe.py").write_text("")
    cache = tree / "cellseg_engine/__pycache__"
    cache.mkdir()
    (cache / "probe.nbi").write_text("")
    return tree


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_carries_what_is_needed(wheel: Path) -> None:
    files = set(contents(wheel))
    dist_info = f"cellseg_engine-{cellseg_engine.__version__}.dist-info"
    assert files >= {
        "cellseg_engine/__init__.py",
        "cellseg_engine/py.typed",
        "cellseg_engine/zoo/models.toml",
        "cellseg_engine/zoo/styles.npz",
        "cellseg_engine/zoo/weights/nuclei.safetensors",
        "cellseg_engine/demo/README.md",
        "cellseg_engine/hosts/data/fiji_scripts/README.md",
        "cellseg_engine/hosts/data/fiji_scripts/Probe_Cells.py",
        "cellseg_engine/hosts/data/cellprofiler_modules/README.md",
        "cellseg_engine/hosts/data/cellprofiler_modules/_cellseg/probe.py",
        "cellseg_client/probe.py",
        "cellseg_imagej/probe.py",
        "cellseg_service/probe.py",
        f"{dist_info}/licenses/LICENSE",
        f"{dist_info}/licenses/NOTICE.md",
    }
    assert len([name for name in files if name.startswith("cellseg_engine/demo/")]) == 5
    packages = {"cellseg_engine", "cellseg_client", "cellseg_imagej", "cellseg_service"}
    assert tops(files) == {*packages, dist_info}


def test_the_wheel_carries_no_caches(wheel: Path) -> None:
    assert [name for name in contents(wheel) if "__pycache__" in name] == []


def test_every_file_of_the_engine_is_in_the_wheel(tree: Path, wheel: Path) -> None:
    engine = tree / "cellseg_engine"
    ours = {path.relative_to(tree).as_posix() for path in engine.rglob("*") if path.is_file()}
    assert {name for name in ours if "__pycache__" not in name} <= set(contents(wheel))


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_metadata(wheel: Path) -> None:
    fields = metadata(wheel)
    assert fields["Name"] == "cellseg-engine"
    assert fields["Version"] == cellseg_engine.__version__
    assert fields["Requires-Python"] == ">=3.11"
    assert fields["License-Expression"] == "BSD-3-Clause"
    assert set(fields.get_all("Provides-Extra", [])) == {
        "dev",
        "export",
        "imagej",
        "openvino",
        "service",
        "train",
        "zoo",
    }


def test_the_source_archive_builds_the_same_wheel(tree: Path, wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", tree, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        # as filter="data", which Python knows since 3.11.4
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert (unpacked / "tests/conftest.py").is_file()
    assert (unpacked / "tools/bootstrap.py").is_file()
    assert not (unpacked / ".venv").exists()
    assert contents(build("wheel", unpacked, tmp_path / "wheel")) == contents(wheel)


@pytest.mark.parametrize("name", ["fiji_scripts", "cellprofiler_modules", "cellseg_client"])
def test_an_unpacked_wheel_finds_what_hosts_get(
    wheel: Path, tmp_path: Path, name: assets.AssetName
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = f"from cellseg_engine.hosts.assets import asset_folder; print(asset_folder({name!r}))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    folder = Path(answer.stdout.strip())
    assert folder.is_relative_to(tmp_path)
    assert [path for path in folder.rglob("*.py") if path.is_file()]


def test_a_source_tree_finds_what_hosts_get() -> None:
    assert assets.asset_folder("fiji_scripts") == ROOT / "fiji_scripts"
    assert assets.asset_folder("cellprofiler_modules") == ROOT / "cellprofiler_modules"


def test_an_incomplete_installation_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "_PACKAGE", tmp_path / "cellseg_engine")
    with pytest.raises(MissingDependencyError, match="has no cellseg_client") as caught:
        assets.asset_folder("cellseg_client")
    assert "pip install --force-reinstall --no-deps cellseg-engine" in caught.value.hint
    assert isinstance(caught.value, ImportError)


def test_demo_images_and_weights_are_named_in_the_notice() -> None:
    notice = (ROOT / "NOTICE.md").read_text(encoding="utf-8")
    images = list((ROOT / "cellseg_engine/demo").glob("*.tif"))
    weights = list((ROOT / "cellseg_engine/zoo/weights").glob("*.safetensors"))
    assert len(images) == 4
    assert weights
    assert [path.name for path in [*images, *weights] if path.name not in notice] == []


def test_the_citation_is_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {cellseg_engine.__version__}\n" in citation
    assert METHOD.doi in citation


def test_dependencies_are_named_in_the_notice(wheel: Path) -> None:
    notice = (ROOT / "NOTICE.md").read_text(encoding="utf-8")
    requirements = metadata(wheel).get_all("Requires-Dist", [])
    names = {
        r.split(";")[0].split("[")[0].split(">")[0].split("<")[0].strip() for r in requirements
    }
    assert len(names) > 20
    assert [name for name in sorted(names) if name not in notice] == []
