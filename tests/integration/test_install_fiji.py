"""What was installed into a Fiji runs there, and goes again without a trace."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import tifffile

from cellseg_engine.hosts import run_fiji
from tests.conftest import ROOT
from tests.integration.cli import Cli
from tests.integration.fiji_host import mini_fiji, require_host
from tests.integration.install_host import make_fiji, tree
from tests.integration.service import place

DEMO = ROOT / "cellseg_engine/demo/sparse_small_nuclei_e4ae1ceddb27.tif"


@pytest.mark.slow
def test_the_installed_script_segments_in_fiji(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(capfd)
    app = make_fiji(tmp_path)
    before = tree(app)
    assert cli("install", "fiji", app, "--no-check").code == 0
    assert json.loads((app / "jars/Lib/cellseg_jy/engine.json").read_bytes())["engine_python"]
    with place(tmp_path / "engine") as there:
        environment = there.environment()
        # Only the installed file says where the engine is.
        del environment["CELLSEG_ENGINE_PYTHON"], environment["PYTHONPATH"]
        with mini_fiji(app, environment) as fiji:
            answer = fiji.macro(
                f'open("{DEMO}"); run("Segment Cells", "diameter_px=0"); '
                f'selectImage("{DEMO.name}-labels"); getStatistics(area, mean, low, high); '
                "return toString(high);"
            )
        found = there.engine().segment(tifffile.imread(DEMO), "YX").n_objects
    assert answer == str(found)
    assert found > 5
    assert list(app.rglob("*$py.class"))  # Jython has left its compiled copies
    assert cli("uninstall", "fiji", app).code == 0
    assert tree(app) == before


@pytest.mark.slow
def test_the_check_has_fiji_run_the_installed_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_runnable_fiji(tmp_path)
    cli = Cli(capfd)
    with place(tmp_path / "engine") as there:
        monkeypatch.setenv("CELLSEG_RUNTIME", str(there.runtime))
        monkeypatch.delenv("CELLSEG_ENGINE_PYTHON", raising=False)
        outcome = cli("install", "fiji", app)
        assert (outcome.code, outcome.err) == (0, "")
        assert "Check: Fiji, without its window, ran Segment Cells on it" in outcome.out
        script = app / "jars/Lib/cellseg_jy/segmenting.py"
        script.write_text("raise ValueError('broken on purpose')\n")
        failure = run_fiji.run_command(app, DEMO)
    assert failure.startswith("it gave no labels: ")


def make_runnable_fiji(tmp_path: Path) -> Path:
    """Give a folder with the jars of the mini-Fiji, which is started as a Fiji is."""
    host = require_host()
    jars = tmp_path / "Fiji with jars" / "jars"
    jars.mkdir(parents=True)
    (jars.parent / "plugins").mkdir()
    for jar in (host / "jars").glob("*.jar"):
        shutil.copy(jar, jars)  # no links: Jython looks for Lib where its own jar really lies
    with zipfile.ZipFile(jars / "imagej-2.0.0.jar", "w") as archive:
        for path in sorted((host / "minifiji").rglob("*")):
            archive.write(path, path.relative_to(host / "minifiji"))
    return jars.parent
