"""Views of training images: the vectors turn with the image."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.train.augment import SCALE_RANGE, View, apply_view, draw_view, plain_view
from tests.unit.plain import blobs

LABELS = blobs(96, 32, seed=3)
FLOWS = labels_to_flows(LABELS)
PIXELS = np.random.default_rng(0).normal(size=(2, 96, 96)).astype(np.float32)


def interior(labels: np.ndarray, margin: int = 3) -> np.ndarray:
    """Give the pixels that are at least ``margin`` from the rim of their object and the edge."""
    padded = np.pad(labels, 1)
    rim = ndimage.maximum_filter(padded, 3) != ndimage.minimum_filter(padded, 3)
    distance = ndimage.distance_transform_edt(~rim)[1:-1, 1:-1]
    return np.asarray((labels > 0) & (distance > margin))


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(0, 2 * np.pi),
    scale=st.floats(0.9, 2.0),
    flip=st.booleans(),
    shift=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_flows_of_the_view_are_the_view_of_the_flows(
    angle: float, scale: float, flip: bool, shift: tuple[float, float]
) -> None:
    # Larger than what is seen, so that no object is cut where it is compared.
    view = View(angle, scale, flip, shift, 300)
    _, labels, turned = apply_view(view, PIXELS, LABELS, FLOWS)
    anew = labels_to_flows(labels)
    where = interior(labels)
    cosine = (turned * anew).sum(0)[where]
    assert where.sum() > 1000
    # Near its middle an object's vectors change from pixel to pixel.
    assert np.median(cosine) > 0.98
    assert np.mean(cosine > 0.8) > 0.9


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_quarter_turns_and_mirrors_are_exact(quarters: int, flip: bool) -> None:
    view = View(quarters * np.pi / 2, 1.0, flip, (0.0, 0.0), 96)
    pixels, labels, turned = apply_view(view, PIXELS, LABELS, FLOWS)

    def expected(image: np.ndarray) -> np.ndarray:
        mirrored = image[..., ::-1] if flip else image
        # From y towards x is np.rot90's own direction.
        return np.rot90(mirrored, quarters, axes=(-2, -1))

    np.testing.assert_array_equal(labels, expected(LABELS))
    np.testing.assert_allclose(pixels, expected(PIXELS), atol=1e-5)
    y, x = expected(FLOWS)
    if flip:
        x = -x
    for _ in range(quarters):
        y, x = -x, y
    np.testing.assert_allclose(turned, np.stack([y, x]), atol=1e-5)


def test_a_view_is_what_scipy_makes_of_it() -> None:
    view = View(0.7, 1.3, True, (0.3, -0.2), 40)
    pixels, labels, turned = apply_view(view, PIXELS, LABELS, FLOWS)
    matrix = view.matrix()
    room = np.maximum(0, 96 * 1.3 - 40) / 1.3
    centre = 47.5 + np.array(view.shift) * room
    grid = np.indices((40, 40)).reshape(2, -1) - 19.5
    places = centre[:, None] + matrix.T @ grid / 1.3

    def sample(image: np.ndarray, order: Literal[0, 1]) -> np.ndarray:
        out = ndimage.map_coordinates(image, places, order=order, mode="grid-constant")
        return np.asarray(out).reshape(40, 40)

    np.testing.assert_allclose(pixels[1], sample(PIXELS[1], 1), atol=1e-4)
    assert np.mean(labels == sample(LABELS, 0)) > 0.999
    flows = np.stack([sample(FLOWS[0], 1), sample(FLOWS[1], 1)])
    np.testing.assert_allclose(turned, np.einsum("ij,jyx->iyx", matrix, flows), atol=1e-4)


def test_outside_of_the_image_there_is_nothing() -> None:
    small = np.ones((1, 10, 10), np.float32)
    view = plain_view(1.0, 30)
    pixels, labels, flows = apply_view(
        view, small, np.ones((10, 10), np.int32), np.ones((2, 10, 10), np.float32)
    )
    assert pixels.sum() == 100
    assert labels[10:20, 10:20].all() and labels.sum() == 100
    assert flows[:, 0].sum() == 0


@given(seed=st.integers(0, 1000), common=st.floats(0.2, 5))
def test_drawn_views_keep_to_their_limits(seed: int, common: float) -> None:
    view = draw_view(np.random.default_rng(seed), common_scale=common, crop_px=224)
    low, high = SCALE_RANGE
    assert low * common <= view.scale <= high * common
    assert 0 <= view.angle <= 2 * np.pi
    assert all(-0.5 <= part <= 0.5 for part in view.shift)
    assert np.allclose(view.matrix() @ view.matrix().T, np.eye(2))


def test_views_are_mirrored_in_half_of_the_cases() -> None:
    rng = np.random.default_rng(1)
    flips = [draw_view(rng, common_scale=1, crop_px=224).flip for _ in range(2000)]
    assert 0.45 < np.mean(flips) < 0.55


def test_an_unrotated_view_reaches_the_borders_and_not_further() -> None:
    ramp = np.broadcast_to(np.arange(1.0, 97, dtype=np.float32), (1, 96, 96)).copy()
    for shift, first, last in ((-0.5, 1, 40), (0.5, 57, 96)):
        view = View(0.0, 1.0, False, (0.0, shift), 40)
        shown = apply_view(view, ramp, LABELS, FLOWS)[0][0]
        assert shown[0, 0] == pytest.approx(first, abs=0.51)
        assert shown[0, -1] == pytest.approx(last, abs=0.51)
        assert shown.min() > 0
