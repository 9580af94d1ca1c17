"""How well two annotators agree: the scores that do not ask who of them is right."""

from __future__ import annotations

from typing import Any

from cellseg_engine.batch.evaluate import Evaluation
from cellseg_engine.batch.score_values import REPORTED_THRESHOLDS

SYMMETRIC = (
    "average_precision",
    "f1",
    "segmentation_quality",
    "detection_quality",
    "panoptic_quality",
)
"""Beginnings of the names of scores that stay the same when both annotators change places."""

_COUNTS = {"n_truth": "n_a", "n_prediction": "n_b"} | {
    f"{theirs}_{threshold:.2f}": f"{ours}_{threshold:.2f}"
    for theirs, ours in (
        ("true_positives", "both"),
        ("false_negatives", "only_a"),
        ("false_positives", "only_b"),
    )
    for threshold in REPORTED_THRESHOLDS
}


def as_agreement(evaluation: Evaluation) -> dict[str, Any]:
    """Give an evaluation of annotator B against A as agreement between both.

    Returns
    -------
    As `Evaluation.as_dict`, with ``a`` and ``b`` for truth and prediction, and without precision,
    recall and the aggregated Jaccard index, which would change if the two changed places.
    """
    scores = evaluation.as_dict()
    return {
        "n_images": scores["n_images"],
        "thresholds": scores["thresholds"],
        "match_rule": scores["match_rule"],
        "pooled": _rename(scores["pooled"]),
        "mean_per_image": _rename(scores["mean_per_image"]),
        "images": [
            {
                "image": row["image"],
                "frame": row["frame"],
                "a": row["truth"],
                "b": row["prediction"],
            }
            | _rename(row)
            for row in scores["images"]
        ],
        "only_by_a": scores["truths_without_prediction"],
        "only_by_b": scores["predictions_without_truth"],
        "left_out": scores["left_out"],
        "warnings": scores["warnings"],
    }


def _rename(values: dict[str, Any]) -> dict[str, Any]:
    counts = {ours: values[theirs] for theirs, ours in _COUNTS.items() if theirs in values}
    return counts | {name: value for name, value in values.items() if name.startswith(SYMMETRIC)}
