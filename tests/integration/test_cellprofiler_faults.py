"""What people see when something is wrong: a sentence, a pipeline that is kept, no half results."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.cellprofiler_host import Host, Outcome, get_host, install
from tests.integration.cellprofiler_images import FIELD, PLACES, draw_disks, write

DISKS = draw_disks(PLACES)
IMAGES = {
    "one": {"a_dna": DISKS},
    "two shapes": {"a_dna": DISKS, "a_other": DISKS[:-8]},
    "colour": {"a": np.stack([DISKS // 16, DISKS // 20, DISKS // 40], -1).astype(np.uint8)},
    "stack": {"a": np.stack([DISKS] * 4)},
    "grey in colours": {"a": np.stack([DISKS // 16] * 3, -1).astype(np.uint8)},
}
DAMAGED = (
    "revision 99",
    "too few",
    "too many",
    "illegal number",
    "no number",
    "no choice",
    "zero",
)
# Revision 1 had no nuclei (13 settings of its own), no linking of planes, no filling of holes and
# no volumes, no choice of tiles (15 of the engine).
REVISION_1 = """\
IdentifyCells:[module_num:5|svn_version:'Unknown'|variable_revision_number:1|show_window:False\
|notes:[]|batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]
    Select the input image:DNA
    Name the objects to be identified:Nuclei
    Select a second image that shows the nuclei:Leave blank
    Diameter of the objects:Given here
    Select the measurement with the diameter:None
    Typical diameter of objects, in pixel units (Min,Max):5,500
    Discard objects outside the diameter range?:No
    Discard objects touching the border of the image?:No
    Keep the probability as an image?:No
    Name the probability image:CellProbability
    Keep the flow as a colour image?:No
    Name the flow image:CellFlow
    Use advanced settings?:Yes
    Model:nuclei
    Diameter (px):24
    Invert:no
    Probability threshold:0.6
    Flow-error threshold:0.4
    Largest share of the image:0.4
    Low percentile (%):1.0
    High percentile (%):99.0
    Iterations:0
    Flow interpolation:bilinear
    Test-time augmentation:none
    Tile overlap:0.1
    Batch size (tiles):0
    Device:auto
    Precision:auto
"""


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Host:
    return get_host(request, tmp_path_factory)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("images")
    return {name: write(folder / name, channels) for name, channels in IMAGES.items()}


@pytest.fixture(scope="module")
def damaged(host: Host, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give saved pipelines that something is wrong with."""
    folder = tmp_path_factory.mktemp("damaged")
    basic = host.pipeline("basic").read_text(encoding="utf-8")
    present = module_block(basic)
    changed = {
        "revision 99": present.replace("revision_number:4", "revision_number:99"),
        "too few": present.replace("    Fill holes inside objects:Yes\n", ""),
        "too many": present + "    One more:1\n",
        "illegal number": present.replace("threshold:0.5", "threshold:1.5"),
        "no number": present.replace("threshold:0.5", "threshold:half"),
        "no choice": present.replace("Diameter of the objects:Given", "Diameter of the objects:Gi"),
        "zero": re.sub(r"Diameter \(px\):.*", "Diameter (px):0.0", present),
        "revision 1": REVISION_1,
        "revision 4 like 1": present.replace("settings?:No", "settings?:Yes")
        .replace("Invert:auto", "Invert:no")
        .replace("Probability threshold:0.5", "Probability threshold:0.6"),
    }
    paths = {}
    for name, block in changed.items():
        assert block != present, name
        paths[name] = folder / f"{name}.cppipe"
        paths[name].write_text(basic.replace(present, block), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def refused(
    host: Host,
    images: dict[str, Path],
    damaged: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Outcome]:
    """Run what cannot work; each pipeline stops at its first error."""
    tasks: dict[str, tuple[Path | str, Path]] = {
        "no-model": ("no-model", images["one"]),
        "no-diameter": ("no-diameter", images["one"]),
        "two-channels": ("two-channels", images["two shapes"]),
        "colour": ("colour", images["colour"]),
        "colour-stack": ("colour-stack", images["stack"]),
    }
    tasks.update({name: (damaged[name], images["one"]) for name in DAMAGED})
    outcomes = host.run_all(list(tasks.values()), tmp_path_factory.mktemp("refused"))
    return dict(zip(tasks, outcomes, strict=True))


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    return install(tmp_path / "plugins")


def module_block(text: str) -> str:
    """Give what a pipeline keeps of its IdentifyCells."""
    start = text.index("IdentifyCells:[")
    return text[start : text.index("\n\n", start) + 1]


def values(text: str) -> list[str]:
    """Give the header and the values of its IdentifyCells, without the labels."""
    header, *lines = module_block(text).splitlines()
    return [header, *(line.partition(":")[2] for line in lines)]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no-model", "There is no model 'gone'; the models are nuclei, "),
        ("no-model", "A weights file can be given by its path."),
        ("no-diameter", "Threshold_FinalThreshold_First gives nan as diameter"),
        ("two-channels", "120 x 140 and 128 x 140"),
        ("colour", "grayscale"),
        ("colour-stack", "has the dimensions 4 x 128 x 140 x 3, but must have planes, rows and"),
        ("revision 99", "knows revisions 1 to 4. Install a newer one: cellseg install"),
        ("too few", "holds 42 settings of IdentifyCells where revision 4 has 43"),
        ("too many", "holds 44 settings of IdentifyCells where revision 4 has 43"),
        ("illegal number", "Probability threshold is 1.5, but must be above 0 and below 1"),
        ("no number", "IdentifyCells, Probability threshold: Value not in decimal format"),
        ("no choice", "IdentifyCells, Diameter of the objects: "),
        ("zero", "The diameter is 0, but one that is given must be above 0."),
    ],
)
def test_a_run_that_cannot_work_says_why_and_writes_nothing(
    refused: dict[str, Outcome], name: str, sentence: str
) -> None:
    outcome = refused[name]
    assert outcome.code == 1
    assert "Error detected during run of module IdentifyCells" in outcome.log
    assert sentence in outcome.log
    assert [path.name for path in outcome.out.iterdir()] == ["log.txt"]


def test_damaged_settings_are_named_when_looked_at_and_kept_when_saved(
    host: Host, damaged: dict[str, Path], tmp_path: Path
) -> None:
    tasks = [
        {"pipeline": str(damaged[name]), "saved": str(tmp_path / f"{name}.cppipe")}
        for name in DAMAGED
    ]
    for name, answer in zip(DAMAGED, host.ask("keep", tasks), strict=True):
        assert answer["modules"].count("IdentifyCells") == 1
        assert answer["problems"] != [""]
        before = damaged[name].read_text(encoding="utf-8")
        assert values((tmp_path / f"{name}.cppipe").read_text(encoding="utf-8")) == values(before)


def test_a_pipeline_of_revision_1_gives_what_revision_4_gives(
    host: Host, damaged: dict[str, Path], images: dict[str, Path], tmp_path: Path
) -> None:
    one, two = host.run_all(
        [(damaged[name], images["one"]) for name in ("revision 1", "revision 4 like 1")],
        tmp_path / "out",
    )
    assert one.code == two.code == 0, one.log
    assert one.labels("Nuclei").max() == len(PLACES)
    assert np.array_equal(one.labels("Nuclei"), two.labels("Nuclei"))
    saved = tmp_path / "saved.cppipe"
    (answer,) = host.ask("keep", [{"pipeline": str(damaged["revision 1"]), "saved": str(saved)}])
    assert answer["problems"] == [""]
    was, is_now = (values(p.read_text(encoding="utf-8")) for p in (damaged["revision 1"], saved))
    assert "variable_revision_number:4" in is_now[0]
    assert is_now[13] == was[13] == "Yes"
    assert is_now[14:20] == [
        "No",
        "Do not use",
        "None",
        "nuclei",
        "Nuclei",
        "No",
    ]
    assert is_now[20:23] == ["nuclei", "24", "no"]
    assert is_now[-9:-7] == ["0.25", "Yes"]
    assert is_now[-7:] == ["planes", "auto", "0.0", "same", "0.1", "0", "fewest"]


def test_no_engine_installed(
    host: Host, plugins: Path, images: dict[str, Path], tmp_path: Path
) -> None:
    (plugins / "_cellseg/engine.json").unlink()
    environment = host.environment(CELLSEG_RUNTIME=str(tmp_path / "runtime"))
    del environment["CELLSEG_ENGINE_PYTHON"]
    outcome = host.run(
        "basic", images["one"], tmp_path / "out", plugins=plugins, environment=environment
    )
    assert outcome.code == 1
    assert "Nothing says where the CellSeg engine is" in outcome.log
    assert "Run `cellseg install cellprofiler` with the engine's Python" in outcome.log
    assert outcome.tables() == set()
    assert not (tmp_path / "runtime").exists()


@pytest.mark.parametrize(
    ("noted", "sentence"),
    [
        ('{"engine_python": "/gone/python"}', "The Python of the CellSeg engine is gone: /gone/py"),
        ('{"engine_python": ', "engine.json cannot be read"),
    ],
)
def test_an_engine_that_is_noted_wrongly(
    host: Host, plugins: Path, images: dict[str, Path], tmp_path: Path, noted: str, sentence: str
) -> None:
    (plugins / "_cellseg/engine.json").write_text(noted, encoding="utf-8")
    environment = host.environment(CELLSEG_RUNTIME=str(tmp_path / "runtime"))
    del environment["CELLSEG_ENGINE_PYTHON"]
    more = ("--always-continue", "True")
    outcome = host.run(
        "basic", images["one"], tmp_path / "out", *more, plugins=plugins, environment=environment
    )
    assert sentence in outcome.log
    assert "Nuclei" not in outcome.tables()


def _syntax_error(folder: Path) -> None:
    path = folder / "_cellseg/settings.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nSETTINGS = [\n", encoding="utf-8")


def _without_contract(folder: Path) -> None:
    (folder / "_cellseg/settings.py").unlink()


def _without_folder(folder: Path) -> None:
    shutil.rmtree(folder / "_cellseg")


@pytest.mark.parametrize("damage", [_syntax_error, _without_contract, _without_folder])
def test_a_damaged_module_stays_in_the_list_and_keeps_pipelines(
    host: Host, plugins: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(plugins)
    pipeline = host.pipeline("basic")
    saved = tmp_path / "saved.cppipe"
    task = [{"pipeline": str(pipeline), "saved": str(saved)}]
    answer: dict[str, Any]
    (answer,) = host.ask("keep", task, plugins)
    assert answer["in_list"]
    assert "IdentifyCells" in answer["modules"]
    (problem,) = answer["problems"]
    assert "IdentifyCells is damaged" in problem
    assert "Install it again: cellseg install cellprofiler" in problem
    before = pipeline.read_text(encoding="utf-8")
    assert values(saved.read_text(encoding="utf-8")) == values(before)


def test_a_damaged_module_stops_the_run_with_its_sentence(
    host: Host, plugins: Path, images: dict[str, Path], tmp_path: Path
) -> None:
    _syntax_error(plugins)
    outcome = host.run("basic", images["one"], tmp_path / "out", plugins=plugins)
    assert outcome.code == 1
    assert "RuntimeError: IdentifyCells is damaged" in outcome.log
    assert outcome.tables() == set()


def test_a_damaged_client_stops_the_run_with_its_sentence(
    host: Host, plugins: Path, images: dict[str, Path], tmp_path: Path
) -> None:
    shutil.rmtree(plugins / "_cellseg/cellseg_client")
    (outcome,) = host.run_all([("basic", images["one"])], tmp_path / "out", plugins=plugins)
    assert outcome.code == 1
    assert "The part of IdentifyCells that talks to the engine is missing" in outcome.log


def test_a_grey_image_in_colours_is_grayscale(
    host: Host, images: dict[str, Path], tmp_path: Path
) -> None:
    (outcome,) = host.run_all([("colour", images["grey in colours"])], tmp_path / "out")
    assert outcome.code == 0, outcome.log
    assert len(outcome.table("Nuclei")) == len(PLACES)


def test_probability_and_flow_need_names_of_their_own(
    host: Host, images: dict[str, Path], tmp_path: Path
) -> None:
    text = host.pipeline("basic").read_text(encoding="utf-8")
    changed = re.sub(r"(Keep the .* image\?):No", r"\1:Yes", text)
    changed = changed.replace(":CellFlow", ":CellProbability")
    assert changed.count("image?:Yes") == changed.count(":CellProbability") == 2
    path = tmp_path / "names.cppipe"
    path.write_text(changed, encoding="utf-8")
    (outcome,) = host.run_all([(path, images["one"])], tmp_path / "out")
    assert outcome.code == 1
    assert "flow image: Probability and flow need different names." in outcome.log


def test_a_stack_without_process_as_3d_is_read_as_one_plane(
    host: Host, images: dict[str, Path], tmp_path: Path
) -> None:
    (outcome,) = host.run_all([("basic", images["stack"])], tmp_path / "out")
    assert outcome.code == 0
    counts = [float(row["Count_Nuclei"]) for row in outcome.table("Image")]
    assert set(counts) == {float(len(PLACES))}
    assert outcome.labels("Nuclei").shape == FIELD
