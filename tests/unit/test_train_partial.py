"""Images that are annotated in a part only: what lies outside teaches nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.core.labels import NOT_ANNOTATED, keep_annotated
from cellseg_engine.core.overlaps import Region
from cellseg_engine.train.annotations import clean_labels
from cellseg_engine.train.augment import View, apply_view
from cellseg_engine.train.batches import BatchMaker
from cellseg_engine.train.dataset import TrainingImage, image_sha256
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.losses import losses
from cellseg_engine.train.part import Part, mark_part
from cellseg_engine.train.slices import _diameter_of_cuts
from tests.unit.plain import blobs

SIDE = 96
LABELS = blobs(SIDE, 32, seed=3)
PART = Part(30, 20, 40, 50)


def partial_image() -> TrainingImage:
    """An image of ones, of which a part is annotated."""
    marked, _ = mark_part(LABELS, PART, "a")
    clean = clean_labels(marked, "split")
    pixels = np.ones((1, SIDE, SIDE), np.float32)
    return TrainingImage(
        "a", "", "a", pixels, clean.labels, labels_to_flows(clean.labels), 17.0, clean.n_objects,
        image_sha256(pixels, clean.labels, clean.annotated), clean.annotated,
    )  # fmt: skip


def test_objects_that_reach_into_a_part_stay_whole() -> None:
    marked, n_left_out = mark_part(LABELS, PART, "a")
    inside = set(np.unique(LABELS[20:70, 30:70])) - {0}
    for number in np.unique(LABELS)[1:]:
        was = number == LABELS
        if number in inside:
            np.testing.assert_array_equal(marked[was], number)
        else:
            assert not (marked == number).any()
    assert n_left_out == len(np.unique(LABELS)) - 1 - len(inside) > 0
    assert (marked[20:70, 30:70] >= 0).all()
    outside = np.ones(LABELS.shape, bool)
    outside[20:70, 30:70] = False
    assert set(np.unique(marked[outside])) <= {NOT_ANNOTATED, *inside}


def test_a_part_reaches_over_the_border_as_selections_can() -> None:
    assert Part(-5, 90, 20, 20).within((96, 100), "a") == Part(0, 90, 15, 6)
    assert Part(0, 0, 100, 96).within((2, 96, 100), "a") == Part(0, 0, 100, 96)


@pytest.mark.parametrize("part", [Part(100, 0, 5, 5), Part(0, -9, 9, 9), Part(3, 96, 1, 1)])
def test_a_part_outside_the_image_is_refused(part: Part) -> None:
    with pytest.raises(TrainingDataError, match="lies outside a, which is 100 x 96 px"):
        part.within((96, 100), "a")


def test_a_part_without_objects_is_refused() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[15:] = 1
    with pytest.raises(TrainingDataError, match="None of the ROIs reaches into the rectangle"):
        mark_part(labels, Part(0, 0, 9, 9), "a")


def test_a_part_touches_objects_by_their_pixels() -> None:
    mask = np.zeros((10, 10), bool)
    mask[0, 0] = True
    mask[9, 9] = True
    region = Region(20, 30, mask)
    assert Part(39, 29, 5, 5).touches(region)
    assert Part(0, 0, 31, 21).touches(region)
    assert not Part(31, 21, 8, 8).touches(region), "in its box, between its pixels"
    assert not Part(40, 30, 9, 9).touches(region)


def test_labels_of_minus_one_are_not_annotated() -> None:
    labels = np.full((20, 30), NOT_ANNOTATED, np.int32)
    labels[5:15, 5:15] = 0
    labels[6:9, 6:9] = 7
    clean = clean_labels(labels, "split")
    assert clean.n_objects == 1
    np.testing.assert_array_equal(clean.labels, labels == 7)
    assert clean.annotated is not None
    np.testing.assert_array_equal(clean.annotated, labels >= 0)
    assert clean.remarks == ("17% of the image is annotated; the rest is not learned",)
    whole = clean_labels(np.maximum(labels, 0), "split")
    assert whole.annotated is None
    assert whole.remarks == ()
    assert image_sha256(labels[None], clean.labels, clean.annotated) != image_sha256(
        labels[None], clean.labels
    )


def test_views_lie_where_something_is_annotated() -> None:
    image = partial_image()
    for shift in ((-0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
        view = View(0.0, 1.0, False, shift, 32)
        _, labels, _ = apply_view(
            view, image.pixels, image.marked_labels, image.flows, image.annotated_area
        )
        rows, columns = image.annotated_area
        top = rows.start + round((shift[0] + 0.5) * (rows.stop - rows.start - 32))
        left = columns.start + round((shift[1] + 0.5) * (columns.stop - columns.start - 32))
        np.testing.assert_array_equal(labels, image.marked_labels[top : top + 32, left : left + 32])
    middle = View(0.0, 1.0, False, (0.5, 0.5), 90)  # larger than what is annotated
    _, labels, _ = apply_view(
        middle, image.pixels, image.marked_labels, image.flows, image.annotated_area
    )
    assert set(np.unique(labels)) == {NOT_ANNOTATED, *np.unique(image.labels)}


def test_batches_say_what_is_annotated() -> None:
    image = partial_image()
    maker = BatchMaker([image], 1, 17.0, 64, 2, seed=0, vary_intensity=True)
    batch = maker.make(np.array([0, 0]), 0, 0)
    assert batch.annotated is not None
    assert 0.2 < batch.annotated.mean() < 1
    assert (batch.annotated[batch.targets[:, 2] > 0] == 1).all()
    whole = replace(maker, images=[replace(image, annotated=None)])
    assert whole.make(np.array([0, 0]), 0, 0).annotated is None


def test_what_is_not_annotated_has_no_gradient() -> None:
    rng = np.random.default_rng(0)
    fields = torch.tensor(rng.normal(size=(2, 3, 8, 8)).astype(np.float32), requires_grad=True)
    targets = torch.tensor((rng.random((2, 3, 8, 8)) > 0.5).astype(np.float32))
    annotated = torch.zeros(2, 8, 8)
    annotated[:, :4] = 1
    both = losses(fields, targets, annotated)
    both.sum().backward()  # type: ignore[no-untyped-call]
    assert fields.grad is not None
    assert (fields.grad[:, :, 4:] == 0).all()
    assert (fields.grad[:, :, :4] != 0).any()
    torch.testing.assert_close(both, losses(fields[:, :, :4], targets[:, :, :4]))
    torch.testing.assert_close(
        losses(fields, targets, torch.ones(2, 8, 8)), losses(fields, targets)
    )
    assert losses(fields, targets, torch.zeros(2, 8, 8)).tolist() == [0, 0]


def test_found_objects_count_where_the_truth_is_known() -> None:
    annotated = np.zeros((20, 20), bool)
    annotated[:, :10] = True
    found = np.zeros((20, 20), np.int32)
    found[2:6, 2:6] = 1  # inside
    found[8:12, 8:12] = 2  # half
    found[15:18, 9:15] = 3  # a sixth
    kept = keep_annotated(found, annotated)
    assert set(np.unique(kept)) == {0, 1, 2}
    assert not (kept[found == 3]).any()
    assert keep_annotated(found, None) is found
    # Ids need no array of their own length, which would not fit into the memory.
    large = np.where(found > 0, found + 2_000_000_000, 0).astype(np.int32)
    np.testing.assert_array_equal(keep_annotated(large, annotated), kept)


def test_the_diameter_of_cuts_does_not_hang_on_the_ids() -> None:
    labels = np.zeros((60, 20, 20), np.int32)
    labels[:, 2:8, 2:8], labels[20:, 10:18, 10:18], labels[:, 19, 19] = 1, 2, -1
    expected = 6 * 2 / np.pi**0.5
    for ids in ((1, 2), (7, 3), (2_000_000_000, 2_147_483_647)):
        named = np.array([0, *ids, -1], np.int32)[labels]
        assert _diameter_of_cuts(named) == pytest.approx(expected)
    assert _diameter_of_cuts(np.zeros((3, 4, 4), np.int32)) == 0
