"""One engine for all image sets and workers, and what happens when it is killed."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import tifffile

from tests.integration.cellprofiler_host import Host, get_host, install
from tests.integration.cellprofiler_images import PLACES, draw_disks, write
from tests.integration.service import Place, ask, place, wait_until

LARGE = (1400, 1400)
"""Size of an image that keeps the engine busy long enough to be killed in the middle."""


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Host:
    return get_host(request, tmp_path_factory)


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Give a folder of four fields with 7, 6, 5 and 4 disks."""
    fields = {f"{n}": draw_disks(PLACES[: 7 - n], seed=n) for n in range(4)}
    return write(tmp_path / "images", fields)


def test_two_workers_of_analyze_images_share_one_model(
    host: Host, four: Path, tmp_path: Path
) -> None:
    before = host.counters()
    (tmp_path / "out").mkdir()
    task = {
        "pipeline": str(host.pipeline("shown")),
        "images": str(four),
        "out": str(tmp_path / "out"),
        "workers": 2,
        "limit_s": 180,
    }
    answer = host.ask("share", task)
    assert answer["done"]
    assert answer["errors"] == []
    assert [(each["status"], each["count"]) for each in answer["sets"]] == [
        ("Done", count) for count in (7, 6, 5, 4)
    ]
    log = (tmp_path / "out/log.txt").read_text(encoding="utf-8")
    for worker in (0, 1):
        assert f"Worker {worker}: Running module IdentifyCells" in log
    after = host.counters()
    assert after["jobs_done"] == before["jobs_done"] + 4
    assert after["models_loaded"] == max(before["models_loaded"], 1)
    assert (tmp_path / "out/Nuclei.csv").exists()
    # What the workers sent for the window is there, and plain enough to be sent.
    assert sorted(shown["number"] for shown in answer["shown"]) == [1, 2, 3, 4]
    for shown in answer["shown"]:
        assert all(len(shape) == 2 for shape in shown["shapes"].values())
        assert ["Objects", str(8 - shown["number"])] in shown["table"]


def test_another_process_finds_the_model_loaded_and_does_the_image_sets_asked_for(
    host: Host, four: Path, tmp_path: Path
) -> None:
    first = host.run("basic", four, tmp_path / "first")
    between = host.counters()
    second = host.run("basic", four, tmp_path / "second", "-f", "2", "-l", "3")
    after = host.counters()
    assert first.code == second.code == 0
    assert after["models_loaded"] == between["models_loaded"] >= 1
    assert after["jobs_done"] == between["jobs_done"] + 2
    all_four, two = first.table("Image"), second.table("Image")
    assert [float(row["Count_Nuclei"]) for row in all_four] == [7, 6, 5, 4]
    assert [row["ImageNumber"] for row in two] == ["2", "3"]
    for column in ("FileName_DNA", "Count_Nuclei", "CellSeg_DiameterUsed_Nuclei"):
        assert [row[column] for row in two] == [row[column] for row in all_four[1:3]]
    assert {row["ImageNumber"] for row in second.table("Nuclei")} == {"2", "3"}
    assert host.place.exchanged() == []


def test_an_engine_killed_in_the_middle_costs_one_image_set(host: Host, tmp_path: Path) -> None:
    images = write(
        tmp_path / "images",
        {"a": draw_disks(PLACES, LARGE), "b": draw_disks(PLACES[:3])},
    )
    plugins = install(tmp_path / "plugins")
    with place(tmp_path / "engine") as there:
        there.runtime.chmod(0o700)
        environment = host.environment(CELLSEG_RUNTIME=str(there.runtime))
        del environment["CELLSEG_ENGINE_PYTHON"]
        killed: list[int] = []
        killer = threading.Thread(target=kill_the_busy, args=(there, killed), daemon=True)
        killer.start()
        outcome = host.run(
            "basic",
            images,
            tmp_path / "out",
            "--always-continue",
            "True",
            plugins=plugins,
            environment=environment,
        )
        killer.join(5)
        assert len(killed) == 1, "the engine was never busy"
        assert there.record()["pid"] != killed[0]
        assert outcome.code == 0, outcome.log
    assert "EngineLostError" in outcome.log
    assert "next" in next(
        line for line in outcome.log.splitlines() if "EngineLostError:" in line
    ), outcome.log
    rows = {row["ImageNumber"]: row for row in outcome.table("Image")}
    assert float(rows["2"]["Count_Nuclei"]) == 3
    lost = rows.get("1", {})
    written = [name for name in lost if "Nuclei" in name and lost[name] not in {"", "nan"}]
    assert written == []
    assert {row["ImageNumber"] for row in outcome.table("Nuclei")} == {"2"}
    assert sorted(path.name for path in outcome.out.glob("Nuclei*.npy")) == [
        "NucleiLabels_0002.npy"
    ]


def kill_the_busy(there: Place, killed: list[int]) -> None:
    """Kill the engine in the middle of its first image."""

    def is_busy() -> bool:
        found = there.find()
        return bool(found and ask(found, "GET", "/v1/status")[1]["running"])

    wait_until(is_busy, "the work of the engine", 120)
    pid = int(there.record()["pid"])
    os.kill(pid, signal.SIGKILL)
    killed.append(pid)


def test_an_image_without_cells_goes_through_to_the_tables(
    host: Host, shared: Path, tmp_path: Path
) -> None:
    source = shared / "examples/ExampleHuman/images"
    blank = {path.stem: tifffile.imread(path)[:96, :96] * 0 + 9 for path in source.glob("*.tif")}
    images = write(tmp_path / "images", blank)
    pipeline = host.pipeline("human")
    outcome = host.run(pipeline, images, tmp_path / "out")
    assert outcome.code == 0
    assert "Error detected" not in outcome.log
    assert "The image has no contrast" in outcome.log
    (row,) = outcome.table("Image")
    assert float(row["Count_Nuclei"]) == float(row["Count_Cells"]) == 0
    assert row["ModuleError_05IdentifyCells"] == "0"
    assert outcome.labels("Nuclei").shape == (96, 96)
    assert not outcome.labels("Nuclei").any()
    assert outcome.table("Experiment")
