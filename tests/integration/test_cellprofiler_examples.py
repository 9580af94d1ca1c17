"""The example pipelines for users, run as they are by a real CellProfiler."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.integration.cellprofiler_host import (
    EXAMPLES,
    PLUGINS,
    Host,
    Outcome,
    find_python,
    get_host,
    install,
    match,
)
from tests.integration.cellprofiler_images import write

HUMAN_TABLES = {"Cells", "Cytoplasm", "Experiment", "Image", "Nuclei", "PH3"}
FLY_TABLES = {"Cells", "Cytoplasm", "Image", "Nuclei"}
QUALITY = {"CellSeg_MeanProbability", "CellSeg_FlowError"}
ABOUT = {"DiameterUsed", "EngineVersion", "Model", "Seconds", "WeightsSHA256"}


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Host:
    return get_host(request, tmp_path_factory)


@pytest.fixture(scope="module", params=["3.9", "3.11"])
def humans(
    request: pytest.FixtureRequest,
    host: Host,
    shared: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Outcome, Outcome]]:
    """Run ExampleHuman, classical and with IdentifyCells, also as it is after an installation."""
    here = Host(find_python(request.param), host.place, host.folder)
    folder = tmp_path_factory.mktemp(f"human-{request.param}")
    images = shared / "examples/ExampleHuman/images"
    plugins, environment = PLUGINS, host.environment()
    if request.param == "3.11":
        plugins = install(folder / "plugins")
        del environment["CELLSEG_ENGINE_PYTHON"]
    host.pipeline("human")
    yield (
        here.run("classical", images, folder / "classical"),
        here.run("human", images, folder / "ours", plugins=plugins, environment=environment),
    )
    assert host.place.exchanged() == []


@pytest.fixture(scope="module")
def fly(host: Host, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    images = shared / "examples/ExampleFly/images"
    return host.run(EXAMPLES / "ExampleFly.cppipe", images, tmp_path_factory.mktemp("fly"))


def test_human_nuclei_are_those_of_identify_primary_objects(
    humans: tuple[Outcome, Outcome],
) -> None:
    classical, ours = (outcome.labels("Nuclei") for outcome in humans)
    assert classical.max() == 289
    found, confirmed = match(classical, ours)
    assert found >= 0.9 * classical.max()
    assert ours.max() - confirmed <= 0.1 * ours.max()


def test_human_runs_to_its_tables_and_ends_by_itself(humans: tuple[Outcome, Outcome]) -> None:
    for outcome in humans:
        assert outcome.code == 0
        assert "Traceback" not in outcome.log.partition("Times reported")[2]
        assert outcome.tables() == HUMAN_TABLES
        assert len(outcome.table("Image")) == 1
        assert list(outcome.out.glob("*_Overlay.png"))
    ours = humans[1]
    count = ours.labels("Nuclei").max()
    for name in ("Nuclei", "Cells", "Cytoplasm"):
        assert len(ours.table(name)) == count
    assert float(ours.table("Image")[0]["Count_Nuclei"]) == count


def test_human_tables_keep_their_columns(humans: tuple[Outcome, Outcome]) -> None:
    classical, ours = humans
    for name in HUMAN_TABLES - {"Image"}:
        more = [column for column in ours.columns(name) if column not in classical.columns(name)]
        assert set(more) == (QUALITY if name == "Nuclei" else set())
        kept = [column for column in ours.columns(name) if column not in more]
        assert kept == classical.columns(name)
    renamed = {f"{what}_05IdentifyPrimaryObjects" for what in ("ExecutionTime", "ModuleError")}
    new = {f"{what}_05IdentifyCells" for what in ("ExecutionTime", "ModuleError")}
    new |= {f"CellSeg_{what}_Nuclei" for what in ABOUT}
    before, now = set(classical.columns("Image")), set(ours.columns("Image"))
    assert before - now == renamed
    assert now - before == new


def test_human_tables_name_what_ran(humans: tuple[Outcome, Outcome]) -> None:
    row = humans[1].table("Image")[0]
    assert row["CellSeg_Model_Nuclei"] == "nuclei"
    assert len(row["CellSeg_WeightsSHA256_Nuclei"]) == 64
    assert float(row["CellSeg_DiameterUsed_Nuclei"]) == 20
    assert float(row["CellSeg_Seconds_Nuclei"]) > 0
    assert row["Threshold_FinalThreshold_Nuclei"] == "nan"
    for nucleus in humans[1].table("Nuclei"):
        assert 0.5 <= float(nucleus["CellSeg_MeanProbability"]) <= 1
        assert 0 <= float(nucleus["CellSeg_FlowError"]) <= 0.4


def test_fly_runs_three_image_sets_to_its_tables(fly: Outcome) -> None:
    assert fly.code == 0
    assert fly.tables() == FLY_TABLES
    images = fly.table("Image")
    counts = [int(float(row["Count_Nuclei"])) for row in images]
    assert len(counts) == 3
    assert min(counts) >= 15
    assert len(fly.table("Nuclei")) == sum(counts)
    for name in ("Cells", "Cytoplasm"):
        assert len(fly.table(name)) == sum(counts)


@pytest.mark.parametrize("name", ["CellsOfNuclei", "CellsAndNuclei"])
def test_examples_of_pairs_run(host: Host, shared: Path, tmp_path: Path, name: str) -> None:
    source = shared / "examples/ExampleHuman/images"
    crops = {path.stem: tifffile.imread(path)[:160, :160] for path in source.glob("*.tif")}
    images = write(tmp_path / "images", crops)
    outcome = host.run(EXAMPLES / f"{name}.cppipe", images, tmp_path / "out")
    assert outcome.code == 0
    assert outcome.tables() == {"Cells", "Experiment", "Image", "Nuclei"}
    nuclei, cells = outcome.table("Nuclei"), outcome.table("Cells")
    assert nuclei and cells
    numbers = {row["ObjectNumber"] for row in nuclei} | {"0"}
    assert {row["Parent_Nuclei"] for row in cells} <= numbers
    assert any(row["Parent_Nuclei"] != "0" for row in cells)


def test_the_examples_are_what_the_tool_writes(host: Host, shared: Path) -> None:
    written = host.pipeline("basic").parent / "examples"
    names = {path.name for path in EXAMPLES.glob("*.cppipe")}
    assert {path.name for path in written.iterdir()} == names
    for name in names:
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        assert text == (written / name).read_text(encoding="utf-8")
        for place in (str(shared.parent), sys.prefix, str(Path.home()) + "/", "C:"):
            assert place not in text


def test_labels_on_both_hosts_are_the_same(host: Host, tmp_path: Path, shared: Path) -> None:
    source = shared / "examples/ExampleFly/images/01_POS002_D.TIF"
    images = write(tmp_path / "images", {"a": tifffile.imread(source)[251:379, 501:629]})
    host.pipeline("basic")
    labels = []
    for version in ("3.9", "3.11"):
        here = Host(find_python(version), host.place, host.folder)
        (outcome,) = here.run_all([("basic", images)], tmp_path / version)
        labels.append(outcome.labels("Nuclei"))
    assert labels[0].max() > 3
    assert np.array_equal(labels[0], labels[1])
