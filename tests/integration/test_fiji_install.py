"""Install Engine: a real environment is made, tried, used, updated and removed again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.integration.fiji_host import (
    ABORTED,
    ImageJ,
    lay_out,
    lay_out_imagej,
    mini_fiji,
    plain_imagej,
    virtual_display,
)
from tests.integration.fiji_screen import click_button, take_picture, wait_for_window
from tests.integration.service import FAKE, START_S, ask, place, segment_body, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in Python is a script")

DEMO = ROOT / "cellseg_engine" / "demo" / "dense_nuclei_4d2cff9a0c8d.tif"
SITE = sysconfig.get_path("purelib")
VERSION_FOLDER = f"python{sys.version_info[0]}.{sys.version_info[1]}"
# A Python whose new environments see the packages of this one, but not the checkout: what is
# installed is the wheel alone, and nothing is downloaded.
PYTHON = f"""\
#!/bin/sh
"{sys.executable}" "$@" || exit $?
if [ "$1" = -m ] && [ "$2" = venv ]; then
    echo "{SITE}" > "$3/lib/{VERSION_FOLDER}/site-packages/packages-of-the-tests.pth"
fi
"""
WINDOW = "Install CellSeg Engine"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel é")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "-w", str(folder), str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture
def python(tmp_path: Path) -> Path:
    script = tmp_path / "python of the tests"
    script.write_text(PYTHON, encoding="utf-8")
    script.chmod(0o755)
    return script


class Desk:
    """A Fiji without an engine, and the user's data folder."""

    def __init__(self, fiji: ImageJ, data: Path) -> None:
        self.fiji = fiji
        self.data = data / "cellseg-bridges"
        self.environment = self.data / "fiji-engine"
        self.config = fiji.folder / "jars" / "Lib" / "cellseg_jy" / "engine.json"

    def run(self, **values: object) -> str | None:
        options = " ".join(f"{name}=[{value}]" for name, value in values.items())
        return self.fiji.macro(f'run("Install Engine", "{options}");')

    def segment(self) -> str | None:
        """Segment an image; gives the number of objects, as text."""
        return self.fiji.macro(
            f'close("*"); open("{DEMO}"); run("Segment Cells", "diameter_px=28");'
            f'selectImage("{DEMO.name}-labels"); getStatistics(area, mean, min, max);'
            'return "" + max;'
        )


@contextmanager
def desk(folder: Path, **variables: str) -> Iterator[Desk]:
    data = folder / "user's data"
    with place(folder / "engine") as there:
        environment = there.environment(
            XDG_DATA_HOME=str(data), PIP_NO_DEPS="1", PIP_NO_INDEX="1", **variables
        )
        environment.pop("CELLSEG_ENGINE_PYTHON")
        environment.pop("PYTHONPATH")
        app = lay_out(folder / "Fiji é.app", engine_python=None)
        with mini_fiji(app, environment) as fiji:
            yield Desk(fiji, data)


def tree(folder: Path) -> dict[str, int]:
    """Give every file below a folder with the time of its last change."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in found}


@pytest.mark.slow
def test_install_use_update_and_remove(tmp_path: Path, wheel: Path, python: Path) -> None:
    with desk(tmp_path) as there:
        assert there.segment() == ABORTED
        assert "Install Engine" in there.fiji.printed

        assert there.run(action="install", package=wheel, python=python) is None
        config = json.loads(there.config.read_text(encoding="utf-8"))
        assert Path(config["engine_python"]) == there.environment / "bin" / "python"
        assert config["version"] in wheel.name
        assert int(there.segment() or 0) > 50
        first = (there.environment / "pyvenv.cfg").stat().st_mtime_ns

        # What fails leaves everything as it was, and the engine that runs goes on.
        before = tree(there.environment)
        assert there.run(action="update", package="no-such-package", python=python) == ABORTED
        assert "No matching distribution found for no-such-package." in there.fiji.printed
        assert tree(there.environment) == before
        assert json.loads(there.config.read_text(encoding="utf-8")) == config

        assert there.run(action="update", package=wheel, python=python) is None
        assert (there.environment / "pyvenv.cfg").stat().st_mtime_ns != first
        assert sorted(path.name for path in there.data.iterdir()) == [
            "fiji-engine",
            "fiji-install.log",
        ]

        # Also what fails in the last step, with the new environment already in its place.
        there.config.rename(there.config.with_name("kept.json"))
        (there.config / "not empty").mkdir(parents=True)
        before = tree(there.environment)
        assert there.run(action="update", package=wheel, python=python) == ABORTED
        assert "engine.json cannot be written" in there.fiji.printed
        assert tree(there.environment) == before
        (there.config / "not empty").rmdir()
        there.config.rmdir()
        there.config.with_name("kept.json").rename(there.config)
        assert int(there.segment() or 0) > 50

        other = there.data / "environment"  # of the installer for all hosts: not ours
        other.mkdir()
        assert there.run(action="remove") is None
        assert [path.name for path in there.data.iterdir()] == ["environment"]
        assert not there.config.exists()
        assert there.run(action="remove") == ABORTED
        assert "nothing was removed" in there.fiji.printed


def break_nothing(there: Desk) -> None:
    """Leave the desk as it is."""


def foreign_folder(there: Desk) -> None:
    there.environment.mkdir(parents=True)
    (there.environment / "thesis.txt").write_text("mine", encoding="utf-8")


def full_name(there: Desk) -> None:
    there.data.write_text("a file in the way", encoding="utf-8")


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("shared")) as there:
        yield there


@pytest.mark.parametrize(
    ("package", "given", "prepare", "sentence"),
    [
        ("missing.whl", "good", break_nothing, "There is no file missing.whl."),
        ("broken.whl", "good", break_nothing, "The engine could not be installed: "),
        ("", "old", break_nothing, "is no Python 3.11 or newer"),
        ("", "/nowhere/python", break_nothing, "is no Python 3.11 or newer"),
        ("", "no venv", break_nothing, "The environment could not be made: no room."),
        ("", "good", foreign_folder, "was not made by Install Engine: it is left alone."),
        ("", "good", full_name, "cannot be written"),
    ],
)
def test_what_goes_wrong_leaves_nothing(
    shared_desk: Desk,
    tmp_path: Path,
    python: Path,
    package: str,
    given: str,
    prepare: Callable[[Desk], None],
    sentence: str,
) -> None:
    if package == "broken.whl":
        broken = tmp_path / "cellseg_engine-0-py3-none-any.whl"
        broken.write_bytes(b"no archive")
        package = str(broken)
    stand_ins = {
        "good": str(python),
        "old": script(tmp_path / "old", 'echo "3 8"'),
        "no venv": script(
            tmp_path / "no venv", '[ "$1" = -I ] && echo "3 12" && exit; echo no room; exit 1'
        ),
    }
    data = shared_desk.data.parent
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    prepare(shared_desk)
    before, said = tree(data), len(shared_desk.fiji.printed)
    options = {"package": package, "python": stand_ins.get(given, given)}
    assert shared_desk.run(action="install", **options) == ABORTED
    assert sentence in shared_desk.fiji.printed[said:]
    assert not shared_desk.config.exists()
    left = tree(data)
    left.pop("cellseg-bridges/fiji-install.log", None)
    assert left == before


def test_an_engine_at_work_for_another_program_is_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "user's data"
    environment = data / "cellseg-bridges" / "fiji-engine"
    venv.create(environment, with_pip=False)
    packages = next(environment.glob("lib/python*/site-packages"))
    lines = [f"import site; site.addsitedir({SITE!r})", str(ROOT), str(ROOT / "bridges")]
    (packages / "of_this_checkout.pth").write_text("\n".join(lines), encoding="utf-8")
    (environment / "cellseg-engine-environment.json").write_text('{"version": "0"}')
    with place(tmp_path / "engine") as there:
        python = str(environment / "bin" / "python")
        variables = there.environment(XDG_DATA_HOME=str(data))
        command = [python, str(FAKE), "--background", *there.options]
        engine = subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL)
        there.processes.append(engine)
        wait_until(there.find, "the start", START_S)
        variables.pop("CELLSEG_ENGINE_PYTHON")
        with mini_fiji(lay_out(tmp_path / "Fiji.app", python), variables) as fiji:
            desk = Desk(fiji, data)
            np.save(Path(there.record()["exchange"]) / "a.npy", np.eye(64, dtype=np.uint8))
            slow = {"model": "slow", "iterations": 3000}
            body = segment_body("a.npy", settings=slow, client="CellProfiler 3")
            job = threading.Thread(target=ask, args=(there.find(), "POST", "/v1/segment", body))
            job.start()
            wait_until(lambda: ask(there.find(), "GET", "/v1/status")[1]["running"], "the job")
            before = tree(data)
            sentence = f"The engine (process {engine.pid}) segments for CellProfiler 3: nothing was"
            for values in ({"action": "remove"}, {"action": "update", "package": "new.whl"}):
                said = len(fiji.printed)
                assert desk.run(**values) == ABORTED
                assert sentence in fiji.printed[said:]
                assert tree(data) == before
                assert engine.poll() is None
            running = ask(there.find(), "GET", "/v1/status")[1]["running"]
            ask(there.find(), "DELETE", "/v1/jobs/" + running[0]["id"])
            job.join(20)
            wait_until(lambda: not ask(there.find(), "GET", "/v1/status")[1]["running"], "the end")
            assert desk.run(action="remove") is None, fiji.printed
            assert engine.wait(20) is not None
            assert not environment.exists()


def test_without_python_and_uv_it_says_what_to_get(tmp_path: Path) -> None:
    with desk(tmp_path, PATH=str(tmp_path)) as there:
        assert there.run(action="install") == ABORTED
        assert "has no Python 3.11 or newer, and no uv." in there.fiji.printed
        assert "Install Python from python.org" in there.fiji.printed
        assert not there.data.exists()


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_a_fiji_that_cannot_be_written_is_left_alone(tmp_path: Path, python: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    with desk(tmp_path) as there:
        there.config.parent.chmod(0o500)
        try:
            assert there.run(action="install", package="x", python=python) == ABORTED
        finally:
            there.config.parent.chmod(0o700)
        assert "could not be told of the engine" in there.fiji.printed
        assert not there.data.exists()


def test_uv_makes_the_environment_where_there_is_no_python(tmp_path: Path, wheel: Path) -> None:
    """The uv is a stand-in here: what is tested is how it is asked."""
    asked = tmp_path / "asked.txt"
    uv = tmp_path / "programs" / "uv"
    uv.parent.mkdir()
    script(uv, f'echo "$@" >> "{asked}"; echo error: no space left; exit 2')
    with desk(tmp_path, PATH=f"{uv.parent}") as there:
        assert there.run(action="install", package=wheel) == ABORTED
        assert "The environment could not be made: no space left." in there.fiji.printed
    assert asked.read_text(encoding="utf-8").startswith("venv --allow-existing --seed --python")


def test_the_window_shows_progress_and_cancels(tmp_path: Path, wheel: Path) -> None:
    slow = script(
        tmp_path / "slow",
        '[ "$1" = -I ] && echo "3 12" && exit\n'
        'for i in $(seq 400); do echo "step $i"; sleep 0.1; done; exit 1',
    )
    with place(tmp_path / "engine") as there, virtual_display() as display:
        environment = there.environment(XDG_DATA_HOME=str(tmp_path / "data"))
        app = lay_out_imagej(tmp_path / "ImageJ", engine_python=None)
        with plain_imagej(app, display, environment) as imagej:
            ticket = imagej.start_macro(
                f'run("Install Engine", "action=install package=[{wheel}] python=[{slow}]");'
            )
            wait_for_window(imagej, WINDOW)
            log = tmp_path / "data" / "cellseg-bridges" / "fiji-install.log"
            wait_until(lambda: log.exists() and "step 5" in log.read_text(), "some steps")
            take_picture(imagej, "fiji-installing", tmp_path, (WINDOW,))
            click_button(imagej, WINDOW, "Cancel")
            assert imagej.wait(ticket, START_S)["result"] == ABORTED
    assert not (tmp_path / "data" / "cellseg-bridges" / "fiji-engine.new").exists()
    assert not (tmp_path / "data" / "cellseg-bridges" / "fiji-engine").exists()
