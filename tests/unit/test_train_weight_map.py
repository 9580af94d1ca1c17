"""How much each pixel counts in the losses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cellseg_engine.train.batches import BatchMaker
from cellseg_engine.train.losses import losses
from cellseg_engine.train.recipes import load_recipe
from cellseg_engine.train.weight_map import MAX_WEIGHT, SMALL_AREA_PX2, weight_map
from tests.unit.test_train_partial import partial_image


def labels_of(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    labels = np.zeros((64, 64), np.int32)
    for label, (top, bottom, left, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = label
    return labels


def test_small_objects_count_more_and_never_more_than_twice() -> None:
    weights = weight_map(labels_of((5, 13, 5, 15), (25, 45, 25, 45), (55, 57, 55, 57)))
    assert weights.dtype == np.float32
    assert weights[8, 8] == pytest.approx(np.sqrt(SMALL_AREA_PX2 / 80))
    assert weights[30, 30] == 1 and weights[0, 60] == 1
    assert weights[55, 55] == MAX_WEIGHT == weights.max()


def test_objects_that_the_border_cuts_are_not_small() -> None:
    assert (weight_map(labels_of((0, 6, 20, 26), (58, 64, 58, 64))) == 1).all()


def test_pixels_between_close_objects_count_twice() -> None:
    touching = weight_map(labels_of((10, 30, 10, 30), (10, 30, 30, 50)))
    assert (touching[12:28, 28:32] == MAX_WEIGHT).all() and (touching[12:28, 12:27] == 1).all()
    near = weight_map(labels_of((10, 30, 10, 30), (10, 30, 32, 50)))
    assert (near[12:28, 30:32] == MAX_WEIGHT).all()
    apart = weight_map(labels_of((10, 30, 10, 30), (10, 30, 36, 50)))
    assert (apart == 1).all()


def test_an_empty_view_counts_everywhere_alike() -> None:
    assert (weight_map(np.zeros((32, 32), np.int32)) == 1).all()


def test_batches_have_weights_and_none_where_nothing_is_annotated() -> None:
    maker = BatchMaker([partial_image()], 1, 17, 64, 2, 0, weight_map=True)
    batch = maker.make(np.array([0, 0]), 0, 0)
    assert batch.weights is not None
    assert batch.weights.min() == 0 and batch.weights.max() > 1
    plain = replace(maker, weight_map=False).make(np.array([0, 0]), 0, 0)
    assert plain.weights is not None
    np.testing.assert_array_equal(batch.weights > 0, plain.weights > 0)
    np.testing.assert_array_equal(batch.pixels, plain.pixels)


def test_the_loss_is_a_weighted_mean() -> None:
    fields, targets = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    targets[:, :, :2] = 1
    weights = torch.ones(1, 4, 4)
    weights[:, :2] = 3
    flows, _ = losses(fields, targets, weights)
    assert float(flows) == pytest.approx(0.5 * 25 * 3 / 4)


def test_only_the_recipe_of_shipped_models_weighs() -> None:
    assert load_recipe("shipped").weight_map
    assert not load_recipe("cellpose1").weight_map
