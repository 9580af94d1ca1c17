"""Scores of a segmentation against the truth: matched objects, AP, F1, AJI, panoptic quality.

What a label image and a match are (IoU at least the threshold, one partner each) is said in
`cellseg_engine.core.matching`. No object in truth nor prediction is a perfect score of 1; objects
in only one of both give 0. Frames that are numbered independently are scored one by one and pooled
with `pool_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellseg_engine.core.matching import (
    Matches,
    OverlapTable,
    best_pairs,
    check_thresholds,
    iou_matrix,
    match_objects,
    overlap_table,
)
from cellseg_engine.errors import MetricError

__all__ = [
    "THRESHOLDS",
    "ImageScore",
    "Matches",
    "MeanScore",
    "OverlapTable",
    "PooledScore",
    "iou_matrix",
    "match_objects",
    "overlap_table",
    "pool_scores",
    "score_image",
]

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""IoU thresholds of the Data Science Bowl 2018; decimals, so that 3/5 counts at 0.6."""

PANOPTIC_THRESHOLD = 0.5


@dataclass(frozen=True)
class ImageScore:
    """Counts of one image and the scores that follow from them.

    Every field but the thresholds is a sum over objects, so the counts of several images can be
    added: that is the pooled score.

    Attributes
    ----------
    thresholds
        The T IoU thresholds.
    n_truth, n_prediction
        Number of objects.
    tp
        True positives (matched pairs) at each threshold; int64 of shape (T,).
    panoptic_tp, panoptic_iou_sum
        Pairs at IoU >= 0.5 and the sum of their IoU.
    jaccard_intersection, jaccard_union
        Numerator and denominator of the aggregated Jaccard index, in pixels.
    """

    thresholds: tuple[float, ...]
    n_truth: int
    n_prediction: int
    tp: np.ndarray
    panoptic_tp: int
    panoptic_iou_sum: float
    jaccard_intersection: int
    jaccard_union: int

    @property
    def fp(self) -> np.ndarray:
        """False positives at each threshold: predictions without partner; int64 of shape (T,)."""
        return np.asarray(self.n_prediction - self.tp)

    @property
    def fn(self) -> np.ndarray:
        """False negatives at each threshold: true objects without partner; int64 of shape (T,)."""
        return np.asarray(self.n_truth - self.tp)

    @property
    def average_precision(self) -> np.ndarray:
        """TP / (TP + FP + FN) at each threshold; float64 of shape (T,).

        What Cellpose (Stringer et al. 2021, "Quantification of segmentation quality"), StarDist
        and the Data Science Bowl 2018 (Caicedo et al. 2019) call average precision; elsewhere
        threat score, critical success index or Jaccard index of objects. It is not the area
        under a precision-recall curve.
        """
        return self._ratio(self.tp, self.n_truth + self.n_prediction - self.tp)

    @property
    def mean_average_precision(self) -> float:
        """Mean of the average precision over the thresholds (the score of the Bowl 2018)."""
        return float(self.average_precision.mean())

    @property
    def precision(self) -> np.ndarray:
        """TP / (TP + FP) at each threshold; float64 of shape (T,)."""
        return self._ratio(self.tp, self.n_prediction)

    @property
    def recall(self) -> np.ndarray:
        """TP / (TP + FN) at each threshold; float64 of shape (T,)."""
        return self._ratio(self.tp, self.n_truth)

    @property
    def f1(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN) at each threshold; float64 of shape (T,)."""
        return self._ratio(2 * self.tp, self.n_truth + self.n_prediction)

    @property
    def aggregated_jaccard(self) -> float:
        """Aggregated Jaccard index (Kumar et al. 2017, algorithm 1).

        Each true object takes the prediction with the largest IoU (one prediction may serve
        several); intersections and unions are added, and predictions that no one took add their
        area to the denominator. Predictions of equal IoU: the one met first, row by row.
        """
        return float(self._ratio(self.jaccard_intersection, self.jaccard_union))

    @property
    def segmentation_quality(self) -> float:
        """Mean IoU of the pairs at IoU >= 0.5 (Kirillov et al. 2019, equation 2)."""
        return float(self._ratio(self.panoptic_iou_sum, self.panoptic_tp))

    @property
    def detection_quality(self) -> float:
        """F1 at IoU >= 0.5 (recognition quality of Kirillov et al. 2019, equation 2)."""
        return float(self._ratio(2 * self.panoptic_tp, self.n_truth + self.n_prediction))

    @property
    def panoptic_quality(self) -> float:
        """Segmentation quality x detection quality (Kirillov et al. 2019, equations 1 and 2).

        The paper pairs at IoU > 0.5; we pair at IoU >= 0.5 like all else here, which differs only
        for a pair of IoU exactly 1/2.
        """
        return self.segmentation_quality * self.detection_quality

    def _ratio(self, numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray:
        """Divide; where the denominator is 0: 1 if there is nothing to find nor found, else 0."""
        top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), denominator)
        undefined = 1.0 if self.n_truth == self.n_prediction == 0 else 0.0
        return np.asarray(
            np.divide(top, bottom, out=np.full(top.shape, undefined), where=bottom > 0)
        )


@dataclass(frozen=True)
class MeanScore:
    """Scores averaged over images, each image with the same weight.

    Attributes
    ----------
    average_precision, precision, recall, f1
        At each threshold; float64 of shape (T,).
    mean_average_precision, aggregated_jaccard, segmentation_quality, detection_quality, \
panoptic_quality
        As in `ImageScore`.
    """

    average_precision: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    mean_average_precision: float
    aggregated_jaccard: float
    segmentation_quality: float
    detection_quality: float
    panoptic_quality: float


@dataclass(frozen=True)
class PooledScore:
    """Scores of several images in both ways that papers report.

    Attributes
    ----------
    n_images
        Number of images.
    pooled
        All images as if they were one: TP, FP, FN, intersections and unions are added first, so
        every object has the same weight.
    mean_per_image
        Scores of each image are averaged, so every image has the same weight; an image without
        objects in truth and prediction counts as 1.
    """

    n_images: int
    pooled: ImageScore
    mean_per_image: MeanScore


def score_image(
    truth: np.ndarray, prediction: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> ImageScore:
    """Give the score of one predicted label image.

    Parameters
    ----------
    truth, prediction
        As for `overlap_table`.
    thresholds
        IoU thresholds, above 0 and at most 1.

    Raises
    ------
    MetricError
        The label images cannot be compared (see `overlap_table`) or a threshold is out of range.
    """
    chosen = check_thresholds(thresholds)
    table = overlap_table(truth, prediction)
    ious = table.ious
    panoptic = best_pairs(table, ious, PANOPTIC_THRESHOLD)
    intersection, union = _jaccard_sums(table, ious)
    return ImageScore(
        thresholds=chosen,
        n_truth=table.truth_ids.size,
        n_prediction=table.prediction_ids.size,
        tp=np.array([best_pairs(table, ious, threshold).size for threshold in chosen], np.int64),
        panoptic_tp=panoptic.size,
        panoptic_iou_sum=float(ious[panoptic].sum()),
        jaccard_intersection=intersection,
        jaccard_union=union,
    )


def pool_scores(scores: Sequence[ImageScore]) -> PooledScore:
    """Give the scores of several images, pooled and as mean per image.

    Raises
    ------
    MetricError
        There is no score, or thresholds differ.
    """
    if not scores:
        raise MetricError("There is no score to pool.", hint="Give at least one image.")
    thresholds = scores[0].thresholds
    for score in scores:
        if score.thresholds != thresholds:
            raise MetricError(
                f"Scores of different IoU thresholds cannot be pooled: {thresholds} and "
                f"{score.thresholds}."
            )
    pooled = ImageScore(
        thresholds=thresholds,
        n_truth=sum(score.n_truth for score in scores),
        n_prediction=sum(score.n_prediction for score in scores),
        tp=np.sum([score.tp for score in scores], axis=0),
        panoptic_tp=sum(score.panoptic_tp for score in scores),
        panoptic_iou_sum=float(sum(score.panoptic_iou_sum for score in scores)),
        jaccard_intersection=sum(score.jaccard_intersection for score in scores),
        jaccard_union=sum(score.jaccard_union for score in scores),
    )
    return PooledScore(n_images=len(scores), pooled=pooled, mean_per_image=_mean(scores))


def _mean(scores: Sequence[ImageScore]) -> MeanScore:
    return MeanScore(
        average_precision=np.mean([score.average_precision for score in scores], axis=0),
        precision=np.mean([score.precision for score in scores], axis=0),
        recall=np.mean([score.recall for score in scores], axis=0),
        f1=np.mean([score.f1 for score in scores], axis=0),
        mean_average_precision=float(np.mean([score.mean_average_precision for score in scores])),
        aggregated_jaccard=float(np.mean([score.aggregated_jaccard for score in scores])),
        segmentation_quality=float(np.mean([score.segmentation_quality for score in scores])),
        detection_quality=float(np.mean([score.detection_quality for score in scores])),
        panoptic_quality=float(np.mean([score.panoptic_quality for score in scores])),
    )


def _jaccard_sums(table: OverlapTable, ious: np.ndarray) -> tuple[int, int]:
    """Give numerator and denominator of the aggregated Jaccard index (Kumar et al. 2017)."""
    order = np.lexsort((-ious, table.rows))
    touched, first = np.unique(table.rows[order], return_index=True)
    best = order[first]
    missed = np.delete(table.truth_areas, touched)
    unused = np.delete(table.prediction_areas, table.columns[best])
    union = table.unions[best].sum() + missed.sum() + unused.sum()
    return int(table.intersections[best].sum()), int(union)
