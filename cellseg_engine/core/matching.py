"""Objects of two label images that overlap, and the best pairs among them.

- A label image holds integers of any width and has any number of dimensions; 0 is background and
  each positive id is one object through the whole array (ids need not be sequential).
- A pair of objects counts as a match when its IoU (intersection over union) is **at least** the
  threshold, as in Cellpose and StarDist. Each object has at most one partner. Above 0.5 no object
  can have two candidates; at exactly 0.5 (one object, two halves) and below it can, and then the
  matching with the most pairs is taken and, among those, the one with the largest sum of IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from cellseg_engine.errors import MetricError


@dataclass(frozen=True)
class OverlapTable:
    """Which objects share pixels, as a sparse contingency table without background.

    Attributes
    ----------
    truth_ids, prediction_ids
        Ids that occur, ascending, of shapes (N,) and (M,), in the dtype of their image.
    truth_areas, prediction_areas
        Pixels (voxels) of each object; int64 of shapes (N,) and (M,).
    rows, columns
        Positions in ``truth_ids`` and ``prediction_ids`` of the pairs that share a pixel; int64 of
        shape (K,). Pairs are in the order of their first shared pixel, whatever the ids are.
    intersections
        Pixels that each pair shares; int64 of shape (K,).
    """

    truth_ids: np.ndarray
    prediction_ids: np.ndarray
    truth_areas: np.ndarray
    prediction_areas: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    intersections: np.ndarray

    @property
    def unions(self) -> np.ndarray:
        """Pixels that either object of each pair covers; int64 of shape (K,)."""
        areas = self.truth_areas[self.rows] + self.prediction_areas[self.columns]
        return np.asarray(areas - self.intersections)

    @property
    def ious(self) -> np.ndarray:
        """Intersection over union of each pair (Jaccard index); float64 (K,), in (0, 1]."""
        return np.asarray(self.intersections / self.unions)


@dataclass(frozen=True)
class Matches:
    """Objects of truth and prediction that found one another at an IoU threshold.

    Attributes
    ----------
    threshold
        Smallest IoU of a pair.
    truth_ids, prediction_ids, ious
        The pairs, ascending by truth id; each of shape (pairs,), IoU float64.
    unmatched_truth, unmatched_predictions
        Ids without a partner (false negatives, false positives), ascending.
    """

    threshold: float
    truth_ids: np.ndarray
    prediction_ids: np.ndarray
    ious: np.ndarray
    unmatched_truth: np.ndarray
    unmatched_predictions: np.ndarray


def overlap_table(truth: np.ndarray, prediction: np.ndarray) -> OverlapTable:
    """Give the objects of two label images, their areas and the pixels that each pair shares.

    Memory beyond the images is one byte per pixel plus a few numbers per run of equal pixels;
    nothing grows with objects x objects.

    Parameters
    ----------
    truth, prediction
        Label images: any integer dtype, any equal shape, not empty.

    Raises
    ------
    MetricError
        Shapes differ, an array has no pixels, or values are not integers or are negative.
    """
    truth, prediction = _check_labels(truth, "truth"), _check_labels(prediction, "prediction")
    if truth.shape != prediction.shape:
        raise MetricError(
            f"`truth` (shape {truth.shape}) must have the same shape as `prediction` "
            f"(shape {prediction.shape}).",
            hint="Both must be label images of the same picture, at the same scale and axes.",
        )
    flat_truth, flat_prediction = truth.ravel(), prediction.ravel()
    starts, lengths = _runs(flat_truth, flat_prediction)
    truth_ids, rows, truth_areas = _tally(flat_truth[starts], lengths)
    prediction_ids, columns, prediction_areas = _tally(flat_prediction[starts], lengths)
    shared = (rows >= 0) & (columns >= 0)
    width = max(prediction_ids.size, 1)
    pairs, first, position = np.unique(
        rows[shared] * width + columns[shared], return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    intersections = np.bincount(position, lengths[shared], pairs.size).astype(np.int64)
    return OverlapTable(
        truth_ids=truth_ids,
        prediction_ids=prediction_ids,
        truth_areas=truth_areas,
        prediction_areas=prediction_areas,
        rows=pairs[order] // width,
        columns=pairs[order] % width,
        intersections=intersections[order],
    )


def iou_matrix(truth: np.ndarray, prediction: np.ndarray) -> csr_array:
    """Give the IoU of every true object with every predicted one, as a sparse matrix.

    Returns
    -------
    float64 of shape (N, M): rows and columns are the ids that occur, ascending, without
    background (`overlap_table` gives them); pairs that share no pixel are not stored.

    Raises
    ------
    MetricError
        As `overlap_table`.
    """
    table = overlap_table(truth, prediction)
    shape = (table.truth_ids.size, table.prediction_ids.size)
    return csr_array((table.ious, (table.rows, table.columns)), shape=shape)


def match_objects(truth: np.ndarray, prediction: np.ndarray, threshold: float = 0.5) -> Matches:
    """Pair the objects of two label images whose IoU is at least the threshold.

    Parameters
    ----------
    truth, prediction
        As for `overlap_table`.
    threshold
        Smallest IoU of a pair, above 0 and at most 1.

    Raises
    ------
    MetricError
        The label images cannot be compared (see `overlap_table`) or the threshold is out of range.
    """
    (threshold,) = check_thresholds([threshold])
    table = overlap_table(truth, prediction)
    ious = table.ious
    pairs = best_pairs(table, ious, threshold)
    pairs = pairs[np.argsort(table.rows[pairs])]
    rows, columns = table.rows[pairs], table.columns[pairs]
    return Matches(
        threshold=threshold,
        truth_ids=table.truth_ids[rows],
        prediction_ids=table.prediction_ids[columns],
        ious=ious[pairs],
        unmatched_truth=np.delete(table.truth_ids, rows),
        unmatched_predictions=np.delete(table.prediction_ids, columns),
    )


def check_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    """Give IoU thresholds as floats.

    Raises
    ------
    MetricError
        There is none, or one is not above 0 and at most 1.
    """
    chosen = tuple(float(threshold) for threshold in thresholds)
    if not chosen or not all(0 < threshold <= 1 for threshold in chosen):
        raise MetricError(
            f"The IoU thresholds {chosen} must be one or more numbers above 0 and at most 1."
        )
    return chosen


def _runs(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give starts and lengths of the stretches in which both flat images are constant."""
    changes = np.ones(truth.size, bool)
    np.not_equal(truth[1:], truth[:-1], out=changes[1:])
    changes[1:] |= prediction[1:] != prediction[:-1]
    starts = np.flatnonzero(changes)
    return starts, np.diff(starts, append=truth.size)


def _tally(ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the positive ids, the position of each run among them (-1: background), the areas."""
    found, positions = np.unique(ids, return_inverse=True)
    areas = np.bincount(positions, lengths, found.size).astype(np.int64)
    if found[0] == 0:
        return found[1:], positions - 1, areas[1:]
    return found, positions, areas


def best_pairs(table: OverlapTable, ious: np.ndarray, threshold: float) -> np.ndarray:
    """Give the pairs of the best matching at an IoU threshold.

    Parameters
    ----------
    table
        Of `overlap_table`.
    ious
        ``table.ious``, computed once for many thresholds; float64 of shape (K,).
    threshold
        Smallest IoU of a pair.

    Returns
    -------
    Positions among the K pairs of the table, each object at most once; int64.
    """
    pairs = np.flatnonzero(ious >= threshold)
    row_use = np.bincount(table.rows[pairs], minlength=1)
    column_use = np.bincount(table.columns[pairs], minlength=1)
    alone = (row_use[table.rows[pairs]] == 1) & (column_use[table.columns[pairs]] == 1)
    if alone.all():
        return pairs
    contested = pairs[~alone]
    won = _assign(table.rows[contested], table.columns[contested], ious[contested])
    return np.concatenate([pairs[alone], contested[won]])


def _assign(rows: np.ndarray, columns: np.ndarray, ious: np.ndarray) -> np.ndarray:
    """Choose pairs, each row and column once: as many as possible, then of the largest IoU sum.

    Sparse linear assignment (Jonker and Volgenant 1987, by scipy). Each row may also take a
    column of its own at weight 1, which stands for no partner; a real pair weighs so much that
    one pair more is worth more than all IoU together.

    Returns
    -------
    Positions in ``rows`` of the chosen pairs.
    """
    _, row = np.unique(rows, return_inverse=True)
    _, column = np.unique(columns, return_inverse=True)
    n_rows, n_columns = int(row.max()) + 1, int(column.max()) + 1
    own = np.arange(n_rows)
    weights = csr_array(
        (
            np.concatenate([ious + n_rows + 2, np.ones(n_rows)]),
            (np.concatenate([row, own]), np.concatenate([column, n_columns + own])),
        ),
        shape=(n_rows, n_columns + n_rows),
    )
    partner = np.empty(n_rows, np.int64)
    matched_rows, matched_columns = min_weight_full_bipartite_matching(weights, maximize=True)
    partner[matched_rows] = matched_columns
    return np.flatnonzero(partner[row] == column)


def _check_labels(labels: np.ndarray, name: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise MetricError(
            f"`{name}` has values of type {labels.dtype}; a label image has integers, one per "
            "object and 0 for background.",
            hint="Label the connected components of a mask first (skimage.measure.label).",
        )
    if labels.size == 0:
        raise MetricError(f"`{name}` (shape {labels.shape}) has no pixels.")
    if labels.min() < 0:
        raise MetricError(
            f"`{name}` has the negative label {labels.min()}; labels are positive, background 0.",
            hint="Set pixels to ignore to 0 in both images.",
        )
    return labels
