"""Tiles: cutting and blending is the identity, and flips turn vectors rightly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_engine.core.rows import ArrayRows
from cellseg_engine.core.tiling import (
    MAX_TILE_PX,
    TILE_PX,
    Augmentation,
    TileBlender,
    TileCutter,
    TilePlan,
    Tiling,
    plan_tiles,
    taper_mask,
)

AUGMENTATIONS: list[Augmentation] = ["none", "flips", "paper"]


def tiles_of(image: np.ndarray, plan: TilePlan) -> Iterator[np.ndarray]:
    """Yield the tiles, all in one buffer, as the network gets them."""
    cutter = TileCutter(ArrayRows(image), plan)
    buffer = np.full((image.shape[0], *plan.tile_shape), np.nan, np.float32)
    for index in range(len(plan.tiles)):
        cutter.cut(index, buffer)
        yield buffer


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.floats(0.05, 0.5),
    st.sampled_from(AUGMENTATIONS),
    st.sampled_from(["fewest", "cellpose"]),
)
def test_cut_then_blend_is_the_identity(
    height: int, width: int, overlap: float, augmentation: Augmentation, tiling: Tiling
) -> None:
    image = np.random.default_rng(0).normal(size=(2, height, width)).astype(np.float32)
    plan = plan_tiles((height, width), overlap=overlap, augmentation=augmentation, tiling=tiling)
    blender = TileBlender(plan, 2, vector_channels=None)
    for index, tile in enumerate(tiles_of(image, plan)):
        blender.add(index, tile)
    np.testing.assert_allclose(blender.result(), image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_network_that_follows_the_picture_gives_the_same_vectors_in_flipped_tiles(
    augmentation: Augmentation,
) -> None:
    """The gradient of the pixels is such a network: flipping the picture flips its vectors."""
    y, x = np.mgrid[:300, :260].astype(np.float32)
    image = np.sin(y / 20) + np.cos(x / 15)
    plan = plan_tiles(image.shape, augmentation=augmentation)
    blender = TileBlender(plan, 2)
    for index, tile in enumerate(tiles_of(image[None], plan)):
        blender.add(index, np.stack(np.gradient(tile[0])))
    blended = blender.result()
    inner = (slice(None), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(blended[inner], np.stack(np.gradient(image))[inner], atol=2e-2)


def test_tiles_that_come_out_of_order_are_refused() -> None:
    plan = plan_tiles((512, 512), tiling="cellpose")
    blender = TileBlender(plan, 1, vector_channels=None)
    for index in range(4):
        blender.add(index, np.zeros((1, *plan.tile_shape)))
    with pytest.raises(ValueError, match="in the order of their plan"):
        blender.add(0, np.zeros((1, *plan.tile_shape)))


def test_official_grid() -> None:
    plan = plan_tiles((512, 512), tiling="cellpose")
    assert plan.padded_shape == (528, 528)
    assert plan.offset == (8, 8)
    assert [tile.y for tile in plan.tiles[::3]] == [0, 152, 304]
    assert len(plan_tiles((2048, 2048), tiling="cellpose").tiles) == 144
    small = plan_tiles((100, 180), tiling="cellpose")
    assert small.tile_shape == (128, 208)
    assert len(small.tiles) == 1


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12_000), st.integers(1, 2_000), st.floats(0.05, 0.5))
def test_the_fewest_tiles_cover_the_image_and_share_enough(
    height: int, width: int, overlap: float
) -> None:
    plan = plan_tiles((height, width), overlap=overlap)
    for axis, starts in enumerate(({t.y for t in plan.tiles}, {t.x for t in plan.tiles})):
        side, length = plan.tile_shape[axis], plan.padded_shape[axis]
        assert side <= min(MAX_TILE_PX, length)
        assert side % 8 == 0
        places = sorted(starts)
        assert places[0] == 0 and places[-1] + side == length
        steps = np.diff(places)
        assert (side - steps >= 2 * overlap * TILE_PX - 1).all()
        fewer = len(places) - 1
        assert fewer == 0 or fewer * MAX_TILE_PX - (fewer - 1) * 2 * overlap * TILE_PX < length


def test_the_fewest_tiles_repeat_little() -> None:
    plan = plan_tiles((2048, 2048))
    assert (len(plan.tiles), plan.tile_shape) == (16, (552, 552))
    assert len(plan_tiles((256, 256)).tiles) == 1


def test_flips_follow_the_parity_of_row_and_column() -> None:
    plan = plan_tiles((432, 432), augmentation="flips")
    flips = [(tile.flip_y, tile.flip_x) for tile in plan.tiles]
    assert plan.padded_shape == (448, 448)
    assert flips[:2] == [(False, False), (True, False)]
    assert flips[4:6] == [(False, True), (True, True)]


def test_paper_grid_covers_every_pixel_four_times() -> None:
    plan = plan_tiles((880, 656), augmentation="paper")
    counts = np.zeros(plan.padded_shape, int)
    for tile in plan.tiles:
        counts[tile.y : tile.y + TILE_PX, tile.x : tile.x + TILE_PX] += 1
    assert counts.min() >= 4
    assert (counts == 4).mean() > 0.4
    assert {(t.y, t.x) for t in plan.tiles if t.flip_x and not t.flip_y} >= {(112, 0), (336, 224)}
    assert {(t.y, t.x) for t in plan.tiles if t.flip_y and not t.flip_x} >= {(0, 112), (224, 336)}


def test_taper_is_highest_in_the_middle_and_positive_everywhere() -> None:
    taper = taper_mask((224, 224))
    assert taper.min() > 0
    assert taper[112, 112] == taper.max()
    assert taper[112, 20] == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(taper, taper[::-1, ::-1])
    np.testing.assert_allclose(taper_mask((128, 208)), taper[48:176, 8:216])


@pytest.mark.parametrize("tile_shape", [(640, 408), (408, 640)])
def test_taper_falls_towards_all_edges_of_tiles_of_unequal_sides(
    tile_shape: tuple[int, int],
) -> None:
    taper = taper_mask(tile_shape)
    middle = [n // 2 for n in tile_shape]
    assert taper[middle[0], 0] == pytest.approx(taper[0, middle[1]])
    assert taper[middle[0], 0] < 0.1
    assert taper[middle[0], 20] == pytest.approx(0.5, abs=0.05)
