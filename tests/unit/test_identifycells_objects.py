"""Which of the engine's objects become the module's: properties and cases by hand."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conftest import ROOT

sys.path.append(str(ROOT / "cellprofiler_modules"))  # as CellProfiler does
from _cellseg.objects import border, edit, fill_outside, pair, renumber, size_of

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=8)


@st.composite
def labels_and_mask(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray | None]:
    """Give labels with gaps in their ids, and a mask or none."""
    shape = draw(SHAPES)
    labels = draw(hnp.arrays(np.uint16, shape, elements=st.sampled_from([0, 0, 1, 2, 5, 9])))
    mask = draw(st.one_of(st.none(), hnp.arrays(bool, shape)))
    return labels, mask


@st.composite
def two_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Give two label images of one shape, ids 1 to n."""
    shape = draw(SHAPES)
    pairs = []
    for _ in range(2):
        raw = draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 4)))
        exists = np.bincount(raw.ravel(), minlength=5) > 0
        exists[0] = False
        pairs.append(renumber(raw, exists))
    return pairs[0], pairs[1]


@given(
    labels_and_mask(),
    st.booleans(),
    st.sampled_from([None, (0.0, 2.0), (1.5, 3.0), (2.0, 99.0)]),
)
def test_the_three_label_images_agree(
    field: tuple[np.ndarray, np.ndarray | None],
    discard_border: bool,
    size_range: tuple[float, float] | None,
) -> None:
    labels, mask = field
    before = labels.copy()
    edited = edit(labels, mask, size_range, discard_border)
    assert np.array_equal(labels, before), "the engine's labels are not changed"
    inside = labels if mask is None else np.where(mask, labels, 0)
    assert np.array_equal(edited.unedited, inside)
    ids = np.unique(edited.segmented)
    assert np.array_equal(ids[ids > 0], np.arange(1, edited.kept.size + 1))
    for number, engine_id in enumerate(edited.kept, 1):
        assert np.array_equal(edited.segmented == number, edited.unedited == engine_id)
    for part in (edited.small_removed, edited.by_size, edited.by_border):
        assert np.array_equal(part[part > 0], edited.unedited[part > 0])
    counted = (edited.segmented > 0).astype(int) + (edited.by_size > 0) + (edited.by_border > 0)
    assert np.array_equal(counted, (edited.unedited > 0).astype(int)), "each pixel goes one way"


@given(labels_and_mask())
def test_nothing_is_discarded_unless_asked(field: tuple[np.ndarray, np.ndarray | None]) -> None:
    labels, mask = field
    edited = edit(labels, mask, None, False)
    assert np.array_equal(edited.segmented > 0, edited.unedited > 0)
    assert not edited.by_size.any()
    assert not edited.by_border.any()


def test_sizes_are_those_of_disks_and_balls() -> None:
    assert size_of(10, 2) == pytest.approx(78.53981634)
    assert size_of(10, 3) == pytest.approx(523.5987756)


@pytest.mark.parametrize("shape", [(9, 20), (9, 9, 20)])
def test_the_limits_themselves_are_allowed(shape: tuple[int, ...]) -> None:
    labels = np.zeros(shape, np.uint16)
    flat = labels.reshape(-1)
    flat[:8], flat[20:29], flat[40:50] = 1, 2, 3
    power = len(shape)
    factor = math.pi / (4 if power == 2 else 6)
    lowest, highest = ((n / factor) ** (1 / power) for n in (9, 10))
    edited = edit(labels, None, (lowest * (1 - 1e-9), highest * (1 + 1e-9)), False)
    assert list(edited.kept) == [2, 3]
    assert set(np.unique(edited.small_removed)) == {0, 2, 3}
    assert set(np.unique(edited.by_size)) == {0, 1}


def test_large_objects_stay_among_those_that_are_not_small() -> None:
    labels = np.zeros((10, 10), np.uint16)
    labels[0, 0], labels[2:8, 2:8] = 1, 2
    edited = edit(labels, None, (2, 4), False)
    assert edited.kept.size == 0
    assert set(np.unique(edited.small_removed)) == {0, 2}
    assert set(np.unique(edited.by_size)) == {0, 1, 2}


def test_objects_at_the_border_go_but_modules_still_see_them() -> None:
    labels = np.zeros((10, 10), np.uint16)
    labels[0:3, 4:6], labels[5:8, 5:8], labels[4:6, 9] = 3, 4, 8
    edited = edit(labels, None, None, True)
    assert list(edited.kept) == [4]
    assert np.array_equal(edited.segmented == 1, labels == 4)
    assert set(np.unique(edited.by_border)) == {0, 3, 8}
    assert np.array_equal(edited.unedited, labels)
    assert np.array_equal(edited.small_removed, labels)


def test_first_and_last_planes_are_no_border() -> None:
    labels = np.zeros((3, 6, 6), np.uint16)
    labels[0, 2, 2], labels[2, 3, 3], labels[1, 0, 3] = 1, 2, 3
    assert list(edit(labels, None, None, True).kept) == [1, 2]


def test_an_object_cut_by_the_mask_touches_its_border_in_every_plane() -> None:
    labels = np.zeros((2, 9, 9), np.uint16)
    labels[:, 3:6, 1:4], labels[:, 4, 6] = 1, 2
    mask = np.zeros(labels.shape, bool)
    mask[:, 1:8, 2:8] = True
    edited = edit(labels, mask, None, True)
    assert list(edited.kept) == [2]
    assert not edited.unedited[~mask].any()
    assert (edited.unedited == 1).sum() == 2 * 3 * 2


@given(SHAPES)
def test_the_border_without_a_mask_is_the_frame(shape: tuple[int, ...]) -> None:
    found = border(shape, None)
    assert found.shape == shape
    inner = np.zeros(shape, bool)
    inner[..., 1:-1, 1:-1] = True
    assert np.array_equal(found, ~inner)


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=9)))
def test_the_border_of_a_mask_lies_in_it_and_beside_what_is_outside(mask: np.ndarray) -> None:
    frame = border(mask.shape, None)
    found = border(mask.shape, mask) & ~frame
    beside = scipy.ndimage.binary_dilation(~mask)
    assert np.array_equal(found, mask & beside & ~frame)


@given(two_labels())
def test_pairs_follow_their_definition(both: tuple[np.ndarray, np.ndarray]) -> None:
    cells, nuclei = both
    pairs = pair(cells, nuclei)
    assert pairs.cell_of_nucleus.shape == (nuclei.max(initial=0),)
    assert pairs.nucleus_of_cell.shape == pairs.nuclei_in_cell.shape == (cells.max(initial=0),)
    shared = np.zeros((nuclei.max(initial=0) + 1, cells.max(initial=0) + 1), int)
    np.add.at(shared, (nuclei.ravel(), cells.ravel()), 1)
    sizes = shared.sum(1)
    for nucleus, cell in enumerate(pairs.cell_of_nucleus, 1):
        holders = [c for c in range(1, shared.shape[1]) if 2 * shared[nucleus, c] >= sizes[nucleus]]
        assert (cell in holders) if holders else cell == 0
    for cell, nucleus in enumerate(pairs.nucleus_of_cell, 1):
        held = [n for n, c in enumerate(pairs.cell_of_nucleus, 1) if c == cell]
        assert pairs.nuclei_in_cell[cell - 1] == len(held)
        if held:
            assert nucleus in held
            assert shared[nucleus, cell] == max(shared[n, cell] for n in held)
        else:
            assert nucleus == 0


def test_cells_with_no_one_and_two_nuclei_and_one_outside() -> None:
    cells = np.repeat([[1, 2, 3, 0]], 4, axis=0).repeat(8, axis=1)
    nuclei = np.zeros_like(cells)
    nuclei[0, 9:12], nuclei[0, 17:19], nuclei[2, 18:22], nuclei[1, 26:29] = 1, 2, 3, 4
    pairs = pair(cells, nuclei)
    assert list(pairs.cell_of_nucleus) == [2, 3, 3, 0]
    assert list(pairs.nucleus_of_cell) == [0, 1, 3]
    assert list(pairs.nuclei_in_cell) == [0, 1, 2]


def test_half_and_half_belongs_to_the_first_cell_only() -> None:
    cells = np.array([[1, 1, 2, 2]])
    pairs = pair(cells, np.array([[0, 1, 1, 0]]))
    assert list(pairs.cell_of_nucleus) == [1]
    assert list(pairs.nucleus_of_cell) == [1, 0]
    assert list(pairs.nuclei_in_cell) == [1, 0]


def test_less_than_half_inside_is_no_pair() -> None:
    pairs = pair(np.array([[1, 1, 0, 0, 0]]), np.array([[0, 1, 1, 1, 0]]))
    assert list(pairs.cell_of_nucleus) == [0]
    assert list(pairs.nuclei_in_cell) == [0]


def test_nothing_to_pair() -> None:
    nothing = np.zeros((4, 4), np.int32)
    assert [part.size for part in pair(nothing, nothing)] == [0, 0, 0]


def test_outside_of_a_mask_is_the_median_of_its_inside() -> None:
    pixels = np.array([[1, 2, 9], [3, 50, 60]], np.float32)
    mask = np.array([[True, True, False], [True, False, False]])
    filled = fill_outside(pixels, mask)
    assert filled.dtype == np.float32
    assert np.array_equal(filled, [[1, 2, 2], [3, 2, 2]])
    assert pixels[0, 2] == 9
    assert not fill_outside(pixels, np.zeros_like(mask)).any()
