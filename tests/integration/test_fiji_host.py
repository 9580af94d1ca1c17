"""The hosts that the Fiji scripts are tried in: what scripts and macros meet there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.fiji_host import (
    ABORTED,
    MINI,
    REAL,
    AskedError,
    ImageJ,
    lay_out,
    mini_fiji,
    require_host,
)
from tools import fiji_host

PROBE = """\
#@ String (value="nuclei", persist=false) model
#@ Double (value=30, persist=false) diameter_px
#@ Boolean (value=false, persist=false) add_rois
#@ ImagePlus (persist=false) image
#@output String seen
from ij import Macro
seen = "%s %s %s %s" % (model, diameter_px, add_rois, image.getTitle())
print seen, Macro.getOptions()
"""
# Shows a new image, as a script with a result does. The pooled thread keeps it as its current one
# for the next script that runs there, unless the script makes it forget.
SHOWING = """\
#@ ImagePlus (persist=false) image
from ij import IJ, WindowManager
print "got <%s>" % image.getTitle()
IJ.createImage("result of " + image.getTitle(), "8-bit", 8, 8, 1).show()
"""
FORGETTING = SHOWING + "WindowManager.setTempCurrentImage(None)\n"


@pytest.fixture(scope="module", params=[MINI, REAL])
def fiji(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ImageJ]:
    folder = lay_out(tmp_path_factory.mktemp("fiji") / "Fiji with spaces é.app")
    scripts = folder / "scripts" / "Plugins" / "CellSeg"
    for name, text in (
        ("Probe_It.py", PROBE),
        ("Show_It.py", SHOWING),
        ("Forget_It.py", FORGETTING),
        ("Plain.py", PROBE),
    ):
        (scripts / name).write_text(text, encoding="utf-8")
    with mini_fiji(folder, kind=request.param) as running:
        yield running


def said(fiji: ImageJ, macro: str) -> str:
    before = len(fiji.printed)
    fiji.macro(macro)
    return fiji.printed[before:]


def test_options_of_a_macro_reach_the_script(fiji: ImageJ) -> None:
    text = said(
        fiji,
        'newImage("two words", "8-bit", 8, 8, 1);'
        'run("Probe It", "model=[my model] diameter_px=12.5 add_rois=true"); close("*");',
    )
    assert "my model 12.5 True two words model=[my model]" in text


def test_what_a_macro_leaves_out_has_its_default(fiji: ImageJ) -> None:
    text = said(fiji, 'newImage("a", "8-bit", 8, 8, 1); run("Probe It", "diameter_px=1");')
    assert "nuclei 1.0 False a" in text


def test_a_script_runs_without_a_macro(fiji: ImageJ) -> None:
    fiji.macro('newImage("b", "8-bit", 8, 8, 1);')
    assert fiji.script("Probe_It.py", model="m", add_rois=True)["seen"] == "m 30.0 True b"


def test_only_names_with_an_underscore_are_commands(fiji: ImageJ) -> None:
    assert fiji.macro('run("Plain", "model=a");') == ABORTED
    assert "Unrecognized command" in fiji.printed


def test_an_error_in_a_macro_is_told(fiji: ImageJ) -> None:
    assert fiji.macro('exit("enough");') == ABORTED
    assert fiji.macro('return "done";') == "done"


def test_an_error_in_python_is_told(fiji: ImageJ) -> None:
    with pytest.raises(AskedError, match="ZeroDivisionError"):
        fiji.python("1 / 0")


def test_a_script_without_an_image_is_not_run(fiji: ImageJ) -> None:
    fiji.macro('close("*");')
    with pytest.raises(AskedError, match="image"):
        fiji.script("Probe_It.py")


def titles_in_a_loop(fiji: ImageJ, command: str) -> list[str]:
    """Give the titles that a script got in a loop over four images."""
    text = said(
        fiji,
        'close("*"); for (i = 0; i < 4; i++) {'
        '  newImage("image " + i, "8-bit", 8 + i, 8, 1);'
        f'  run("{command}"); close("*"); }}',
    )
    return [line[5:-1] for line in text.splitlines() if line.startswith("got <")]


def test_the_host_has_the_trap_of_the_stale_image(fiji: ImageJ) -> None:
    wanted = [f"image {i}" for i in range(4)]
    assert titles_in_a_loop(fiji, "Forget It") == wanted
    assert titles_in_a_loop(fiji, "Show It") != wanted


def test_two_requests_run_side_by_side(fiji: ImageJ) -> None:
    waiting = fiji.start_macro('while (!isOpen("signal")) wait(10); return "seen";')
    assert not waiting.done.is_set()
    fiji.macro('newImage("signal", "8-bit", 8, 8, 1);')
    assert fiji.wait(waiting)["result"] == "seen"


# --- the tool that builds it -----------------------------------------------------------------


def test_the_shipped_jar_is_built_from_the_present_sources() -> None:
    shipped = fiji_host.shipped_digest(fiji_host.ADAPTER_JAR)
    assert shipped == fiji_host.adapter_digest(), "run: python tools/fiji_host.py jar"


def test_the_jar_is_the_same_each_time(tmp_path: Path) -> None:
    jars = require_host() / "jars"
    first = fiji_host.write_adapter_jar(jars, tmp_path / "first.jar")
    second = fiji_host.write_adapter_jar(jars, tmp_path / "second.jar")
    assert first.read_bytes() == second.read_bytes()


def test_the_jar_has_a_command_for_each_script() -> None:
    config = (fiji_host.ADAPTER_SOURCES / fiji_host.ADAPTER_CONFIG).read_text(encoding="utf-8")
    commands = {
        line.split('"')[1]: line.split('"')[3]
        for line in config.splitlines()
        if "ScriptCommand" in line
    }
    scripts = sorted((fiji_host.ROOT / "fiji_scripts").glob("*.py"))
    assert commands == {path.stem.replace("_", " "): path.name for path in scripts}


def test_without_java_or_maven_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fiji_host, "HOST", tmp_path / "host")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(fiji_host.ProblemError, match="apt-get install openjdk-17"):
        fiji_host.build()
    assert not list(tmp_path.iterdir())


def test_a_host_of_other_sources_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fiji_host, "HOST", tmp_path)
    assert fiji_host.find_host() is None
    for fingerprint, found in ((fiji_host.fingerprint(), tmp_path), ("older", None)):
        text = json.dumps({"fingerprint": fingerprint})
        (tmp_path / fiji_host.MARKER).write_text(text, encoding="utf-8")
        assert fiji_host.find_host() == found
