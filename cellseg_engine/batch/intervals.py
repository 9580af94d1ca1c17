"""How far scores would move with other images of the same sort: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellseg_engine.batch.evaluate import Evaluation, ScoredImage
from cellseg_engine.batch.score_values import score_values
from cellseg_engine.core.metrics import ImageScore

N_RESAMPLES = 2000
LEVEL = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """Intervals of all scores.

    Attributes
    ----------
    level
        Share of the resamples that lie inside.
    n_resamples, n_files, seed
        How they were made.
    pooled, mean_per_image
        Lower and upper end of each score, by the names of `Evaluation.as_dict`.
    """

    level: float
    n_resamples: int
    n_files: int
    seed: int
    pooled: dict[str, Interval]
    mean_per_image: dict[str, Interval]


def bootstrap(
    evaluation: Evaluation, *, seed: int = 0, n_resamples: int = N_RESAMPLES, level: float = LEVEL
) -> Intervals | None:
    """Give percentile intervals of the scores, or None for a single file.

    Files are drawn with replacement as often as there are files, and scored together; the time
    points of one file stay together, since they are not independent. With few files the
    intervals are too narrow: six images say little about a seventh.

    Parameters
    ----------
    seed
        The same one gives the same intervals.
    n_resamples
        How often all files are drawn.
    level
        Share of the resamples inside the interval.
    """
    pairs = dict.fromkeys(image.pair for image in evaluation.images)
    files = {pair: number for number, pair in enumerate(pairs)}
    if len(files) < 2:
        return None
    owners = np.array([files[image.pair] for image in evaluation.images])
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(files), np.full(len(files), 1 / len(files)), n_resamples)
    weights = draws[:, owners]
    ends = (50 * (1 - level), 50 * (1 + level))
    return Intervals(
        level,
        n_resamples,
        len(files),
        seed,
        _intervals(_pooled(evaluation.images, weights), ends),
        _intervals(_means(evaluation.images, weights), ends),
    )


def _intervals(samples: dict[str, np.ndarray], ends: tuple[float, float]) -> dict[str, Interval]:
    return {
        name: (float(low), float(high))
        for name, values in samples.items()
        for low, high in [np.percentile(values, ends)]
    }


def _means(images: Sequence[ScoredImage], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Give the mean per image of each score in each resample."""
    rows = [score_values(image.score, image.score.thresholds) for image in images]
    matrix = np.array([[float(value) for value in row.values()] for row in rows])
    means = weights @ matrix / weights.sum(axis=1, keepdims=True)
    return dict(zip(rows[0], means.T, strict=True))


def _pooled(images: Sequence[ScoredImage], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Give the pooled value of each score in each resample."""
    thresholds = images[0].score.thresholds
    matrix = np.array(
        [
            (
                one.score.n_truth,
                one.score.n_prediction,
                one.score.panoptic_tp,
                one.score.panoptic_iou_sum,
                one.score.jaccard_intersection,
                one.score.jaccard_union,
                *one.score.tp,
            )
            for one in images
        ]
    )
    rows = [
        score_values(
            ImageScore(
                thresholds=thresholds,
                n_truth=round(sums[0]),
                n_prediction=round(sums[1]),
                tp=np.rint(sums[6:]).astype(np.int64),
                panoptic_tp=round(sums[2]),
                panoptic_iou_sum=float(sums[3]),
                jaccard_intersection=round(sums[4]),
                jaccard_union=round(sums[5]),
            ),
            thresholds,
        )
        for sums in weights @ matrix
    ]
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
