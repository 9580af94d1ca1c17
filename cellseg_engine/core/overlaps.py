"""Objects drawn by hand may overlap; in a label image each pixel belongs to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_OVERLAPPED = 0.75


@dataclass(frozen=True)
class Region:
    """The pixels of one object.

    Attributes
    ----------
    top, left
        Of the mask in the image; both inside it.
    mask
        bool of shape (Y, X), wholly inside the image.
    """

    top: int
    left: int
    mask: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """Where the mask lies in the image."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True)
class Settled:
    """Objects that do not overlap any more.

    Attributes
    ----------
    labels
        int32 of shape (Y, X): the first region is 1, the second 2, ..., 0 is background.
    removed
        Indices of the regions that were removed, ascending.
    n_shared_px
        Pixels that several of the others cover.
    """

    labels: np.ndarray
    removed: tuple[int, ...]
    n_shared_px: int


def settle_overlaps(regions: Sequence[Region], shape: tuple[int, int]) -> Settled:
    """Give each pixel to one region: of those that cover it, the one with the nearest centroid.

    A region is removed if others cover more than 75 % of it. The most covered one goes first
    (then the smaller, then the later one) and the others are looked at again without it, so of
    two equal regions one stays.

    Parameters
    ----------
    regions
        Regions with one pixel at least.
    shape
        (Y, X) of the image.

    References
    ----------
    Pachitariu & Stringer, Cellpose 2.0 (2022), Methods, LiveCell dataset: pixels of an overlap
    go to the closest centroid, and ROIs with more than 75 % of their pixels overlapping are
    removed. That of two equal ones one stays is ours.
    """
    count = np.zeros(shape, np.int32)
    for region in regions:
        count[region.window] += region.mask
    removed = _remove_covered(regions, count)
    labels = np.zeros(shape, np.int32)
    nearest = np.full(shape, np.inf) if (count > 1).any() else np.zeros((0, 0))
    for index, region in enumerate(regions):
        if index in removed:
            continue
        part, covering = labels[region.window], count[region.window]
        part[region.mask & (covering == 1)] = index + 1
        shared = region.mask & (covering > 1)
        if shared.any():
            distance = _squared_distances(region.mask)
            best = nearest[region.window]
            mine = shared & (distance < best)
            part[mine] = index + 1
            best[mine] = distance[mine]
    return Settled(labels, tuple(sorted(removed)), int(np.count_nonzero(count > 1)))


def _remove_covered(regions: Sequence[Region], count: np.ndarray) -> set[int]:
    """Take regions that others cover out of the count, and give their indices."""
    sizes = [int(np.count_nonzero(region.mask)) for region in regions]

    def covered(index: int) -> float:
        region = regions[index]
        return float(np.count_nonzero(count[region.window][region.mask] > 1)) / sizes[index]

    shares = {n: share for n in range(len(regions)) if (share := covered(n)) > MAX_OVERLAPPED}
    removed: set[int] = set()
    while shares:
        worst = max(shares, key=lambda n: (shares[n], -sizes[n], n))
        region = regions[worst]
        count[region.window] -= region.mask
        removed.add(worst)
        del shares[worst]
        # Without it others are covered less, never more.
        again = {n: covered(n) for n in shares if _touch(regions[n], region)}
        shares = {n: s for n, s in (shares | again).items() if s > MAX_OVERLAPPED}
    return removed


def _touch(one: Region, other: Region) -> bool:
    """Say whether the windows of two regions overlap."""
    return all(
        a.start < b.stop and b.start < a.stop for a, b in zip(one.window, other.window, strict=True)
    )


def _squared_distances(mask: np.ndarray) -> np.ndarray:
    """Give the squared distance of each pixel of a window from the centroid of its mask."""
    y, x = np.nonzero(mask)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return np.asarray((rows - y.mean()) ** 2 + (columns - x.mean()) ** 2)
