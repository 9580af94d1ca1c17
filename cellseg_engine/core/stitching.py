"""Objects of neighbouring planes of a stack, linked into 3-D objects by their overlap."""

from __future__ import annotations

import numpy as np

from cellseg_engine.core.chains import chain_ids


def stitch_planes(labels: np.ndarray, threshold: float) -> np.ndarray:
    """Give a label image in which an object and those it goes on in have one id.

    Parameters and errors are those of `linked_ids`, which explains how planes are linked.

    Returns
    -------
    int32 of shape (Z, Y, X); ids 1 to n in the order of their first voxel (Z, then Y, then X).
    """
    labels = np.asarray(labels)
    return np.asarray(linked_ids(labels, threshold)[labels])


def linked_ids(labels: np.ndarray, threshold: float) -> np.ndarray:
    """Give for every id of a stack the id of the 3-D object that it belongs to.

    Parameters
    ----------
    labels
        int32 of shape (Z, Y, X), 0 is background, no id in two planes.
    threshold
        Above 0, at most 1: objects of neighbouring planes are linked where their IoU
        (intersection over union, in Y and X) exceeds it. Nothing exceeds 1.

    Returns
    -------
    int32 of shape (largest id + 1,): 1 to n in the order of the first voxels (Z, then Y, then
    X); 0 for ids that do not occur. A 3-D object has one id in each of its planes and no gap
    between them.

    Raises
    ------
    ValueError
        Another number of dimensions, a threshold out of range, or an id in two planes.

    Notes
    -----
    Stringer et al. 2021 link planes by IoU; Cellpose links an object to its best partner above
    only where it is that one's best partner too, at an IoU not below the threshold. Here the
    pairs are taken best first, see `cellseg_engine.core.chains.chain_ids`.
    """
    if labels.ndim != 3:
        raise ValueError(
            f"`labels` has {labels.ndim} dimensions {labels.shape}; a stack has three, (Z, Y, X). "
            "Link each time point by itself."
        )
    return chain_ids(labels, threshold)
