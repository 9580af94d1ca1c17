"""Score label images on disk: read each pair, score it, pool the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cellseg_engine.batch.pairing import Pair, Pairing, pair_files
from cellseg_engine.batch.score_values import count_values, score_values
from cellseg_engine.core.labels import NOT_ANNOTATED, keep_annotated
from cellseg_engine.core.metrics import ImageScore, PooledScore, pool_scores, score_image
from cellseg_engine.errors import AxesError, MetricError
from cellseg_engine.io.images import read_labels

__all__ = [
    "Evaluation",
    "Pair",
    "Pairing",
    "ScoredImage",
    "evaluate_pairs",
    "pair_files",
    "read_frames",
]


@dataclass(frozen=True)
class ScoredImage:
    """The score of one plane or volume.

    Attributes
    ----------
    pair
        Where it comes from.
    frame
        Time point, for example ``T=3`` (from 0); empty if the file holds only one.
    score
        Its counts and scores.
    """

    pair: Pair
    frame: str
    score: ImageScore


@dataclass(frozen=True)
class Evaluation:
    """Scores of many images.

    Attributes
    ----------
    pairing
        What was compared, and what was not for want of a partner.
    images
        One entry per plane or volume.
    total
        Pooled and as mean per image.
    is_between
        Two annotators were compared, of whom neither is right; the first one stands as truth.
    warnings
        Sentences about truths that may be none.
    """

    pairing: Pairing
    images: tuple[ScoredImage, ...]
    total: PooledScore
    is_between: bool = False
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, str | int | float]]:
        """Give one row per image for a table: names, counts and scores; equal keys in each."""
        return [
            {
                "image": image.pair.name,
                "frame": image.frame,
                "prediction": str(image.pair.prediction),
                "truth": str(image.pair.truth),
                **count_values(image.score),
                **score_values(image.score, image.score.thresholds),
            }
            for image in self.images
        ]

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain Python values, ready for ``json.dump``."""
        pooled = self.total.pooled
        return {
            "n_images": self.total.n_images,
            "thresholds": list(pooled.thresholds),
            "match_rule": "IoU >= threshold, one partner each",
            "pooled": {**count_values(pooled), **score_values(pooled, pooled.thresholds)},
            "mean_per_image": score_values(self.total.mean_per_image, pooled.thresholds),
            "images": self.rows(),
            "predictions_without_truth": _paths(self.pairing.predictions_without_truth),
            "truths_without_prediction": _paths(self.pairing.truths_without_prediction),
            "left_out": _paths(self.pairing.left_out),
            "warnings": list(self.warnings),
        }


def evaluate_pairs(
    pairing: Pairing,
    progress: Callable[[int, int], None] | None = None,
    *,
    axes: str | None = None,
    between: bool = False,
) -> Evaluation:
    """Read and score the pairs, one at a time.

    Planes or volumes of different time points are numbered independently, so each one is scored
    as an image of its own. A truth may be annotated in a part (`NOT_ANNOTATED` elsewhere): found
    objects count if at least half of them lies in it.

    Parameters
    ----------
    pairing
        Of `pair_files`.
    progress
        Called with the number of pairs done and their total, after each pair.
    axes
        What the dimensions of all files are, for example ``"ZYX"``; goes before what the files
        say. Without it, of two files one of which does not say it, both have the other one's.
    between
        Both are annotations. Both may be annotated in a part, and objects of both count if at least
        half of them lies in what both have annotated.

    Raises
    ------
    ReadError
        A file cannot be read as a label image.
    AxesError
        Neither file of a pair says what its dimensions are, or ``axes`` does not fit.
    MetricError
        There is no pair, or the two images of one differ in shape or axes; the message names the
        files.
    """
    images: list[ScoredImage] = []
    warnings: list[str] = []
    for done, pair in enumerate(pairing.pairs, start=1):
        images += _score_pair(pair, axes, between, warnings)
        if progress is not None:
            progress(done, len(pairing.pairs))
    total = pool_scores([image.score for image in images])
    return Evaluation(pairing, tuple(images), total, between, tuple(warnings))


def read_frames(
    pair: Pair, axes: str | None = None, *, between: bool = False
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Give each plane or volume of a pair: its name, the true and the predicted labels.

    Where one of both has `NOT_ANNOTATED` in it, objects that lie there for the most part are left
    out, and so are time points that have nothing else. Parameters and errors are those of
    `evaluate_pairs`; planes are (Y, X) and volumes (Z, Y, X), whatever order the axes have.
    """
    nothing = True
    for name, *frames in _frames(*_read_pair(pair, axes, between)):
        annotated = (frames[0] != NOT_ANNOTATED) & (frames[1] != NOT_ANNOTATED)
        if not annotated.all():
            frames = [keep_annotated(np.maximum(labels, 0), annotated) for labels in frames]
        if annotated.any() or not annotated.size:
            nothing = False
            yield name, frames[0], frames[1]
    if nothing:
        raise MetricError(
            "no pixel is annotated in both: one or the other has label -1 everywhere."
            if between
            else "the truth has label -1 (not annotated) everywhere.",
            hint="Leave this image out, or annotate a part of it.",
        )


def _score_pair(
    pair: Pair, axes: str | None, between: bool, warnings: list[str]
) -> list[ScoredImage]:
    images = []
    truths = (pair.truth, pair.prediction) if between else (pair.truth,)
    n_parts: dict[Path, list[int]] = {path: [] for path in truths}
    try:
        for name, truth, prediction in read_frames(pair, axes, between=between):
            score = score_image(truth, prediction)
            images.append(ScoredImage(pair=pair, frame=name, score=score))
            for path, frame in zip(truths, (truth, prediction), strict=False):
                n_parts[path].append(_count_parts(frame))
    except MetricError as error:
        first, second = ("A", "B") if between else ("truth", "prediction")
        raise MetricError(
            f"{pair.truth} ({first}) and {pair.prediction} ({second}): {error.message}",
            hint=error.hint,
        ) from error
    warnings += [
        f"{path} looks like a yes/no mask: its {max(n)} separate parts have one number, so they "
        "count as one object. Give each object a number of its own."
        for path, n in n_parts.items()
        if max(n) > 1 and all(n)
    ]
    return images


def _count_parts(labels: np.ndarray) -> int:
    """Count the separate parts of a frame with one object at most; 0 where there are several."""
    inside = labels > 0
    ids = labels[inside]
    if ids.size and ids.min() < ids.max():
        return 0
    return max(1, int(ndimage.label(inside, np.ones((3,) * labels.ndim))[1]))


def _read_pair(
    pair: Pair, axes: str | None, between: bool
) -> tuple[np.ndarray, str, np.ndarray, str]:
    """Give labels and axes of truth and prediction; axes that one lacks are the other one's."""
    lowest = NOT_ANNOTATED if between else 0
    try:
        truth = read_labels(pair.truth, axes=axes, lowest=NOT_ANNOTATED)
    except AxesError:
        if axes is not None:
            raise
        prediction = read_labels(pair.prediction, lowest=lowest)
        truth = read_labels(pair.truth, axes=prediction[1], lowest=NOT_ANNOTATED)
        return *truth, *prediction
    try:
        return *truth, *read_labels(pair.prediction, axes=axes, lowest=lowest)
    except AxesError:
        if axes is not None:
            raise
        return *truth, *read_labels(pair.prediction, axes=truth[1], lowest=lowest)


def _frames(
    truth: np.ndarray, truth_axes: str, prediction: np.ndarray, prediction_axes: str
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Give each plane or volume of two label images of one shape, with its name."""
    if set(truth_axes) != set(prediction_axes):
        raise MetricError(
            f"the axes differ: {truth_axes} {truth.shape} and "
            f"{prediction_axes} {prediction.shape}.",
            hint="Give the axes of both (--axes, or axes= in Python), or save them alike.",
        )
    order = [letter for letter in "TZYX" if letter in truth_axes]
    truth = truth.transpose([truth_axes.index(letter) for letter in order])
    prediction = prediction.transpose([prediction_axes.index(letter) for letter in order])
    if truth.shape != prediction.shape:
        raise MetricError(
            f"they do not have the same shape: {truth.shape} and {prediction.shape}, along "
            f"{''.join(order)}.",
            hint="Both must be label images of the same picture, at the same scale.",
        )
    if "T" not in order:
        yield "", truth, prediction
        return
    for n, (true_frame, found) in enumerate(zip(truth, prediction, strict=True)):
        yield f"T={n}", true_frame, found


def _paths(paths: Iterable[Path]) -> list[str]:
    return [str(path) for path in paths]
