"""Axes: every order of every subset comes back the same, and nonsense is refused by name."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg_client.errors import RefusedError
from cellseg_client.exchange import check_array
from cellseg_engine.core.axes import check_axes, check_finite, to_planes
from cellseg_engine.errors import AxesError, ImageError

SIZES = {"T": 2, "Z": 3, "C": 4, "Y": 5, "X": 6}
ORDERS = [
    "".join(order)
    for extra in itertools.chain.from_iterable(itertools.combinations("TZC", n) for n in range(4))
    for order in itertools.permutations((*extra, "Y", "X"))
]


@given(st.sampled_from(ORDERS))
def test_every_order_reads_the_same_pixels(axes: str) -> None:
    canonical = np.arange(720).reshape(2, 3, 4, 5, 6)
    index = tuple(slice(None) if letter in axes else 0 for letter in "TZCYX")
    kept = [letter for letter in "TZCYX" if letter in axes]
    image = canonical[index].transpose([kept.index(letter) for letter in axes])
    stack = to_planes(image, axes)
    np.testing.assert_array_equal(
        stack.pixels, canonical[tuple(slice(0, None if i == slice(None) else 1) for i in index)]
    )
    assert stack.axes == "".join(letter for letter in "TZYX" if letter in axes)
    assert stack.label_shape == tuple(SIZES[letter] for letter in stack.axes)
    assert len(list(stack.planes())) == stack.n_planes


def test_colour_samples_become_channels_and_alpha_is_dropped() -> None:
    image = np.arange(5 * 6 * 4).reshape(5, 6, 4)
    stack = to_planes(image, "YXS")
    assert stack.is_rgb
    np.testing.assert_array_equal(stack.pixels[0, 0], image[..., :3].transpose(2, 0, 1))


def test_lower_case_axes_are_understood() -> None:
    assert check_axes("zyx", (2, 3, 4)) == "ZYX"


@pytest.mark.parametrize(
    ("axes", "shape", "words"),
    [
        (None, (2, 3, 4), "3 dimensions (2, 3, 4) and nothing says"),
        (None, (1, 2, 3, 4, 5), "5 dimensions"),
        ("YXX", (2, 3, 4), "not understood"),
        ("YQ", (2, 3), "not understood"),
        ("ZY", (2, 3), "not understood"),
        ("ZYX", (2, 3), "name 3 dimensions but the image has 2"),
        ("CYXS", (2, 3, 4, 3), "both channels (C) and colour samples (S)"),
        ("YXS", (2, 3, 2), "3 samples"),
    ],
)
def test_wrong_axes_are_refused(axes: str | None, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(AxesError, match=None) as caught:
        to_planes(np.zeros(shape), axes)
    assert words in str(caught.value)


def test_images_without_pixels_or_numbers_are_refused() -> None:
    with pytest.raises(ImageError, match="no pixels: its shape is"):
        to_planes(np.zeros((0, 5)))
    with pytest.raises(ImageError, match="dtype complex128"):
        to_planes(np.zeros((2, 2), complex))


def test_masked_pixels_are_refused_and_an_empty_mask_is_not() -> None:
    image = np.ma.masked_greater(np.arange(4.0).reshape(2, 2), 2)
    for refuse, error in ((to_planes, ImageError), (check_array, RefusedError)):
        with pytest.raises(error, match=r"masked pixels \(1 of 4\)"):
            refuse(image)
    whole = np.ma.masked_greater(image.data, 9)
    assert to_planes(whole).pixels.shape == (1, 1, 1, 2, 2)
    assert check_array(whole).shape == (2, 2)


def test_pixels_that_are_not_finite_are_counted() -> None:
    image = np.zeros((4, 4))
    image[0, :2] = np.nan
    image[1, 1] = -np.inf
    with pytest.raises(ImageError, match=r"3 pixels that are NaN or infinite \(of 16\)"):
        check_finite(image)
    check_finite(np.zeros((2, 2), np.uint8))
