"""Objects of one view laid over another: whose pixels they are, and what is not known any more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.core.labels import NOT_ANNOTATED
from cellseg_engine.train.batches import BatchMaker
from cellseg_engine.train.overlay import Shown, overlay
from cellseg_engine.train.recipes import load_recipe, recipe_names
from tests.unit.test_train_partial import partial_image

SIDE = 64
Box = tuple[int, int, int, int]


def shown(boxes: list[Box], brightness: float, background: float = 0.0) -> Shown:
    labels = np.zeros((SIDE, SIDE), np.int32)
    for label, (top, bottom, left, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = label
    pixels = np.zeros((1, SIDE, SIDE), np.float32)
    pixels[0] = background + brightness * (labels > 0)
    return Shown(pixels, labels, labels_to_flows(labels))


def test_light_adds_up_and_backgrounds_do_not() -> None:
    lower, upper = shown([(5, 20, 5, 20)], 0.5, 0.1), shown([(30, 50, 30, 50)], 0.8, 0.3)
    both = overlay(lower, upper, 0.5, "v3")
    assert both.pixels.dtype == np.float32
    np.testing.assert_allclose(both.pixels[0, 32:48, 32:48], 0.1 + 0.5 * 0.8, atol=0.02)
    np.testing.assert_allclose(both.pixels[0, 6:19, 6:19], 0.6, atol=1e-6)
    np.testing.assert_allclose(both.pixels[0, 55:, 5:20], 0.1, atol=1e-6)


def test_apart_objects_keep_their_flows() -> None:
    lower, upper = shown([(5, 20, 5, 20)], 0.5), shown([(30, 50, 30, 50)], 0.8)
    both = overlay(lower, upper, 0.5, "v3")
    assert set(np.unique(both.labels)) == {0, 1, 2}
    np.testing.assert_array_equal(both.flows, lower.flows + upper.flows)


def test_the_brighter_object_has_the_pixels() -> None:
    dim, bright = shown([(10, 40, 10, 40)], 0.3), shown([(25, 50, 25, 50)], 0.9)
    for lower, upper, gain in ((dim, bright, 1.0), (bright, dim, 1.0)):
        both = overlay(lower, upper, gain, "v3")
        on_top = upper if upper is bright else lower
        owner = np.unique(both.labels[on_top.labels > 0])
        assert owner.size == 1
        crescent = (both.labels > 0) & (both.labels != owner[0])
        assert crescent.sum() == 30 * 30 - 15 * 15
        alone = labels_to_flows(crescent.astype(np.int32))
        np.testing.assert_array_equal(both.flows[:, crescent], alone[:, crescent])
        inside = on_top.labels > 0
        np.testing.assert_array_equal(both.flows[:, inside], on_top.flows[:, inside])


def test_what_is_left_of_a_hidden_object_is_not_annotated() -> None:
    lower, upper = shown([(10, 30, 10, 30)], 0.3), shown([(5, 27, 5, 50)], 0.9)
    both = overlay(lower, upper, 1.0, "v3")
    assert (both.labels[27:30, 10:30] == NOT_ANNOTATED).all()
    assert set(np.unique(both.labels)) == {NOT_ANNOTATED, 0, 2}


def test_a_part_cut_off_from_the_centre_is_not_annotated() -> None:
    lower, upper = shown([(10, 50, 10, 20)], 0.3), shown([(36, 42, 5, 50)], 0.9)
    both = overlay(lower, upper, 1.0, "v3")
    assert (both.labels[10:35, 10:20] == 1).all()
    assert (both.labels[42:50, 10:20] == NOT_ANNOTATED).all()
    assert both.flows[:, 12:34, 10:20].any(axis=0).mean() > 0.9


def test_views_without_objects_change_nothing() -> None:
    lower, upper = shown([(10, 30, 10, 30)], 0.3), shown([], 0.9, 0.2)
    assert overlay(lower, upper, 1.0, "v3") is lower
    both = overlay(upper, lower, 1.0, "v3")
    assert both.labels.max() == 1


def test_what_was_not_annotated_stays_so_unless_covered() -> None:
    lower, upper = shown([(10, 30, 10, 30)], 0.3), shown([(40, 50, 40, 50)], 0.9)
    lower.labels[35:] = NOT_ANNOTATED
    both = overlay(lower, upper, 1.0, "v3")
    assert (both.labels[40:50, 40:50] == 2).all()
    assert (both.labels[35:, :40] == NOT_ANNOTATED).all()


def test_batches_are_the_same_again_and_have_more_objects() -> None:
    image = replace(partial_image(), annotated=None)
    image = replace(image, pixels=(image.labels > 0)[np.newaxis].astype(np.float32))
    plain = BatchMaker([image], 1, 17.0, 64, 8, seed=0)
    laid = replace(plain, overlay_chance=1.0)
    order = np.zeros(8, int)
    first, again = laid.make(order, 0, 0), laid.make(order, 0, 0)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.targets, again.targets)
    assert first.targets[:, 2].sum() > 1.1 * plain.make(order, 0, 0).targets[:, 2].sum()


def test_only_our_own_recipe_lays_objects_over_others() -> None:
    laying = {name for name in recipe_names() if load_recipe(name).overlay_chance}
    assert laying == {"shipped"}


def test_objects_that_do_not_shine_are_not_laid_over_others() -> None:
    lower, upper = shown([(10, 30, 10, 30)], 0.3), shown([(40, 50, 40, 50)], 0.1, 0.4)
    assert overlay(lower, upper, 1.0, "v3") is lower
