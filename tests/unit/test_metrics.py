"""Scores against slow implementations written from the definitions."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellseg_engine.core.metrics import (
    THRESHOLDS,
    ImageScore,
    iou_matrix,
    match_objects,
    pool_scores,
    score_image,
)

# -- the definitions, with sets of pixels and exact fractions -------------------------------

Objects = dict[int, set[tuple[int, ...]]]


def objects_of(labels: np.ndarray) -> Objects:
    found: Objects = {}
    for pixel in np.ndindex(labels.shape):
        if labels[pixel] != 0:
            found.setdefault(int(labels[pixel]), set()).add(pixel)
    return found


def slow_iou(one: set[Any], other: set[Any]) -> Fraction:
    return Fraction(len(one & other), len(one | other))


def slow_matching(truth: Objects, prediction: Objects, threshold: Fraction) -> tuple[int, Fraction]:
    """Try every matching: the largest number of pairs and, for it, the largest IoU sum."""
    if not truth:
        return 0, Fraction(0)
    first, *others = truth
    rest = {key: truth[key] for key in others}
    best = slow_matching(rest, prediction, threshold)
    for key, pixels in prediction.items():
        iou = slow_iou(truth[first], pixels)
        if iou >= threshold:
            remaining = {k: v for k, v in prediction.items() if k != key}
            pairs, total = slow_matching(rest, remaining, threshold)
            best = max(best, (pairs + 1, total + iou))
    return best


def slow_aji(truth: Objects, prediction: Objects) -> Fraction:
    """Kumar et al. 2017, algorithm 1; of equal IoU the one whose shared pixels come first."""
    if not truth and not prediction:
        return Fraction(1)
    intersection = union = 0
    used = set()
    for pixels in truth.values():
        touching = [key for key in prediction if prediction[key] & pixels]
        if not touching:
            union += len(pixels)
            continue
        top = max(slow_iou(pixels, prediction[key]) for key in touching)
        tied = [key for key in touching if slow_iou(pixels, prediction[key]) == top]
        best = min(tied, key=lambda key: min(prediction[key] & pixels))
        intersection += len(pixels & prediction[best])
        union += len(pixels | prediction[best])
        used.add(best)
    union += sum(len(pixels) for key, pixels in prediction.items() if key not in used)
    return Fraction(intersection, union)


@dataclass
class SlowScore:
    tp: list[int]
    fp: list[int]
    fn: list[int]
    aji: Fraction
    sq: Fraction
    pq: Fraction


def slow_score(truth_labels: np.ndarray, prediction_labels: np.ndarray) -> SlowScore:
    truth, prediction = objects_of(truth_labels), objects_of(prediction_labels)
    tp = [slow_matching(truth, prediction, Fraction(str(t)))[0] for t in THRESHOLDS]
    pairs, total = slow_matching(truth, prediction, Fraction(1, 2))
    fp, fn = len(prediction) - pairs, len(truth) - pairs
    if not truth and not prediction:
        sq = pq = Fraction(1)
    else:
        sq = total / pairs if pairs else Fraction(0)
        pq = total / (pairs + Fraction(fp, 2) + Fraction(fn, 2))
    return SlowScore(
        tp=tp,
        fp=[len(prediction) - n for n in tp],
        fn=[len(truth) - n for n in tp],
        aji=slow_aji(truth, prediction),
        sq=sq,
        pq=pq,
    )


# -- strategies ------------------------------------------------------------------------------

IDS = st.sampled_from([0, 0, 1, 2, 3, 7])


@st.composite
def label_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two small label images, the second one either unrelated or an edited copy of the first."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    kinds = st.sampled_from(["u1", "<i4", ">u2", "i8", "u8"])
    truth = draw(hnp.arrays(draw(kinds), shape, elements=IDS))
    if draw(st.booleans()):
        prediction = draw(hnp.arrays(draw(kinds), shape, elements=IDS))
    else:
        prediction = truth.astype(draw(kinds))
        for _ in range(draw(st.integers(0, 4))):
            pixel = tuple(draw(st.integers(0, side - 1)) for side in shape)
            prediction[pixel] = draw(IDS)
    return truth, prediction


def permuted(labels: np.ndarray, new_ids: list[int]) -> np.ndarray:
    table = np.zeros(8, np.int64)
    table[1:] = new_ids
    return table[labels.astype(np.int64)]


def numbers(score: ImageScore) -> list[Any]:
    """Every count and score that follows from an image, for comparisons."""
    return [
        score.n_truth,
        score.n_prediction,
        score.tp.tolist(),
        score.fp.tolist(),
        score.fn.tolist(),
        score.average_precision.tolist(),
        score.mean_average_precision,
        score.precision.tolist(),
        score.recall.tolist(),
        score.f1.tolist(),
        score.aggregated_jaccard,
        pytest.approx(score.segmentation_quality),
        score.detection_quality,
        pytest.approx(score.panoptic_quality),
    ]


# -- properties ------------------------------------------------------------------------------


@given(label_pairs())
def test_counts_and_scores_are_those_of_the_definitions(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    score, slow = score_image(*pair), slow_score(*pair)
    assert score.tp.tolist() == slow.tp
    assert score.fp.tolist() == slow.fp
    assert score.fn.tolist() == slow.fn
    assert score.aggregated_jaccard == pytest.approx(float(slow.aji))
    assert score.segmentation_quality == pytest.approx(float(slow.sq))
    assert score.panoptic_quality == pytest.approx(float(slow.pq))


@given(label_pairs(), st.sampled_from(["0.05", "0.2", "0.25", "1/3", "0.5", "0.6", "1"]))
def test_matching_has_the_most_pairs_then_the_largest_iou(
    pair: tuple[np.ndarray, np.ndarray], threshold: str
) -> None:
    exact = Fraction(threshold)
    matches = match_objects(*pair, float(exact))
    truth, prediction = objects_of(pair[0]), objects_of(pair[1])
    pairs, total = slow_matching(truth, prediction, exact)
    assert matches.ious.size == pairs
    assert matches.ious.sum() == pytest.approx(float(total))
    for truth_id, prediction_id, iou in zip(
        matches.truth_ids, matches.prediction_ids, matches.ious, strict=True
    ):
        assert iou == float(slow_iou(truth[int(truth_id)], prediction[int(prediction_id)]))
    matched_truth, matched_prediction = matches.truth_ids, matches.prediction_ids
    assert sorted([*matched_truth, *matches.unmatched_truth]) == sorted(truth)
    assert sorted([*matched_prediction, *matches.unmatched_predictions]) == sorted(prediction)
    assert matched_truth.tolist() == sorted(matched_truth)


@given(label_pairs())
def test_iou_matrix_holds_every_pair(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = objects_of(pair[0]), objects_of(pair[1])
    expected = [[float(slow_iou(truth[t], prediction[p])) for p in sorted(prediction)]
                for t in sorted(truth)]  # fmt: skip
    matrix = iou_matrix(*pair)
    assert matrix.shape == (len(truth), len(prediction))
    assert matrix.toarray().tolist() == expected
    assert matrix.nnz == np.count_nonzero(expected)


@given(label_pairs(), st.permutations(range(1, 8)), st.permutations(range(1, 8)))
def test_scores_do_not_depend_on_the_ids(
    pair: tuple[np.ndarray, np.ndarray], truth_ids: list[int], prediction_ids: list[int]
) -> None:
    renamed = score_image(permuted(pair[0], truth_ids), permuted(pair[1], prediction_ids))
    assert numbers(renamed) == numbers(score_image(*pair))


@given(label_pairs())
def test_swapping_the_images_swaps_precision_and_recall(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    there, back = score_image(*pair), score_image(*reversed(pair))
    assert there.precision.tolist() == back.recall.tolist()
    assert there.recall.tolist() == back.precision.tolist()
    assert there.fp.tolist() == back.fn.tolist()
    assert there.average_precision.tolist() == back.average_precision.tolist()
    assert there.f1.tolist() == back.f1.tolist()
    assert there.panoptic_quality == pytest.approx(back.panoptic_quality)


@given(label_pairs())
def test_an_image_against_itself_is_perfect(pair: tuple[np.ndarray, np.ndarray]) -> None:
    score = score_image(pair[0], pair[0])
    assert score.average_precision.tolist() == [1.0] * len(THRESHOLDS)
    assert score.f1.tolist() == [1.0] * len(THRESHOLDS)
    assert score.aggregated_jaccard == score.panoptic_quality == 1.0


@given(label_pairs())
def test_scores_are_ordered_and_between_0_and_1(pair: tuple[np.ndarray, np.ndarray]) -> None:
    score = score_image(*pair)
    for values in (score.average_precision, score.precision, score.recall, score.f1):
        assert np.all((values >= 0) & (values <= 1))
        assert np.all(np.diff(values) <= 0)
    assert np.all(score.average_precision <= score.f1)
    # F1 and AP are the same number in two forms (Dice and Jaccard of objects).
    np.testing.assert_allclose(
        score.f1, 2 * score.average_precision / (1 + score.average_precision)
    )
    assert 0 <= score.panoptic_quality <= score.detection_quality <= 1
    assert 0 <= score.aggregated_jaccard <= 1


@given(st.lists(label_pairs(), min_size=1, max_size=5))
def test_pooled_scores_lie_between_those_of_the_images(
    pairs: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    scores = [score_image(*pair) for pair in pairs]
    together = pool_scores(scores)
    slack = 1e-12
    for name in ("average_precision", "f1", "aggregated_jaccard", "panoptic_quality"):
        each = np.array([getattr(score, name) for score in scores])
        pooled = getattr(together.pooled, name)
        assert np.all(pooled >= each.min(axis=0) - slack)
        assert np.all(pooled <= each.max(axis=0) + slack)
        np.testing.assert_allclose(getattr(together.mean_per_image, name), each.mean(axis=0))
    assert together.n_images == len(scores)
    assert together.pooled.tp.tolist() == np.sum([score.tp for score in scores], axis=0).tolist()


@settings(max_examples=30)
@given(label_pairs(), label_pairs())
def test_pooling_is_scoring_the_images_side_by_side(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> None:
    def beside(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        shifted = np.where(second > 0, second.astype(np.int64) + 10, 0)
        return np.concatenate([first.ravel().astype(np.int64), shifted.ravel()])

    whole = score_image(beside(one[0], other[0]), beside(one[1], other[1]))
    pooled = pool_scores([score_image(*one), score_image(*other)]).pooled
    assert numbers(pooled) == numbers(whole)


def test_memory_order_of_the_arrays_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    truth, prediction = rng.integers(0, 4, (2, 6, 7))
    plain = score_image(truth, prediction)
    assert numbers(score_image(np.asfortranarray(truth), prediction)) == numbers(plain)
