"""ROIs have the pixels that ImageJ fills, and areas with a common edge share none.

The masks were made with ImageJ 1.54p: ``new RoiDecoder(path).getRoi()``, and ``ByteProcessor.fill``
with it in an image of 60 x 60 px.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roifile import ImagejRoi

from cellseg_engine.train.roi_drawing import draw_roi, fill_outlines

GOLDEN = Path(__file__).with_name("golden") / "imagej_masks.npz"
SHAPE = (60, 60)
KINDS = {
    *("polygon", "half", "float", "interpolated", "spline", "beyond"),
    *("ring", "union", "ellipse", "rotated", "rounded", "subpixel_rect"),
    *("oval", "subpixel_oval"),
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def draw(roi: ImagejRoi, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    region = draw_roi(roi, shape)
    mask = np.zeros(shape, bool)
    mask[region.window] = region.mask
    return mask


def test_every_golden_kind_is_tested(golden: dict[str, np.ndarray]) -> None:
    assert {name.rpartition("_")[0].rpartition("_")[0] for name in golden} == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_pixels_are_those_of_imagej(golden: dict[str, np.ndarray], kind: str) -> None:
    cases = [name.removesuffix("_roi") for name in golden if name.startswith(f"{kind}_")]
    cases = [case for case in cases if not case.endswith("_mask")]
    assert len(cases) == 6
    for case in cases:
        expected = np.unpackbits(golden[f"{case}_mask"]).reshape(SHAPE).astype(bool)
        drawn = draw(ImagejRoi.frombytes(golden[f"{case}_roi"].tobytes()))
        np.testing.assert_array_equal(drawn, expected, case)
        part = draw(ImagejRoi.frombytes(golden[f"{case}_roi"].tobytes()), (31, 27))
        np.testing.assert_array_equal(part, expected[:31, :27], f"{case} in a smaller image")


def test_what_shares_an_edge_shares_no_pixel() -> None:
    corners = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float64)
    first, second = (fill_outlines([corners[list(of)]], (10, 10)) for of in ((0, 1, 3), (1, 2, 3)))
    assert (first.sum(), second.sum()) == (55, 45)
    assert (first ^ second).all()
    # Through the centres: they belong to the left of an edge, and to what is above it.
    half = fill_outlines([np.array([[2.5, 2.5], [7.5, 2.5], [7.5, 7.5], [2.5, 7.5]])], (10, 10))
    assert [part.tolist() for part in np.nonzero(half.any(axis=1))] == [[3, 4, 5, 6, 7]]
    np.testing.assert_array_equal(half, half.T)


points = st.tuples(st.integers(-4, 24), st.integers(-4, 24))


@given(st.lists(points, min_size=4, max_size=4, unique=True), points)
def test_triangles_around_a_point_make_up_their_polygon(
    corners: list[tuple[int, int]], middle: tuple[int, int]
) -> None:
    """Also where they overlap: pixels inside an even number of them are outside of the polygon."""
    whole = fill_outlines([np.array(corners) / 2], (12, 12))
    parts = [
        fill_outlines([np.array([corners[n - 1], corners[n], middle]) / 2], (12, 12))
        for n in range(4)
    ]
    np.testing.assert_array_equal(np.logical_xor.reduce(parts), whole)


def test_no_outline_has_no_pixels() -> None:
    assert fill_outlines([], (3, 4)).shape == (3, 4)
    assert not fill_outlines([np.array([[1.0, 1.0], [9.0, 1.0], [4.0, 1.0]])], (3, 4)).any()
