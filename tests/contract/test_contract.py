"""The contract: everything made from the settings is up to date and says the same."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cellseg_client
from cellseg_engine.settings import Settings, make_settings
from cellseg_service.wire import CONTRACT_VERSION, WIRE, contract, explain_version_mismatch
from tests.conftest import ROOT, find_pythons

CONTRACT = ROOT / "bridges/contract"
HOSTS = ("cellprofiler", "fiji")
NAMES = list(Settings.model_fields)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tool() -> Any:
    return load(ROOT / "tools/render_contract.py")


@pytest.fixture(scope="module")
def orders(tool: Any) -> Any:
    return tool.read_orders(tool.ORDERS)


@pytest.fixture(scope="module")
def settings(tool: Any) -> Any:
    return tool.read_settings(contract()["settings"])


# --- drift -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "bridges/contract/settings.schema.json",
        "cellprofiler_modules/_cellseg/settings.py",
        "bridges/contract/fiji_header.txt",
        "docs/settings.md",
        "fiji_scripts/cellseg_jy/settings.py",
        "fiji_scripts/Segment_Cells.py",
        "fiji_scripts/Segment_Folder.py",
        "fiji_scripts/Preview_Cells.py",
    ],
)
def test_committed_files_are_what_the_settings_make(
    tool: Any, orders: Any, settings: Any, name: str
) -> None:
    made = tool.render(settings, orders, tool.GOLDEN)
    assert len(made) == 8
    assert (ROOT / name).read_bytes() == made[name].encode(), "run python tools/render_contract.py"


def test_the_check_is_a_command_that_names_what_differs(tool: Any, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools/render_contract.py"), "--check"]
    clean = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (clean.returncode, clean.stdout, clean.stderr) == (0, "", "")


def test_drift_is_reported_in_one_sentence_with_the_difference(
    tool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "bridges/contract/fiji_header.txt"
    there = (ROOT / name).read_text(encoding="utf-8")
    assert tool.check({name: there}) == 0
    assert tool.check({name: there.replace("Diameter", "Size")}) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name} is not what the settings make; run python tools/")
    assert '+#@ Double (label="Size [px]"' in error


# --- orders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_every_setting_is_in_an_order_or_left_out_with_a_reason(orders: Any, host: str) -> None:
    order = orders[host]
    assert sorted([*order.names, *order.left_out]) == sorted(NAMES)
    assert all(len(reason.split()) > 3 for reason in order.left_out.values())


@pytest.mark.parametrize("host", HOSTS)
def test_this_contract_is_released_whole(tool: Any, orders: Any, settings: Any, host: str) -> None:
    order = orders[host]
    assert tool.check_released(order, settings, tool.GOLDEN) == list(range(1, CONTRACT_VERSION + 1))
    kept = json.loads((tool.GOLDEN / f"{host}-{CONTRACT_VERSION}.json").read_text())
    assert kept == tool.released_form(order, settings), (
        "settings were added: raise CONTRACT_VERSION and run tools/render_contract.py --release"
    )


def test_an_order_only_grows(tool: Any, orders: Any, settings: Any) -> None:
    order = orders["fiji"]
    swapped = (order.names[1], order.names[0], *order.names[2:])
    with pytest.raises(tool.OrderError, match="released with model at place 1, where channel is"):
        tool.check_released(replace(order, names=swapped), settings, tool.GOLDEN)
    shorter = replace(order, names=order.names[:-1])
    with pytest.raises(tool.OrderError, match="tiling at place 35, where nothing is now"):
        tool.check_released(shorter, settings, tool.GOLDEN)
    longer = replace(order, names=(*order.names, "diameter_scope"))
    assert tool.check_released(longer, settings, tool.GOLDEN)[-1] == CONTRACT_VERSION


def test_a_released_setting_keeps_its_kind_and_its_choices(
    tool: Any, orders: Any, settings: Any
) -> None:
    other_kind = settings | {"diameter_px": replace(settings["diameter_px"], kind="integer")}
    with pytest.raises(tool.OrderError, match="diameter_px at place 4 as number, and it is int"):
        tool.check_released(orders["fiji"], other_kind, tool.GOLDEN)
    fewer = settings | {"precision": replace(settings["precision"], choices=("auto",))}
    with pytest.raises(tool.OrderError, match="its choice fp32, bf16, fp16 is gone"):
        tool.check_released(orders["fiji"], fewer, tool.GOLDEN)


def test_incomplete_orders_are_refused(tool: Any, orders: Any, settings: Any) -> None:
    order = orders["fiji"]
    for changed, words in [
        (replace(order, names=order.names[1:]), "model is new; append it to the order"),
        (replace(order, names=("model", *order.names)), "model stands twice"),
        (replace(order, left_out={"diameter_scope": " "}), "give the reason why diameter_scope"),
        (replace(order, names=(*order.names, "colour")), "colour is no setting"),
    ]:
        with pytest.raises(tool.OrderError, match=words):
            tool.check_complete(changed, settings)


# --- each rendering ----------------------------------------------------------------------------


def test_the_schema_is_the_contract() -> None:
    there = json.loads((CONTRACT / "settings.schema.json").read_text(encoding="utf-8"))
    assert there == contract()
    assert (there["wire"], there["version"]) == (WIRE, CONTRACT_VERSION)
    assert list(there["settings"]["properties"]) == NAMES


def test_the_cellprofiler_settings_say_what_the_schema_says(orders: Any) -> None:
    module: Any = load(ROOT / "cellprofiler_modules/_cellseg/settings.py")
    order = orders["cellprofiler"]
    assert (module.WIRE, module.CONTRACT_VERSION) == (WIRE, CONTRACT_VERSION)
    assert [entry["name"] for entry in module.SETTINGS] == list(order.names)
    assert order.left_out == module.LEFT_OUT
    properties = contract()["settings"]["properties"]
    for entry in module.SETTINGS:
        schema = properties[entry["name"]]
        assert entry["help"] == schema["description"]
        assert entry["default"] == schema["default"]
        assert type(entry["default"]) is type(schema["default"])
        assert list(entry["choices"]) == schema.get("enum", [])
        for key, keyword in [
            ("minimum", "minimum"),
            ("maximum", "maximum"),
            ("exclusive_minimum", "exclusiveMinimum"),
            ("exclusive_maximum", "exclusiveMaximum"),
        ]:
            assert entry[key] == schema.get(keyword)


def test_the_cellprofiler_settings_run_under_python_3_8() -> None:
    found = find_pythons("3.8")
    if not found:
        pytest.skip("needs Python 3.8")
    python = found[0]
    path = ROOT / "cellprofiler_modules/_cellseg/settings.py"
    code = (
        "import json, runpy, sys; before = set(sys.modules); "
        "names = runpy.run_path(sys.argv[1]); "
        "print(json.dumps([sys.version_info[:2], len(names['SETTINGS']), "
        "sorted(set(sys.modules) - before)]))"
    )
    answer = subprocess.run(
        [str(python), "-I", "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    version, count, imported = json.loads(answer.stdout)
    assert (version, imported) == ([3, 8], [])
    assert count == len(load(path).SETTINGS)


def test_the_fiji_header_has_every_setting_of_its_order_once(orders: Any) -> None:
    lines = (CONTRACT / "fiji_header.txt").read_text(encoding="ascii").splitlines()
    assert lines[0].startswith("# --- begin generated")
    assert lines[-1] == "# --- end generated ---"
    shape = re.compile(r"#@ (String|Integer|Double|Boolean) \((.*)\) (\w+)")
    found = [shape.fullmatch(line) for line in lines[1:-1]]
    assert [match and match[3] for match in found] == list(orders["fiji"].names)
    for match in found:
        assert match is not None
        assert match[2].endswith("persist=false")
        # what is left without the texts holds no stray quote, bracket or backslash
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "T", match[2])
        assert re.fullmatch(r"label=T, description=T, [\w=,. {}]+", bare)


def test_fiji_texts_are_quoted_and_ascii(tool: Any) -> None:
    assert tool.fiji.quote('say "a\\b" in px²') == r'"say \"a\\b\" in px^2"'
    with pytest.raises(ValueError, match="add a replacement"):
        tool.fiji.quote("naïve")
    with pytest.raises(ValueError, match="add a replacement"):
        tool.fiji.quote("two\nlines")


def test_the_reference_page_has_every_setting_once(tool: Any, orders: Any) -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    tables = page.partition("## What the hosts leave out")[0]
    assert re.findall(r"<br>`(\w+)` \|", tables) == NAMES
    assert set(tool.reference.CELLPOSE) < set(NAMES)
    for order in orders.values():
        for name, reason in order.left_out.items():
            assert f"`{name}`" in page
            assert f"{reason}." in page


def test_the_reference_page_says_what_is_different_in_cellprofiler() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    table = page.partition("## Defaults that differ")[2].partition("## ")[0]
    host = ROOT / "cellprofiler_modules/_cellseg"
    defaults = re.search(
        r'^DEFAULTS = {"stitch_threshold": ([\d.]+)}$',
        (host / "engine_settings.py").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert defaults is not None
    assert f"linked above an IoU of {defaults[1]}, " in table
    own = (host / "own_settings.py").read_text(encoding="utf-8")
    for name in ("exclude_size", "exclude_border_objects"):
        found = re.search(rf'module\.{name} = Binary\(\s+"(.+)",\s+True,', own)
        assert found is not None
        assert f"*{found[1]}* Yes" in table
    sizes = re.search(r"module\.size_range = FloatRange\(\s+\".+\",\s+\((\d+), (\d+)\)", own)
    assert sizes is not None
    assert f"outside {sizes[1]} to {sizes[2]} px " in table
    ours = Settings()
    assert (ours.exclude_edge_objects, ours.min_area_px, ours.stitch_threshold) == (False, 0, 0)


def test_a_schema_keyword_that_no_rendering_shows_is_refused(tool: Any) -> None:
    schema = contract()["settings"]
    schema["properties"]["model"]["multipleOf"] = 2
    with pytest.raises(ValueError, match="model: the renderings do not know multipleOf"):
        tool.read_settings(schema)


# --- versions ----------------------------------------------------------------------------------


def test_the_sentence_says_which_side_to_update() -> None:
    older = explain_version_mismatch(1, 2)
    assert older.startswith("The program that asks speaks wire 1, this engine wire 2: update the ")
    assert "repeating `cellseg install fiji` or `cellseg install cellprofiler`" in older
    newer = explain_version_mismatch(3, 2)
    assert "update the engine, by `python -m pip install --upgrade cellseg-engine`" in newer
    with pytest.raises(ValueError, match="nothing to explain"):
        explain_version_mismatch(WIRE)


def test_engine_and_client_of_one_version_understand_each_other() -> None:
    assert cellseg_client.WIRE == WIRE


def test_defaults_are_allowed_values() -> None:
    properties = contract()["settings"]["properties"]
    assert make_settings({n: s["default"] for n, s in properties.items()}) == Settings()
