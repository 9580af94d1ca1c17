"""Hosts: what is read from CellProfiler's preferences, and which paths a record may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellseg_engine.hosts.cellprofiler import parse_preferences, preferences_files
from cellseg_engine.hosts.check import Check
from cellseg_engine.hosts.layouts import LAYOUTS
from cellseg_engine.hosts.record import _is_inside

# Lines that wxWidgets 3.2.2 wrote for CellProfiler 4.2.8's own preferences module under Linux, and
# what it read from them again.
WRITTEN = [
    ("PluginDirectoryCP4=/home/me/plugins", "/home/me/plugins"),
    ("PluginDirectoryCP4=/日本 語", "/日本 語"),
    (r'PluginDirectoryCP4=/jürgen/$HOME "in"s \\ end ', '/jürgen//home/me "in"s \\ end '),
    (r'PluginDirectoryCP4="\"/quoted start"', '"/quoted start'),
    ('PluginDirectoryCP4=" /leading space"', " /leading space"),
    ("PluginDirectoryCP4=/a${USER}b", "/ausrb"),
    (r"PluginDirectoryCP4=/a\\$HOME", "/a$HOME"),
    (r"PluginDirectoryCP4=/tab\tand#hash;semi=eq", "/tab\tand#hash;semi=eq"),
]


@pytest.mark.parametrize(("line", "value"), WRITTEN)
def test_what_wxwidgets_wrote_is_read(line: str, value: str) -> None:
    environment = {"HOME": "/home/me", "USER": "usr"}
    text = f"PreferencesVersion=1\n{line}\nTelemetry=0\n"
    assert parse_preferences(text, environment) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("PreferencesVersion=1\n", ""),
        ("PluginDirectoryCP4=\n", ""),
        ("PluginDirectory=/of/version/3\n", "/of/version/3"),
        ("PluginDirectoryCP4=/4\nPluginDirectory=/3\n", "/4"),
        ("PluginDirectoryCP4=\nPluginDirectory=/3\n", "/3"),
        ("[group]\nPluginDirectoryCP4=/of/a/group\n", ""),
        ("PluginDirectoryCP4=/windows/line\r\nTelemetry=0\r\n", "/windows/line"),
        ("PluginDirectoryCP4=/an/$UNKNOWN_VARIABLE\n", "/an/$UNKNOWN_VARIABLE"),
        ("PluginDirectoryCP4 = /with/spaces\n", "/with/spaces"),
        ("NotPluginDirectoryCP4=/other\n#PluginDirectoryCP4=/comment\n", ""),
    ],
)
def test_other_preferences(text: str, value: str) -> None:
    assert parse_preferences(text, {}) == value


def test_where_the_preferences_are() -> None:
    home = Path("/home/me")
    assert preferences_files("linux", home, {}) == [
        Path("/home/me/.config/CellProfilerLocal.cfg"),
        Path("/home/me/CellProfilerLocal.cfg"),
        Path("/etc/CellProfilerGlobal.cfg"),
    ]
    own = preferences_files("linux", home, {"XDG_CONFIG_HOME": "/elsewhere"})
    assert own[0] == Path("/elsewhere/CellProfilerLocal.cfg")
    assert preferences_files("darwin", home, {"XDG_CONFIG_HOME": "/elsewhere"}) == [
        Path("/home/me/Library/Preferences/CellProfilerLocal.cfg"),
        Path("/Library/Preferences/CellProfilerGlobal.cfg"),
    ]


@pytest.mark.parametrize(
    ("name", "is_inside"),
    [
        ("identifycells.py", True),
        ("_cellseg/a b/ü.py", True),
        ("a..b/c..py", True),
        ("", False),
        ("/etc/passwd", False),
        ("../outside.py", False),
        ("a/../../outside.py", False),
        (r"a\..\..\outside.py", False),
        (r"C:\outside.py", False),
        ("C:outside.py", False),
        (r"\\server\share\x", False),
    ],
)
def test_a_record_names_only_what_is_inside(name: str, is_inside: bool) -> None:
    assert _is_inside(name) is is_inside


@pytest.mark.parametrize("host", list(LAYOUTS))
def test_every_layout_is_complete(host: str) -> None:
    layout = LAYOUTS[host]
    places = [copy.target for copy in layout.copies]
    assert any(layout.configuration.startswith(f"{place}/") for place in places)
    assert not layout.client or f"{layout.client}/cellseg_client" in places
    assert layout.command.startswith("cellseg install ")
    assert layout.next_step.startswith(f"Restart {layout.name}, then: ")


def test_an_older_engine_that_still_runs_is_named() -> None:
    from cellseg_engine._version import __version__

    assert Check(engine_version=__version__).note == ""
    note = Check(engine_version="0.0.1", engine_pid=42).note
    assert "version 0.0.1 still runs (process 42); end it" in note
