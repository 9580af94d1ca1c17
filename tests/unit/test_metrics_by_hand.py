"""Scores against numbers counted by hand, and what the metrics refuse."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg_engine.core.metrics import (
    THRESHOLDS,
    match_objects,
    overlap_table,
    pool_scores,
    score_image,
)
from cellseg_engine.errors import MetricError


def test_aggregated_jaccard_by_hand() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3, 3]])
    prediction = np.array([[5, 5, 5, 0, 0, 9, 9, 9, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 4, 4]])
    truth = np.vstack([truth, np.zeros_like(truth)])
    # 1 with 5: 3 of 4; 2 with 9: 2 of 3; 3 has nothing: 2 more below; 4 is unused: 2 more below.
    score = score_image(truth, prediction)
    assert score.aggregated_jaccard == pytest.approx((3 + 2) / (4 + 3 + 2 + 2))


def test_aggregated_jaccard_lets_a_prediction_serve_two_objects() -> None:
    truth = np.array([1, 1, 1, 2, 2, 0])
    prediction = np.array([8, 8, 8, 8, 8, 8])
    # Kumar's algorithm 1 takes prediction 8 for both: intersections 3 + 2, unions 6 + 6.
    assert score_image(truth, prediction).aggregated_jaccard == pytest.approx(5 / 12)


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_aggregated_jaccard_of_equal_iou_takes_the_one_met_first(first: int, second: int) -> None:
    truth = np.repeat([1, 2], [8, 4])
    prediction = np.repeat([first, 0, second], [2, 3, 7])
    # Object 1 has IoU 2/8 with the first and 3/12 with the second; object 2 takes the second.
    assert score_image(truth, prediction).aggregated_jaccard == pytest.approx((2 + 4) / (8 + 7))


def test_panoptic_quality_by_hand() -> None:
    truth = np.array([1, 1, 1, 1, 0, 2, 2, 0, 3, 3])
    prediction = np.array([5, 5, 5, 0, 0, 9, 9, 9, 0, 4])
    # IoU 3/4, 2/3 and 1/2, all pairs; with a fourth prediction that finds nothing:
    score = score_image(np.append(truth, [0, 0]), np.append(prediction, [0, 6]))
    segmentation, detection = (3 / 4 + 2 / 3 + 1 / 2) / 3, 3 / (3 + 1 / 2)
    assert score.segmentation_quality == pytest.approx(segmentation)
    assert score.detection_quality == pytest.approx(detection)
    assert score.panoptic_quality == pytest.approx(segmentation * detection)


def test_counts_at_each_threshold_by_hand() -> None:
    truth = np.array([1, 1, 1, 1, 0, 2, 2, 0, 3, 3])
    prediction = np.array([5, 5, 5, 0, 0, 9, 9, 9, 0, 4])
    score = score_image(truth, prediction)  # IoU 0.75, 0.667, 0.5
    assert score.tp.tolist() == [3, 2, 2, 2, 1, 1, 0, 0, 0, 0]
    assert score.average_precision[2] == 2 / 4
    assert score.precision[2] == score.recall[2] == score.f1[2] == 2 / 3


def test_precision_and_recall_by_hand() -> None:
    score = score_image(np.array([1, 0, 2, 3, 4]), np.array([1, 9, 0, 3, 0]), [0.5])
    assert score.precision.tolist() == [2 / 3]
    assert score.recall.tolist() == [2 / 4]
    assert score.f1.tolist() == [4 / 7]
    assert score.average_precision.tolist() == [2 / 5]


@pytest.mark.parametrize(("shared", "size"), [(1, 2), (3, 5), (4, 5), (9, 10), (13, 20)])
def test_iou_equal_to_the_threshold_counts(shared: int, size: int) -> None:
    prediction = np.ones(size, int)
    truth = (np.arange(size) < shared).astype(int)
    threshold = shared / size
    score = score_image(truth, prediction)
    assert score.tp[score.thresholds.index(threshold)] == 1
    assert match_objects(truth, prediction, threshold).ious.tolist() == [threshold]
    assert match_objects(truth, prediction, min(1.0, threshold + 1e-9)).ious.size == 0


def test_an_object_split_into_two_halves_is_found_once() -> None:
    matches = match_objects(np.array([1, 1]), np.array([1, 2]), 0.5)
    assert matches.truth_ids.tolist() == [1]
    assert matches.unmatched_predictions.size == 1
    assert score_image(np.array([1, 1]), np.array([1, 2])).tp[0] == 1


def test_below_a_half_more_pairs_win_over_a_larger_iou() -> None:
    # Object 1 overlaps 5 (IoU 5/9) and 6 (IoU 2/8); object 2 overlaps 5 only (IoU 2/7).
    truth = np.array([1, 1, 1, 1, 1, 1, 1, 2, 2, 0])
    prediction = np.array([6, 6, 5, 5, 5, 5, 5, 5, 5, 6])
    strict_match = match_objects(truth, prediction, 0.5)
    assert (strict_match.truth_ids.tolist(), strict_match.prediction_ids.tolist()) == ([1], [5])
    best = match_objects(truth, prediction, 0.2)
    assert (best.truth_ids.tolist(), best.prediction_ids.tolist()) == ([1, 2], [6, 5])
    np.testing.assert_allclose(best.ious, [2 / 8, 2 / 7])


def test_nothing_in_both_images_is_perfect() -> None:
    empty = np.zeros((4, 4), np.uint16)
    score = score_image(empty, empty)
    for values in (score.average_precision, score.precision, score.recall, score.f1):
        assert values.tolist() == [1.0] * len(THRESHOLDS)
    assert score.aggregated_jaccard == score.panoptic_quality == score.segmentation_quality == 1.0
    assert score.mean_average_precision == 1.0
    assert (score.n_truth, score.n_prediction) == (0, 0)


@pytest.mark.parametrize("found", [False, True])
def test_objects_in_only_one_image_give_zero(found: bool) -> None:
    empty, full = np.zeros((4, 4), int), np.eye(4, dtype=int)
    score = score_image(empty, full) if found else score_image(full, empty)
    for values in (score.average_precision, score.precision, score.recall, score.f1):
        assert values.tolist() == [0.0] * len(THRESHOLDS)
    assert score.aggregated_jaccard == score.panoptic_quality == score.segmentation_quality == 0.0
    assert (score.fp[0], score.fn[0]) == ((1, 0) if found else (0, 1))


def test_pooled_and_mean_per_image_differ_as_named() -> None:
    one_of_one = score_image(np.array([1, 0, 0]), np.array([1, 0, 0]))
    one_of_three = score_image(np.array([1, 2, 3]), np.array([1, 0, 0]))
    empty = score_image(np.array([0]), np.array([0]))
    together = pool_scores([one_of_one, one_of_three, empty])
    assert together.pooled.average_precision[0] == 2 / 4
    assert together.mean_per_image.average_precision[0] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert together.pooled.aggregated_jaccard == 2 / 4
    assert together.mean_per_image.recall[0] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert pool_scores([empty, empty]).pooled.f1[0] == 1.0


def test_more_objects_than_16_bits_count() -> None:
    truth = np.arange(1, 90_001, dtype=np.int32).reshape(300, 300)
    prediction = truth.astype(np.uint64) * 40_000_000_000
    prediction[0, :10] = 0
    score = score_image(truth, prediction)
    assert (score.n_truth, score.n_prediction) == (90_000, 89_990)
    assert score.tp.tolist() == [89_990] * len(THRESHOLDS)
    assert score.aggregated_jaccard == pytest.approx(89_990 / 90_000)


def test_a_long_row_of_contested_objects_is_matched_completely() -> None:
    steps = np.arange(6_000)
    truth, prediction = steps // 2 + 1, (steps + 1) // 2 + 1
    # Every object shares one pixel with both neighbours, at IoU 1/3 (at the ends 1/2).
    matches = match_objects(truth, prediction, 0.3)
    assert matches.unmatched_truth.size == 0
    assert matches.unmatched_predictions.size == 1
    assert matches.ious.sum() == pytest.approx(2_998 / 3 + 2 / 2)


def test_a_volume_is_scored_in_voxels() -> None:
    truth = np.zeros((4, 4, 4), np.uint8)
    truth[1:3, 1:3, 1:3] = 1
    prediction = np.zeros((4, 4, 4), np.uint8)
    prediction[1:4, 1:3, 1:3] = 1
    assert match_objects(truth, prediction).ious.tolist() == [8 / 12]
    # Plane by plane it would be three objects in the prediction; here an id is one object.
    assert score_image(truth, prediction).n_prediction == 1


def test_overlap_table_by_hand() -> None:
    table = overlap_table(np.array([[4, 4, 0], [9, 4, 0]]), np.array([[2, 2, 2], [2, 0, 7]]))
    assert table.truth_ids.tolist() == [4, 9]
    assert table.truth_areas.tolist() == [3, 1]
    assert table.prediction_ids.tolist() == [2, 7]
    assert table.prediction_areas.tolist() == [4, 1]
    assert list(zip(table.rows.tolist(), table.columns.tolist(), strict=True)) == [(0, 0), (1, 0)]
    assert table.intersections.tolist() == [2, 1]
    assert table.unions.tolist() == [5, 4]


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("truth", "prediction", "words"),
    [
        (np.zeros((4, 5), int), np.zeros((5, 4), int), ["(4, 5)", "(5, 4)", "same shape"]),
        (np.zeros((2, 2)), np.zeros((2, 2), int), ["`truth`", "float64", "integers"]),
        (np.zeros((2, 2), int), np.zeros((2, 2), bool), ["`prediction`", "bool", "components"]),
        (np.zeros((2, 2), int), np.array([[0, -3], [1, 1]]), ["`prediction`", "-3", "negative"]),
        (np.zeros((0, 2), int), np.zeros((0, 2), int), ["(0, 2)", "no pixels"]),
    ],
)
def test_images_that_cannot_be_compared_are_refused(
    truth: np.ndarray, prediction: np.ndarray, words: list[str]
) -> None:
    with pytest.raises(MetricError) as caught:
        score_image(truth, prediction)
    for word in words:
        assert word in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("thresholds", [[], [0.0], [0.5, 1.2], [float("nan")], [-1]])
def test_thresholds_out_of_range_are_refused(thresholds: list[float]) -> None:
    with pytest.raises(MetricError, match="above 0 and at most 1"):
        score_image(np.array([1]), np.array([1]), thresholds)


def test_scores_that_cannot_be_pooled_are_refused() -> None:
    with pytest.raises(MetricError, match="no score"):
        pool_scores([])
    one, other = (score_image(np.array([1]), np.array([1]), [t]) for t in (0.5, 0.7))
    with pytest.raises(MetricError, match="different IoU thresholds"):
        pool_scores([one, other])
