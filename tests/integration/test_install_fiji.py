"""What was installed into a Fiji runs there, and goes again without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tifffile

from tests.conftest import ROOT
from tests.integration.cli import Cli
from tests.integration.fiji_host import mini_fiji
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
