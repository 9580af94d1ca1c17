"""From objects of planes to objects of stacks: linked ids, and one row for each."""

from __future__ import annotations

import numpy as np

from cellseg_engine.core.stitching import linked_ids


def link_planes(
    labels: np.ndarray, objects: dict[str, np.ndarray], threshold: float
) -> dict[str, np.ndarray]:
    """Link the planes of each time point, in place, and give the table of the 3-D objects.

    Parameters
    ----------
    labels
        int32 of shape (T, Z, Y, X), ids 1 to n, none in two planes; becomes the linked labels,
        with ids 1 to m, none in two time points.
    objects
        Table of the objects of the planes, one row for each id in order, with ``z``.
    threshold
        As of `linked_ids`.

    Returns
    -------
    The table with one row for each 3-D object; `Segmentation` names its columns.
    """
    new_ids = np.zeros(len(objects["label"]) + 1, np.int32)
    count = 0
    for frame in labels:
        linked = linked_ids(frame, threshold)
        present = np.flatnonzero(linked)
        new_ids[present] = linked[present] + count
        count += int(linked.max())
    for frame in labels:
        for plane in frame:
            plane[...] = new_ids[plane]
    return _merge_rows(objects, new_ids[1:] - 1, count)


def _merge_rows(
    objects: dict[str, np.ndarray], owners: np.ndarray, count: int
) -> dict[str, np.ndarray]:
    """Give one row for each 3-D object; ``owners`` says which, from 0, each row belongs to."""
    area, z = objects["area_px"], objects["z"]
    volume = np.bincount(owners, area, count)

    def mean(values: np.ndarray) -> np.ndarray:
        """Give the mean over the voxels of a number known for each plane."""
        return np.asarray(np.bincount(owners, values * area, count) / volume)

    z_first, z_last = np.full(count, z.max(initial=0)), np.zeros(count, z.dtype)
    np.minimum.at(z_first, owners, z)
    np.maximum.at(z_last, owners, z)
    merged = {"label": np.arange(1, count + 1)}
    if "t" in objects:
        merged["t"] = np.zeros(count, z.dtype)
        merged["t"][owners] = objects["t"]
    return merged | {
        "centroid_z_px": mean(z),
        "centroid_y_px": mean(objects["centroid_y_px"]),
        "centroid_x_px": mean(objects["centroid_x_px"]),
        "volume_px": volume.astype(np.int64),
        "z_first": z_first,
        "z_last": z_last,
        "mean_probability": mean(objects["mean_probability"]),
        "flow_error": mean(objects["flow_error"]),
        "touches_edge": np.bincount(owners, objects["touches_edge"], count) > 0,
        **{
            name: mean(values)
            for name, values in objects.items()
            if name.startswith("intensity_mean_")
        },
    }
