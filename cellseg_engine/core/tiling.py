"""Tiles: the network sees a part of the image at a time; tiles overlap and are blended.

`plan_tiles` says which tiles, `TileCutter` cuts them, `TileBlender` puts the outputs back
together. Cutting and blending the tiles of an image unchanged gives the image. Tiles come row
by row from top to bottom, so that besides the image and the result only one row of tiles is
kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cellseg_engine.core.rows import Rows

TILE_PX = 224
"""Side of what networks are trained on."""
MAX_TILE_PX = 640
"""Of tiles that are chosen: larger ones save little more, and need more memory."""
TAPER_BANDWIDTH_PX = 7.5
TAPER_INSET_PX = 20
MARGIN_PX = 8
DIVISOR_PX = 16
TILE_DIVISOR_PX = 8
"""The network halves a tile three times."""

Augmentation = Literal["none", "flips", "paper"]
Tiling = Literal["fewest", "cellpose"]


@dataclass(frozen=True)
class Tile:
    """Where a tile lies in the padded image, and how it is flipped before the network."""

    y: int
    x: int
    flip_y: bool = False
    flip_x: bool = False


@dataclass(frozen=True)
class TilePlan:
    """All tiles of one image.

    Attributes
    ----------
    image_shape
        (Y, X) of the image.
    padded_shape
        (Y, X) of the image with its margin of zeros.
    offset
        (Y, X) of the image's first pixel in the padded image.
    tile_shape
        (Y, X) of each tile.
    tiles
        The tiles, row by row from top to bottom.
    """

    image_shape: tuple[int, int]
    padded_shape: tuple[int, int]
    offset: tuple[int, int]
    tile_shape: tuple[int, int]
    tiles: tuple[Tile, ...]


def plan_tiles(
    shape: tuple[int, int],
    *,
    overlap: float = 0.1,
    augmentation: Augmentation = "none",
    tiling: Tiling = "fewest",
) -> TilePlan:
    """Plan the tiles of an image.

    A network of convolutions may see tiles of any size. Large ones repeat less of the image: of
    2048 x 2048 px 144 tiles of 224 px calculate 1.48 times the pixels that 16 of 552 px do.

    Parameters
    ----------
    shape
        (Y, X) of the image, in the scale at which the network sees it.
    overlap
        Share of a tile of 224 px that it shares with a neighbour at either side, 0.05 to 0.5; only
        without augmentation.
    augmentation
        ``none``; ``flips``, half-overlapping tiles flipped by the parity of row and column
        (Cellpose); ``paper``, four grids of tiles shifted by half a tile, one as it is, one
        flipped in x, one in y and one in both (Stringer et al. 2021, "Tiling and test
        augmentations"), all of 224 px.
    tiling
        ``fewest`` of at most 640 px, each as small as that allows; or ``cellpose``, its layout of
        tiles of 224 px. Only without augmentation.
    """
    padded, offset = _pad(shape)
    if augmentation == "none":
        overlap = min(0.5, max(0.05, overlap))
        layout = _fewest if tiling == "fewest" else _as_cellpose
        sides = [layout(n, overlap) for n in padded]
        tile_shape = (sides[0][0], sides[1][0])
        ys, xs = (_even_starts(n, *side) for n, side in zip(padded, sides, strict=True))
        tiles = tuple(Tile(y, x) for y in ys for x in xs)
    else:
        padded = (max(TILE_PX, padded[0]), max(TILE_PX, padded[1]))
        tile_shape = (TILE_PX, TILE_PX)
        tiles = _parity_tiles(padded) if augmentation == "flips" else _shifted_tiles(padded)
    return TilePlan(shape, padded, offset, tile_shape, tiles)


class TileCutter:
    """Cuts the tiles of an image, of which it keeps one row of tiles at a time.

    Parameters
    ----------
    image
        The image, of the plan's shape.
    plan
        The tiles.
    """

    def __init__(self, image: Rows, plan: TilePlan) -> None:
        self._image = image
        self._plan = plan
        self._band = np.zeros(
            (image.shape[0], plan.tile_shape[0], plan.padded_shape[1]), np.float32
        )
        self._top = -1

    def cut(self, index: int, out: np.ndarray) -> None:
        """Write one tile, flipped as planned, into ``out``, float32 (C, tile Y, tile X)."""
        tile = self._plan.tiles[index]
        if tile.y != self._top:
            self._load(tile.y)
        out[...] = _flip(self._band[:, :, tile.x : tile.x + self._plan.tile_shape[1]], tile)

    def _load(self, top: int) -> None:
        """Fill the band with the padded image from row ``top`` on."""
        (y, x), (height, width) = self._plan.offset, self._plan.image_shape
        start, stop = max(0, top - y), min(height, top - y + self._plan.tile_shape[0])
        self._band[:] = 0
        if start < stop:
            rows = self._image.rows(start, stop)
            self._band[:, start + y - top : stop + y - top, x : x + width] = rows
        self._top = top


class TileBlender:
    """Weighted sum of tile outputs, flipped back, tapered towards the tile's edges.

    Parameters
    ----------
    plan
        The plan the tiles were cut by.
    n_channels
        Channels of a tile's output.
    vector_channels
        Which output channels are the y and the x component of a vector: their sign changes
        when the tile was flipped in that direction. None for outputs without vectors.
    """

    def __init__(
        self, plan: TilePlan, n_channels: int, vector_channels: tuple[int, int] | None = (0, 1)
    ) -> None:
        self._plan = plan
        self._vectors = vector_channels
        self._taper = taper_mask(plan.tile_shape)
        band = (plan.tile_shape[0], plan.padded_shape[1])
        self._sum = np.zeros((n_channels, *band), np.float32)
        self._weight = np.zeros(band, np.float32)
        self._top = 0
        self._result = np.empty((n_channels, *plan.image_shape), np.float32)

    def add(self, index: int, output: np.ndarray) -> None:
        """Add the output (channels, tile Y, tile X) of one tile, each in the plan's order.

        Raises
        ------
        ValueError
            A tile below was added before.
        """
        tile = self._plan.tiles[index]
        if tile.y < self._top:
            raise ValueError("tiles must be added in the order of their plan")
        self._finish(tile.y - self._top)
        upright = _flip(output, tile)
        if self._vectors and (tile.flip_y or tile.flip_x):
            upright = upright.copy()
            if tile.flip_y:
                upright[self._vectors[0]] *= -1
            if tile.flip_x:
                upright[self._vectors[1]] *= -1
        window = np.s_[:, tile.x : tile.x + self._plan.tile_shape[1]]
        self._sum[(slice(None), *window)] += upright * self._taper
        self._weight[window] += self._taper

    def result(self) -> np.ndarray:
        """Give the blended outputs without the margin; float32 of shape (channels, Y, X).

        To be called once, after the last tile.
        """
        self._finish(self._weight.shape[0])
        return self._result

    def _finish(self, n_rows: int) -> None:
        """Write the first rows of the band, which get no more tiles, and move up the rest."""
        if n_rows == 0:
            return
        (y, x), (height, width) = self._plan.offset, self._plan.image_shape
        start = max(0, y - self._top)
        stop = min(n_rows, y + height - self._top)
        if start < stop:
            rows = np.s_[start:stop, x : x + width]
            target = self._result[:, start + self._top - y : stop + self._top - y]
            np.divide(self._sum[(slice(None), *rows)], self._weight[rows], out=target)
        kept = self._weight.shape[0] - n_rows
        for band in (self._sum, self._weight):
            band[..., :kept, :] = band[..., n_rows:, :].copy()
            band[..., kept:, :] = 0
        self._top += n_rows


def taper_mask(tile_shape: tuple[int, int]) -> np.ndarray:
    """Give the blending weights of a tile, a sigmoid that falls towards its edges.

    ``w(k) = 1 / (1 + exp((|k - mean| - (B / 2 - 20)) / 7.5))`` along each axis of n px with
    ``B = max(224, n)``, centre-cropped to n, and multiplied (float32). Bandwidth: Stringer et al.
    2021, "Tiling and test augmentations".
    """
    rows, columns = (_taper(n) for n in tile_shape)
    return np.outer(rows, columns).astype(np.float32)


def _taper(length: int) -> np.ndarray:
    """Give the weights along one axis."""
    size = max(TILE_PX, length)
    distance = np.abs(np.arange(size) - (size - 1) / 2)
    weight = 1 / (1 + np.exp((distance - (size / 2 - TAPER_INSET_PX)) / TAPER_BANDWIDTH_PX))
    start = size // 2 - length // 2
    return np.asarray(weight[start : start + length])


def _pad(shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pad to a multiple of 16 plus 8 pixels on each side."""
    extra = [-n % DIVISOR_PX for n in shape]
    padded = (shape[0] + extra[0] + 2 * MARGIN_PX, shape[1] + extra[1] + 2 * MARGIN_PX)
    return padded, (MARGIN_PX + extra[0] // 2, MARGIN_PX + extra[1] // 2)


def _as_cellpose(length: int, overlap: float) -> tuple[int, int]:
    """Give side and number of the tiles of Cellpose."""
    if length <= TILE_PX:
        return length, 1
    return TILE_PX, int(np.ceil((1 + 2 * overlap) * length / TILE_PX))


def _fewest(length: int, overlap: float) -> tuple[int, int]:
    """Give side and number of the fewest tiles that share at least twice the overlap."""
    if length <= MAX_TILE_PX:
        return length, 1
    shared = 2 * overlap * TILE_PX
    count = int(np.ceil((length - shared) / (MAX_TILE_PX - shared)))
    side = (length + (count - 1) * shared) / count
    return int(np.ceil(side / TILE_DIVISOR_PX)) * TILE_DIVISOR_PX, count


def _even_starts(length: int, tile: int, count: int) -> list[int]:
    return [int(start) for start in np.linspace(0, length - tile, count).astype(int)]


def _parity_tiles(padded: tuple[int, int]) -> tuple[Tile, ...]:
    ys, xs = (_even_starts(n, TILE_PX, max(2, int(np.ceil(2 * n / TILE_PX)))) for n in padded)
    return tuple(
        Tile(y, x, flip_y=i % 2 == 1, flip_x=j % 2 == 1)
        for j, y in enumerate(ys)
        for i, x in enumerate(xs)
    )


def _shifted_tiles(padded: tuple[int, int]) -> tuple[Tile, ...]:
    half = TILE_PX // 2
    tiles = []
    for shift_y, shift_x, flip_y, flip_x in (
        (0, 0, False, False),
        (half, 0, False, True),
        (0, half, True, False),
        (half, half, True, True),
    ):
        ys = _covering_starts(padded[0], shift_y)
        xs = _covering_starts(padded[1], shift_x)
        tiles += [Tile(y, x, flip_y, flip_x) for y in ys for x in xs]
    return tuple(sorted(tiles, key=lambda tile: tile.y))


def _covering_starts(length: int, shift: int) -> list[int]:
    """Starts every 224 pixels, shifted; tiles that stick out at either end are moved inside."""
    first = shift - TILE_PX if shift else 0
    last = length - TILE_PX
    return sorted({min(max(start, 0), last) for start in range(first, length, TILE_PX)})


def _flip(array: np.ndarray, tile: Tile) -> np.ndarray:
    if tile.flip_y:
        array = array[..., ::-1, :]
    if tile.flip_x:
        array = array[..., ::-1]
    return array
