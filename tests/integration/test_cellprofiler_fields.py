"""What IdentifyCells makes of images: masks, bit depths, stacks, discards, extra images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import skimage.io
import tifffile

from cellseg_engine import segment
from tests.integration.cellprofiler_host import (
    EXAMPLES,
    Host,
    Outcome,
    find_python,
    get_host,
    match,
)
from tests.integration.cellprofiler_images import DISK_PX, FIELD, PLACES, draw_disks, write
from tests.integration.cli import Cli

PLANES_OF_DISKS = ((28, 30, range(5)), (28, 90, range(1, 4)), (80, 40, range(2)), (84, 100, [3, 4]))
"""Place of each disk of the stack, and the planes it lies in."""


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Host:
    return get_host(request, tmp_path_factory)


@pytest.fixture(scope="module")
def field(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run the pipeline that looks at one field in many ways."""
    folder = tmp_path_factory.mktemp("field")
    image = draw_disks(PLACES)
    channels = {"a_dna": image, "a_low": image, "a_high": image * 16}
    outcome = host.run("everything", write(folder / "images", channels), folder / "out")
    assert outcome.code == 0, outcome.log
    return outcome


@pytest.fixture(scope="module")
def stack(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run the pipeline for stacks on upright columns of disks."""
    folder = tmp_path_factory.mktemp("stack")
    planes = [
        draw_disks([(y, x) for y, x, planes in PLANES_OF_DISKS if z in planes], seed=z)
        for z in range(5)
    ]
    outcome = host.run("stacks", write(folder / "images", {"a": np.stack(planes)}), folder / "out")
    assert outcome.code == 0, outcome.log
    return outcome


def objects(labels: np.ndarray) -> list[frozenset[int]]:
    """Give each object as the set of its pixels."""
    flat = labels.ravel()
    return [frozenset(np.flatnonzero(flat == n)) for n in range(1, int(flat.max()) + 1)]


def test_the_disks_are_found(field: Outcome) -> None:
    labels = field.labels("Plain")
    assert labels.shape == FIELD
    assert (
        sorted(labels[y, x] for y, x in PLACES)
        == [1, 2, 3, 4, 5, 6, 7]
        == list(np.unique(labels[labels > 0]))
    )


def test_a_mask_hides_what_is_outside_and_cuts_objects(field: Outcome) -> None:
    mask, inside = field.array("Mask"), field.labels("Inside")
    assert 0 < mask.sum() < mask.size
    assert inside.max() > 2
    assert not inside[~mask].any()
    assert not field.array("Masked")[~mask].any()


def test_objects_at_the_border_of_a_mask_are_discarded_when_asked(field: Outcome) -> None:
    mask = field.array("Mask")
    rim = mask & ~scipy.ndimage.binary_erosion(mask)
    at_rim = frozenset(np.flatnonzero(rim))
    everything = objects(field.labels("Inside"))
    whole = {pixels for pixels in everything if not pixels & at_rim}
    assert 0 < len(whole) < len(everything)
    assert set(objects(field.labels("Whole"))) == whole


def test_objects_at_the_border_of_the_image_are_discarded_when_asked(field: Outcome) -> None:
    plain, edited = field.labels("Plain"), field.labels("Edited")
    at_border = set(plain[0]) | set(plain[-1]) | set(plain[:, 0]) | set(plain[:, -1])
    assert at_border - {0}
    kept = {p for n, p in enumerate(objects(plain), 1) if n not in at_border}
    assert set(objects(edited)) == kept


def test_secondary_objects_see_the_unedited_ones(field: Outcome) -> None:
    plain, edited, grown = (field.labels(name) for name in ("Plain", "Edited", "Grown"))
    discarded = (plain > 0) & (edited == 0)
    near = scipy.ndimage.distance_transform_edt(edited == 0) <= 12
    assert (discarded & near).sum() > 20, "no discarded object is in reach of one that grows"
    assert (grown > 0).sum() > (edited > 0).sum()
    assert not grown[discarded].any()


def test_neighbours_count_discarded_objects_too(field: Outcome) -> None:
    touching = field.labels("Edited")[PLACES[1]]
    rows = field.table("Edited")
    assert len(rows) == field.labels("Edited").max() > 2
    for row in rows:
        is_touching = int(row["Number_Object_Number"]) == touching
        assert float(row["Neighbors_NumberOfNeighbors_6"]) == is_touching


def test_12_bit_in_16_gives_the_same_as_the_full_range(field: Outcome) -> None:
    low, high = field.labels("FromLow"), field.labels("FromHigh")
    assert low.max() == len(PLACES)
    assert np.array_equal(low, high)
    assert field.array("DNA").max() < 4096 / 65535


def test_probability_and_flow_are_images(field: Outcome) -> None:
    probability, labels = field.array("CellProbability"), field.labels("Plain")
    assert probability.dtype == np.float32
    assert probability.shape == FIELD
    assert 0 <= probability.min() < 0.1
    assert 0.9 < probability.max() <= 1
    assert probability[labels > 0].mean() > 0.9
    assert probability[labels == 0].mean() < 0.2
    flow = skimage.io.imread(field.out / "CellFlow_0001.png")
    assert flow.shape == (*FIELD, 3)
    assert len(np.unique(flow[labels > 0] // 64, axis=0)) > 10, "flows point in all directions"


def test_labels_are_those_of_cellseg_segment(
    host: Host, cli: Cli, shared: Path, tmp_path: Path
) -> None:
    human = shared / "examples/ExampleHuman/images/AS_09125_050116030001_D03f00d0.tif"
    fly = shared / "examples/ExampleFly/images/01_POS076_D.TIF"
    crops = {
        "a": tifffile.imread(human)[100:228, 60:200],
        "b": tifffile.imread(fly)[251:379, 501:629],
        "c": draw_disks(PLACES),
    }
    (outcome,) = host.run_all([("basic", write(tmp_path / "images", crops))], tmp_path / "out")
    assert outcome.code == 0, outcome.log
    seen = tmp_path / "seen"
    for number, name in enumerate(crops, 1):
        image = outcome.array("DNA", number)
        assert image.dtype == np.float32
        write(seen, {name: image})
    options = ("--diameter-px", DISK_PX, "--min-area-px", 0, "--outputs", "labels")
    assert cli("segment", seen, "--out", tmp_path / "results", *options).code == 0
    for number, name in enumerate(crops, 1):
        labels = tifffile.imread(tmp_path / "results" / f"{name}_labels.tif")
        assert labels.max() > 3
        assert np.array_equal(outcome.labels("Nuclei", number), labels)


def test_a_stack_has_one_object_for_all_planes_of_a_disk(stack: Outcome) -> None:
    labels = stack.labels("Nuclei")
    assert labels.shape == (5, *FIELD)
    assert labels.max() == len(PLANES_OF_DISKS)
    for y, x, planes in PLANES_OF_DISKS:
        column = labels[:, y, x]
        assert list(np.flatnonzero(column)) == list(planes)
        assert len(set(column[list(planes)])) == 1


def test_a_stack_is_measured_as_one(stack: Outcome) -> None:
    assert len(stack.table("Nuclei")) == len(PLANES_OF_DISKS)
    volumes = np.bincount(stack.labels("Nuclei").ravel())[1:]
    for row, volume in zip(stack.table("Nuclei"), volumes, strict=True):
        assert float(row["AreaShape_Volume"]) == volume
        planes = next(
            planes
            for y, x, planes in PLANES_OF_DISKS
            if abs(float(row["Location_Center_X"]) - x) < 4
            and abs(float(row["Location_Center_Y"]) - y) < 4
        )
        assert float(row["Location_Center_Z"]) == pytest.approx(np.mean(list(planes)), abs=0.3)


def test_a_stack_as_one_volume_has_the_depth_of_namesandtypes(host: Host, tmp_path: Path) -> None:
    z, y, x = np.mgrid[:10, :70, :80]
    image = 200 + np.random.default_rng(0).normal(0, 10, z.shape)
    for cz, cy, cx in ((4, 20, 22), (5, 45, 55)):
        distance = ((2 * (z - cz)) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / (DISK_PX / 2) ** 2
        image += 3000 * np.exp(-(distance**4))
    pixels = np.clip(image, 0, 4095).astype(np.uint16)
    outcome = host.run("volumes", write(tmp_path / "images", {"a": pixels}), tmp_path / "out")
    assert outcome.code == 0, outcome.log
    values = {"volume_mode": "fuse", "anisotropy": 2, "diameter_px": DISK_PX, "min_volume_px": 0}
    # CellProfiler hands over intensities divided by 65535.
    expected = segment((pixels / 65535).astype(np.float32), "ZYX", {**values, "device": "cpu"})
    assert expected.n_objects == 2
    labels = outcome.labels("Nuclei")
    assert match(expected.labels, labels, 0.9) == (2, 2)
    for row, volume in zip(outcome.table("Nuclei"), np.bincount(labels.ravel())[1:], strict=True):
        assert float(row["AreaShape_Volume"]) == volume
        assert float(row["CellSeg_FlowError"]) < 0.4


def test_both_models_of_a_volume_are_recorded(host: Host, tmp_path: Path) -> None:
    text = host.pipeline("volumes").read_text(encoding="utf-8")
    path = tmp_path / "two.cppipe"
    path.write_text(text.replace("side views:same", "side views:generalist"), encoding="utf-8")
    images = write(tmp_path / "images", {"a": np.stack([draw_disks([(20, 20)], (40, 44))] * 4)})
    (outcome,) = host.run_all([(path, images)], tmp_path / "out")
    assert outcome.code == 0, outcome.log
    (row,) = outcome.table("Image")
    assert row["CellSeg_Model_Nuclei"] == "nuclei and generalist"
    assert len(row["CellSeg_WeightsSHA256_Nuclei"].split()) == 2


def test_the_example_for_stacks_on_a_real_one(host: Host, shared: Path, tmp_path: Path) -> None:
    find_python("3.9")  # on 3.11 CellProfiler can neither measure flat objects nor save a stack
    folder = shared / "data/volumes/val"
    image = tifffile.imread(folder / "img3d_img.tif")
    truth = tifffile.imread(folder / "img3d_masks.tif")
    images = write(tmp_path / "images", {"a": image})
    outcome = host.run(EXAMPLES / "NucleiInStacks.cppipe", images, tmp_path / "out")
    assert outcome.code == 0, outcome.log
    labels = tifffile.imread(tmp_path / "out" / "NucleiLabels_0001.tiff")
    assert labels.shape == truth.shape
    assert len(outcome.table("Nuclei")) == len(np.unique(labels)) - 1
    assert labels.max() <= truth.max(), "a nucleus of several planes is one object"
    found, _ = match(truth, labels)
    assert found >= 15


def test_a_diameter_may_be_a_measurement(host: Host, tmp_path: Path) -> None:
    images = write(tmp_path / "images", {"a": draw_disks(PLACES)})
    (outcome,) = host.run_all([("measured", images)], tmp_path / "out")
    assert outcome.code == 0, outcome.log
    (row,) = outcome.table("Image")
    assert float(row["CellSeg_DiameterUsed_Nuclei"]) == DISK_PX
    assert float(row["Count_Nuclei"]) == float(row["Count_First"]) == len(PLACES)
