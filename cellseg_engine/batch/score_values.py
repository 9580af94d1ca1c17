"""Scores as named numbers, for tables and JSON."""

from __future__ import annotations

from collections.abc import Sequence

from cellseg_engine.core.metrics import PANOPTIC_THRESHOLD, ImageScore, MeanScore

REPORTED_THRESHOLDS = (0.5, 0.6)
"""IoU at which precision, recall, F1 and the counts are reported; AP is for all thresholds."""

Values = dict[str, str | int | float]


def count_values(score: ImageScore) -> Values:
    """Give the counts of objects and matches."""
    counts: Values = {"n_truth": score.n_truth, "n_prediction": score.n_prediction}
    for threshold in REPORTED_THRESHOLDS:
        at = score.thresholds.index(threshold)
        counts[f"true_positives_{threshold:.2f}"] = int(score.tp[at])
        counts[f"false_positives_{threshold:.2f}"] = int(score.fp[at])
        counts[f"false_negatives_{threshold:.2f}"] = int(score.fn[at])
    return counts


def score_values(score: ImageScore | MeanScore, thresholds: Sequence[float]) -> Values:
    """Give the scores that follow from the counts."""
    values: Values = {
        f"average_precision_{threshold:.2f}": float(value)
        for threshold, value in zip(thresholds, score.average_precision, strict=True)
    }
    span = f"{min(thresholds):.2f}-{max(thresholds):.2f}"
    values[f"average_precision_{span}"] = score.mean_average_precision
    for name in ("precision", "recall", "f1"):
        for threshold in REPORTED_THRESHOLDS:
            value = getattr(score, name)[thresholds.index(threshold)]
            values[f"{name}_{threshold:.2f}"] = float(value)
    values["aggregated_jaccard"] = score.aggregated_jaccard
    for name in ("segmentation_quality", "detection_quality", "panoptic_quality"):
        values[f"{name}_{PANOPTIC_THRESHOLD:.2f}"] = float(getattr(score, name))
    return values
