"""The Fiji scripts as texts: headers, tables and the limits of Jython."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from cellseg_engine.settings import Settings
from tests.conftest import ROOT

SCRIPTS = ROOT / "fiji_scripts"
PACKAGE = SCRIPTS / "cellseg_jy"
MENU = sorted(SCRIPTS.glob("*.py"))
FILES = sorted([*MENU, *PACKAGE.glob("*.py")])
TYPES = {"String": str, "Integer": int, "Double": float, "Boolean": bool}
MODULES = {
    "Segment_Cells.py": "segmenting",
    "Segment_Folder.py": "folder",
    "Labels_To_ROIs.py": "tracing",
    "ROIs_To_Labels.py": "painting",
    "Add_To_Training_Set.py": "adding",
    "Fine_Tune_Model.py": "fine_tuning",
    "Next_Image.py": "next_image",
}
LONGEST_FILE = 400


@pytest.fixture(scope="module")
def fiji() -> Any:
    sys.path.insert(0, str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("rendered", ROOT / "tools/rendering/fiji.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return module


def header(path: Path) -> dict[str, tuple[str, str]]:
    """Give type and attributes of each #@ parameter of a script."""
    found = re.findall(r"^#@ (\w+) \((.*)\) (\w+)$", path.read_text("ascii"), re.MULTILINE)
    return {name: (kind, attributes) for kind, attributes, name in found}


def own_parameters(module: str) -> dict[str, tuple[str, Any]]:
    """Give kind and default of the parameters that a module declares itself, unread by Jython."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text("ascii"))
    calls = [
        node
        for statement in tree.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "OWN"
        for node in ast.walk(statement.value)
        if isinstance(node, ast.Call)
    ]
    values = [[ast.literal_eval(argument) for argument in call.args[:3]] for call in calls]
    return {name: (kind, default) for name, kind, default in values}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_plain_ascii_short_and_reads_as_jython(path: Path) -> None:
    text = path.read_text(encoding="ascii")
    assert len(text.splitlines()) <= LONGEST_FILE
    ast.parse(text)
    for line in text.splitlines():
        assert not re.match(r"# @ ", line), "a formatter made a comment of #@"


@pytest.mark.parametrize("path", MENU, ids=lambda path: path.name)
def test_menu_scripts_can_be_called_by_macros_and_keep_no_value(path: Path) -> None:
    assert "_" in path.name  # without it Fiji does not know the command in macros
    for name, (kind, attributes) in header(path).items():
        assert kind in {*TYPES, "File"}, name
        assert attributes.endswith("persist=false"), name
    n_lines = sum(line.startswith("#@") for line in path.read_text("ascii").splitlines())
    assert len(header(path)) == n_lines


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_script_and_its_module_declare_the_same_parameters(name: str) -> None:
    own = own_parameters(MODULES[name])
    kinds = {"text": "String", "choice": "String", "boolean": "Boolean"}
    kinds |= {"number": "Double", "integer": "Integer"}
    declared = header(SCRIPTS / name)
    settings = set(Settings.model_fields)
    assert set(own) - settings == set(declared) - settings
    for parameter, (kind, default) in own.items():
        shown, attributes = declared[parameter]
        assert shown == kinds[kind]
        is_text = kind in ("text", "choice")
        value = f'"{default}"' if is_text else str(default).lower()
        assert f"value={value}, " in attributes


def test_a_header_is_filled_in_between_its_marks(fiji: Any) -> None:
    script = f"before\n{fiji.BEGIN}\nold\n{fiji.END}\nafter\n"
    filled = fiji.fill(script, f"{fiji.BEGIN}\nnew\n{fiji.END}\n")
    assert filled == f"before\n{fiji.BEGIN}\nnew\n{fiji.END}\nafter\n"
    assert fiji.fill(filled, f"{fiji.BEGIN}\nnew\n{fiji.END}\n") == filled
    for broken in ("before", script + script):
        with pytest.raises(ValueError, match="needs these two lines once"):
            fiji.fill(broken, "")


def test_the_table_of_settings_says_what_the_schema_says() -> None:
    tree = ast.parse((PACKAGE / "settings.py").read_text("ascii"))
    rows = [
        [ast.literal_eval(argument) for argument in node.args]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]
    properties = Settings.model_json_schema()["properties"]
    declared = header(SCRIPTS / "Segment_Cells.py")
    assert len(rows) > 20
    for name, kind, default, choices in rows:
        schema = properties[name]
        assert default == schema["default"]
        assert list(choices) == schema.get("enum", [])
        assert (kind == "choice") is bool(choices)
        assert type(default) is TYPES[declared[name][0]]


def test_the_page_names_fields_and_commands_as_they_are() -> None:
    """Every *italic* name of docs/fiji.md is a field, a command, or one of ImageJ's own."""
    page = (ROOT / "docs/fiji.md").read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL).replace("**", "")
    named = {" ".join(name.split()) for name in re.findall(r"\*([^*]+)\*", prose)}
    commands = {path.stem.replace("_", " ") for path in MENU}
    labels = {
        label.partition(" [")[0]
        for path in MENU
        for label in re.findall(r'^#@ .*?label="([^"]+)"', path.read_text("ascii"), re.MULTILINE)
    }
    dialog = (PACKAGE / "install_command.py").read_text("ascii")
    labels |= set(re.findall(r'dialog\.add\w+Field\("([^"]+)"', dialog))
    menus = {"Plugins > CellSeg", *(f"Plugins > CellSeg > {command}" for command in commands)}
    imagej = {
        "Help",
        "Show All",
        "Update",
        *(name for name in named if name.startswith("Image > ")),
    }
    assert len(named & labels) > 12
    assert named - commands - labels - menus - imagej == {"training folder"}
