"""Which of the engine's objects become the module's: NumPy and SciPy only, no CellProfiler."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Tuple

import numpy as np
import scipy.ndimage


class Edited(NamedTuple):
    """The label images that IdentifyPrimaryObjects' users know; all of the engine's shape.

    Attributes
    ----------
    segmented
        The objects kept, numbered 1 to n.
    small_removed
        With the engine's ids: all but the small ones, also those at the border.
    unedited
        With the engine's ids: all.
    kept
        The engine's id of every object kept, shape (n,).
    by_size, by_border
        With the engine's ids: objects that were discarded, for the figure.
    """

    segmented: np.ndarray
    small_removed: np.ndarray
    unedited: np.ndarray
    kept: np.ndarray
    by_size: np.ndarray
    by_border: np.ndarray


def edit(
    labels: np.ndarray,
    mask: Optional[np.ndarray],
    size_range: Optional[Tuple[float, float]],
    discard_border: bool,
) -> Edited:
    """Discard objects by size and at the border.

    Parameters
    ----------
    labels
        The engine's, (Y, X) or (Z, Y, X), integers; 0 is background.
    mask
        Pixels to look at, bool of the labels' shape, or None for all. Objects are cut at it.
    size_range
        Smallest and largest diameter allowed, px; None: all sizes. A disk (in a stack a ball) of
        that diameter gives the area (volume) that an object is compared with.
    discard_border
        Discard objects that touch the border of the image in Y or X, or that of the mask.
    """
    unedited = labels.astype(np.int32)
    if mask is not None:
        unedited[~mask] = 0
    sizes = np.bincount(unedited.ravel())
    exists = sizes > 0
    exists[0] = False
    is_small = np.zeros_like(exists)
    is_large = np.zeros_like(exists)
    if size_range is not None:
        smallest, largest = (size_of(diameter, labels.ndim) for diameter in size_range)
        is_small = exists & (sizes < smallest)
        is_large = exists & (sizes > largest)
    at_border = np.zeros_like(exists)
    if discard_border:
        at_border[np.unique(unedited[border(unedited.shape, mask)])] = True
        at_border[0] = False
    keep = exists & ~(is_small | is_large | at_border)
    return Edited(
        segmented=renumber(unedited, keep),
        small_removed=_only(unedited, exists & ~is_small),
        unedited=unedited,
        kept=np.flatnonzero(keep),
        by_size=_only(unedited, (is_small | is_large) & ~at_border),
        by_border=_only(unedited, at_border),
    )


def size_of(diameter_px: float, dimensions: int) -> float:
    """Give the area of a disk, or the volume of a ball, of a diameter."""
    if dimensions == 3:
        return math.pi * diameter_px**3 / 6
    return math.pi * diameter_px**2 / 4


def border(shape: Tuple[int, ...], mask: Optional[np.ndarray]) -> np.ndarray:
    """Give the pixels at the border in Y and X, or of the mask; bool of that shape.

    The first and last plane of a stack are no border: stacks are often cut there on purpose.
    """
    found = np.zeros(shape, dtype=bool)
    found[..., [0, -1], :] = True
    found[..., [0, -1]] = True
    if mask is not None:
        around = np.zeros((3,) * len(shape), dtype=bool)
        around[(1,) * (len(shape) - 2)] = scipy.ndimage.generate_binary_structure(2, 1)
        found |= mask & ~scipy.ndimage.binary_erosion(mask, around, border_value=1)
    return found


def renumber(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Give the labels with those kept numbered 1 to n and the others 0; keep: bool by id."""
    ids = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return np.asarray(ids[labels])


def _only(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
    ids = np.where(keep, np.arange(keep.size), 0).astype(np.int32)
    return np.asarray(ids[labels])


class Pairs(NamedTuple):
    """Which nucleus lies in which cell; 0 means none.

    Attributes
    ----------
    cell_of_nucleus
        Shape (nuclei,): the cell that holds at least half of the nucleus.
    nucleus_of_cell
        Shape (cells,): of the nuclei in the cell, the one that shares most pixels with it.
    nuclei_in_cell
        Shape (cells,): how many nuclei it holds.
    """

    cell_of_nucleus: np.ndarray
    nucleus_of_cell: np.ndarray
    nuclei_in_cell: np.ndarray


def pair(cells: np.ndarray, nuclei: np.ndarray) -> Pairs:
    """Match nuclei and cells by the pixels they share; label images of one shape, ids 1 to n."""
    n_cells, n_nuclei = int(cells.max(initial=0)), int(nuclei.max(initial=0))
    cell_of_nucleus = np.zeros(n_nuclei + 1, np.int32)
    nucleus_of_cell = np.zeros(n_cells + 1, np.int32)
    nuclei_in_cell = np.zeros(n_cells + 1, np.int32)
    both = (cells > 0) & (nuclei > 0)
    codes, shared = np.unique(
        nuclei[both].astype(np.int64) * (n_cells + 1) + cells[both], return_counts=True
    )
    nucleus, cell = np.divmod(codes, n_cells + 1)
    sizes = np.bincount(nuclei.ravel(), minlength=n_nuclei + 1)
    inside = 2 * shared >= sizes[nucleus]
    # Written in the order of the shared pixels, the largest last; of equal ones the lower id wins.
    order = np.lexsort((-codes, shared))
    order = order[inside[order]]
    cell_of_nucleus[nucleus[order]] = cell[order]
    held = cell_of_nucleus[nucleus[order]] == cell[order]  # half and half: one cell only
    order = order[held]
    nucleus_of_cell[cell[order]] = nucleus[order]
    np.add.at(nuclei_in_cell, cell[order], 1)
    return Pairs(cell_of_nucleus[1:], nucleus_of_cell[1:], nuclei_in_cell[1:])


def fill_outside(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Give the image with the median of the mask outside of it, so that no edge of it shows.

    Parameters
    ----------
    pixels
        Image of shape (Y, X) or (Z, Y, X).
    mask
        bool of that shape; an empty one leaves the image blank.
    """
    inside = pixels[mask]
    filler = np.median(inside) if inside.size else 0
    return np.where(mask, pixels, np.asarray(filler, dtype=pixels.dtype))
