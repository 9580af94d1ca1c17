"""Cells and their nuclei: who belongs to whom, on fields with a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.integration.cellprofiler_host import Host, Outcome, get_host
from tests.integration.cellprofiler_images import PLACES, draw_disks, write

SHAPE = (120, 200)
CELL_PX, NUCLEUS_PX = 40.0, 16.0
EMPTY, ONE, TWO, LEFT, RIGHT = (30, 30), (30, 90), (30, 160), (90, 40), (90, 120)
CELLS = (EMPTY, ONE, TWO, LEFT, RIGHT)
OUTSIDE = (88, 180)
KNOWN = {1: [ONE], 2: [(26, 152)], 3: [(34, 166)], 4: [OUTSIDE], 5: [LEFT, RIGHT]}
"""Where each nucleus of the label image lies; the last is half in one cell, half in another."""
FOUND = (ONE, (20, 154), (40, 166), OUTSIDE, LEFT, RIGHT)
"""Where the nuclei that the model finds lie."""


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Host:
    return get_host(request, tmp_path_factory)


@pytest.fixture(scope="module")
def pairs(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("pairs")
    known = np.zeros(SHAPE, np.uint8)
    for number, places in KNOWN.items():
        for y, x in places:
            known[y - 3 : y + 3, x - 3 : x + 3 + (number == 2)] = number
    images = {
        "a_body": draw_disks(CELLS, SHAPE, CELL_PX),
        "a_dna": draw_disks(FOUND, SHAPE, NUCLEUS_PX, seed=1),
        "a_known": known,
    }
    outcome = host.run("pairs", write(folder / "images", images), folder / "out")
    assert outcome.code == 0, outcome.log
    return outcome


def column(outcome: Outcome, table: str, name: str) -> list[int]:
    """Give a column by number of the object."""
    rows = sorted(outcome.table(table), key=lambda row: int(row["ObjectNumber"]))
    return [int(float(row[name])) for row in rows]


def at(outcome: Outcome, name: str, *places: tuple[int, int]) -> list[int]:
    """Give the objects that lie at places."""
    labels = outcome.labels(name)
    return [int(labels[place]) for place in places]


def test_the_cells_are_found(pairs: Outcome) -> None:
    for name in ("OfKnown", "OfFound"):
        assert sorted(at(pairs, name, *CELLS)) == [1, 2, 3, 4, 5]
        assert pairs.labels(name).max() == 5
        assert at(pairs, name, OUTSIDE) == [0]


def test_cells_know_their_nuclei_of_an_earlier_module(pairs: Outcome) -> None:
    empty, one, two, left, right = (n - 1 for n in at(pairs, "OfKnown", *CELLS))
    parents = column(pairs, "OfKnown", "Parent_Known")
    counts = column(pairs, "OfKnown", "CellSeg_NucleiCount")
    assert (parents[empty], counts[empty]) == (0, 0)
    assert (parents[one], counts[one]) == (1, 1)
    assert (parents[two], counts[two]) == (2, 2), "the nucleus with more pixels in the cell"
    assert sorted([parents[left], parents[right]]) == [0, 5], "half and half: one cell only"
    assert sorted([counts[left], counts[right]]) == [0, 1]


def test_nuclei_of_an_earlier_module_know_their_cells(pairs: Outcome) -> None:
    assert column(pairs, "Known", "Children_OfKnown_Count") == [1, 1, 0, 0, 1]


def test_nuclei_are_found_with_a_second_model(pairs: Outcome) -> None:
    nuclei = at(pairs, "Found", *FOUND)
    assert sorted(nuclei) == [1, 2, 3, 4, 5, 6]
    of_one, first_of_two, second_of_two, outside, of_left, of_right = nuclei
    empty, one, two, left, right = (n - 1 for n in at(pairs, "OfFound", *CELLS))
    parents = column(pairs, "OfFound", "Parent_Found")
    assert [parents[cell] for cell in (empty, one, left, right)] == [0, of_one, of_left, of_right]
    assert parents[two] in {first_of_two, second_of_two}
    counts = column(pairs, "OfFound", "CellSeg_NucleiCount")
    assert [counts[cell] for cell in (empty, one, two, left, right)] == [0, 1, 2, 1, 1]
    children = column(pairs, "Found", "Children_OfFound_Count")
    assert children[outside - 1] == 0
    assert sum(children) == 4


def test_planes_that_are_not_linked_are_not_for_nuclei_either(host: Host, tmp_path: Path) -> None:
    images = write(tmp_path / "images", {"a": np.stack([draw_disks(PLACES)] * 2)})
    outcome = host.run("pairs-in-planes", images, tmp_path / "out")
    assert outcome.code == 0, outcome.log
    first, second = outcome.labels("NucleiOfCells")
    assert not np.intersect1d(first[first > 0], second[second > 0]).size
    assert outcome.labels("Cells").max() == 2 * len(PLACES)
    assert 0 not in column(outcome, "Cells", "Parent_NucleiOfCells")


def test_only_pairs_are_kept_when_asked(pairs: Outcome) -> None:
    assert len(pairs.table("OnlyOfKnown")) == 3
    assert 0 not in column(pairs, "OnlyOfKnown", "Parent_Known")
    assert at(pairs, "OnlyOfFound", EMPTY) == [0]
    assert at(pairs, "OnlyFound", OUTSIDE) == [0]
    assert pairs.labels("OnlyOfFound").max() == 4
    assert pairs.labels("OnlyFound").max() == 5
    parents = column(pairs, "OnlyOfFound", "Parent_OnlyFound")
    cells = at(pairs, "OnlyOfFound", ONE, LEFT, RIGHT)
    assert [parents[cell - 1] for cell in cells] == at(pairs, "OnlyFound", ONE, LEFT, RIGHT)


def test_measurements_of_both_are_written(pairs: Outcome) -> None:
    (row,) = pairs.table("Image")
    for name in ("OfFound", "Found"):
        assert float(row[f"Count_{name}"]) == pairs.labels(name).max()
        assert row[f"CellSeg_Model_{name}"] == "nuclei"
    assert "CellSeg_MeanProbability" in pairs.columns("Found")
    assert "CellSeg_NucleiCount" not in pairs.columns("Found")
