"""Pairs of files on disk and their scores, through real TIFF and PNG files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.io import imsave

from cellseg_engine.batch.evaluate import Pair, Pairing, evaluate_pairs, pair_files
from cellseg_engine.errors import AxesError, MetricError, ReadError

TWO = np.array([[1, 1, 0, 2], [1, 1, 0, 2], [0, 0, 0, 2]], np.uint16)
ONE = np.array([[7, 7, 0, 0], [7, 7, 0, 0], [0, 0, 0, 0]], np.uint16)
NONE = np.zeros_like(TWO)


def write(path: Path, labels: np.ndarray = TWO, axes: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        imsave(path, labels, check_contrast=False)
    elif axes:
        tifffile.imwrite(path, labels, imagej=True, metadata={"axes": axes})
    else:
        tifffile.imwrite(path, labels, photometric="minisblack")
    return path


def names(pairing: Pairing) -> list[str]:
    return [pair.name for pair in pairing.pairs]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "Ergebnisse ä 1", tmp_path / "truth"


# -- pairs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "true"),
    [
        ("x_labels.tif", "x_masks.tif"),
        ("x_img_labels.tif", "x_masks.tif"),
        ("x_img_cp_masks.tif", "x_mask.png"),
        ("x_label.png", "x_gt.tiff"),
        ("x.tif", "x.TIF"),
        ("x_Labels.ome.tif", "x_img_Masks.tif"),
        ("x_img.tif", "x.tif"),
    ],
)
def test_endings_do_not_matter(folders: tuple[Path, Path], predicted: str, true: str) -> None:
    prediction, truth = write(folders[0] / predicted), write(folders[1] / true)
    assert pair_files(*folders).pairs == (Pair("x", prediction=prediction, truth=truth),)


def test_subfolders_are_kept_apart(folders: tuple[Path, Path]) -> None:
    for well in ("a", "b/c"):
        write(folders[0] / well / "x_labels.tif")
        write(folders[1] / well / "x_masks.tif")
    pairing = pair_files(*folders)
    assert names(pairing) == ["a/x", "b/c/x"]
    for pair in pairing.pairs:
        assert pair.prediction.parent.name == pair.truth.parent.name


def test_linked_folders_are_searched(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for side, name in enumerate(("x_labels.tif", "x_masks.tif")):
        write(tmp_path / f"elsewhere{side}" / name)
        folders[side].mkdir()
        try:
            (folders[side] / "b").symlink_to(tmp_path / f"elsewhere{side}")
        except OSError as error:
            pytest.skip(f"no links here: {error}")
    assert names(pair_files(*folders)) == ["b/x"]


def test_images_alone_are_no_truth(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "x_labels.tif")
    write(folders[1] / "x_img.tif")
    with pytest.raises(MetricError, match=r"called _img, as images are.*x_img\.tif"):
        pair_files(*folders)


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    prediction, truth = write(tmp_path / "mine.tif"), write(tmp_path / "theirs_masks.tif")
    assert pair_files(prediction, truth).pairs == (Pair("theirs", prediction, truth),)


def test_images_beside_the_labels_are_left_out(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "x_labels.tif")
    write(folders[0] / "x_overlay.png")
    write(folders[0] / "x_overlay.tif")
    (folders[0] / "x_objects.csv").write_text("label\n")
    write(folders[0] / ".x_masks.tif")
    write(folders[1] / "x_masks.tif")
    image = write(folders[1] / "x_img.tif")
    unlabelled = write(folders[1] / "y.tif")
    pairing = pair_files(*folders)
    assert names(pairing) == ["x"]
    assert pairing.pairs[0].truth.name == "x_masks.tif"
    assert pairing.left_out == (image, unlabelled)
    assert pairing.truths_without_prediction == pairing.predictions_without_truth == ()


def test_results_inside_the_truth_folder_are_no_truth(tmp_path: Path) -> None:
    write(tmp_path / "x_masks.tif")
    write(tmp_path / "results" / "x_labels.tif")
    write(tmp_path / "more" / "z_masks.tif")
    pairing = pair_files(tmp_path / "results", tmp_path, allow_missing=True)
    assert names(pairing) == ["x"]
    assert [path.name for path in pairing.truths_without_prediction] == ["z_masks.tif"]


@pytest.mark.parametrize("name", [".", "x_masks.tif"])
def test_the_same_path_twice_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "x_masks.tif")
    with pytest.raises(MetricError, match="prediction and the truth are both"):
        pair_files(tmp_path / name, tmp_path / name)


def test_a_path_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="There is no file or folder"):
        pair_files(tmp_path / ("x" * 400), tmp_path)


def test_a_truth_without_prediction_is_refused_or_left_out_by_name(
    folders: tuple[Path, Path],
) -> None:
    write(folders[0] / "x_labels.tif")
    extra = write(folders[0] / "extra_labels.tif")
    missing = [write(folders[1] / f"y{n}_masks.tif") for n in range(7)]
    write(folders[1] / "x_masks.tif")
    with pytest.raises(MetricError, match=r"7 of 8 .*y0_masks\.tif.*y4_masks\.tif and 2 more"):
        pair_files(*folders)
    pairing = pair_files(*folders, allow_missing=True)
    assert names(pairing) == ["x"]
    assert pairing.truths_without_prediction == tuple(missing)
    assert pairing.predictions_without_truth == (extra,)
    result = evaluate_pairs(pairing).as_dict()
    assert result["truths_without_prediction"] == [str(path) for path in missing]
    assert result["predictions_without_truth"] == [str(extra)]
    assert result["n_images"] == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [("x_masks.tif", "x_labels.tif"), ("x.tif", "x.png"), ("x_img.tif", "x.tif")],
)
@pytest.mark.parametrize("side", [0, 1])
def test_two_candidates_are_refused(
    folders: tuple[Path, Path], side: int, first: str, second: str
) -> None:
    write(folders[1 - side] / "x_masks.tif")
    write(folders[side] / first)
    write(folders[side] / second)
    with pytest.raises(MetricError, match="could be the labels of x") as caught:
        pair_files(*folders)
    assert first in str(caught.value)
    assert second in str(caught.value)


def test_paths_that_do_not_fit_are_refused(folders: tuple[Path, Path]) -> None:
    prediction, truth = folders
    truth.mkdir()
    with pytest.raises(ReadError, match="There is no file or folder"):
        pair_files(prediction, truth)
    file = write(prediction / "x_labels.tif")
    with pytest.raises(MetricError, match="a file and the other one a folder"):
        pair_files(file, truth)
    with pytest.raises(ReadError, match="no label image in the folder"):
        pair_files(prediction, truth)
    write(truth / "y_masks.tif")
    with pytest.raises(MetricError, match=r"x_labels\.tif; y_masks\.tif"):
        pair_files(prediction, truth, allow_missing=True)


# -- scores ----------------------------------------------------------------------------------


@pytest.fixture
def evaluated(folders: tuple[Path, Path]) -> Pairing:
    """Three images: 2 of 2 found; 1 of 2 found; nothing to find nor found."""
    for name, predicted, true in (("a", TWO, TWO), ("b", ONE, TWO), ("c", NONE, NONE)):
        write(folders[0] / f"{name}_labels.tif", predicted)
        write(folders[1] / f"{name}_masks.png", true)
    return pair_files(*folders)


def test_pooled_and_mean_per_image(evaluated: Pairing) -> None:
    calls: list[tuple[int, int]] = []
    result = evaluate_pairs(evaluated, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    values = result.as_dict()
    assert values["n_images"] == 3
    pooled, mean = values["pooled"], values["mean_per_image"]
    assert (pooled["n_truth"], pooled["n_prediction"]) == (4, 3)
    assert pooled["true_positives_0.50"] == 3
    assert pooled["false_positives_0.50"] == 0
    assert pooled["false_negatives_0.60"] == 1
    assert pooled["average_precision_0.50"] == 3 / 4
    assert mean["average_precision_0.50"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert pooled["average_precision_0.50-0.95"] == pytest.approx(3 / 4)
    assert pooled["recall_0.50"] == 3 / 4
    assert mean["recall_0.60"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert pooled["precision_0.60"] == mean["precision_0.50"] == 1
    assert pooled["f1_0.60"] == 6 / 7
    assert pooled["aggregated_jaccard"] == 11 / 14
    assert pooled["panoptic_quality_0.50"] == pytest.approx(6 / 7)
    assert mean["aggregated_jaccard"] == pytest.approx((1 + 4 / 7 + 1) / 3)


def test_rows_make_a_table_and_the_dictionary_is_json(evaluated: Pairing) -> None:
    result = evaluate_pairs(evaluated)
    rows = result.rows()
    assert [row["image"] for row in rows] == ["a", "b", "c"]
    assert all(list(row) == list(rows[0]) for row in rows)
    assert [row["average_precision_0.95"] for row in rows] == [1.0, 0.5, 1.0]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    assert text.getvalue().count("\n") == 4
    values = result.as_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["images"] == rows
    assert values["thresholds"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


@pytest.mark.parametrize("between", [False, True])
def test_a_mask_instead_of_objects_is_named(folders: tuple[Path, Path], between: bool) -> None:
    for name, true in (("mask", TWO > 0), ("one", ONE), ("two", TWO), ("none", NONE)):
        write(folders[0] / f"{name}_labels.tif", TWO)
        write(folders[1] / f"{name}_masks.tif", true.astype(np.uint16) * 255)
    write(folders[0] / "two_labels.tif", (TWO > 0).astype(np.uint16))
    evaluation = evaluate_pairs(pair_files(*folders), between=between)
    masks = [folders[1] / "mask_masks.tif"] + [folders[0] / "two_labels.tif"] * between
    assert [
        warning.split(" looks like a yes/no mask: its 2 ")[0]
        for warning in (evaluation.as_dict()["warnings"])
    ] == [str(path) for path in masks]


def test_a_volume_is_one_image(folders: tuple[Path, Path]) -> None:
    volume = np.stack([TWO, TWO, NONE])
    write(folders[0] / "x_labels.tif", np.stack([TWO, NONE, NONE]), axes="ZYX")
    write(folders[1] / "x_masks.tif", volume, axes="ZYX")
    (image,) = evaluate_pairs(pair_files(*folders)).images
    assert image.frame == ""
    assert image.score.n_truth == 2
    assert image.score.tp.tolist() == [2] + [0] * 9


def test_time_points_are_images_of_their_own(folders: tuple[Path, Path]) -> None:
    # The same ids in every time point of the truth; new ids in each one of the prediction.
    predicted = np.stack([TWO, np.where(ONE > 0, 9, 0), NONE]).astype(np.uint16)
    write(folders[0] / "x_labels.tif", predicted, axes="TYX")
    write(folders[1] / "x_masks.tif", np.stack([TWO, TWO, NONE]), axes="TYX")
    result = evaluate_pairs(pair_files(*folders))
    assert [image.frame for image in result.images] == ["T=0", "T=1", "T=2"]
    assert [row["average_precision_0.50"] for row in result.rows()] == [1.0, 0.5, 1.0]
    assert result.total.n_images == 3
    assert result.total.pooled.n_truth == 4


@pytest.mark.parametrize("plain", [0, 1])
def test_a_file_without_axes_takes_those_of_its_partner(
    folders: tuple[Path, Path], plain: int
) -> None:
    stack = np.stack([TWO, TWO, NONE])
    for side, name in enumerate(["x_labels.tif", "x_masks.tif"]):
        write(folders[side] / name, stack, axes="" if side == plain else "TYX")
    result = evaluate_pairs(pair_files(*folders))
    assert [image.frame for image in result.images] == ["T=0", "T=1", "T=2"]


def test_two_files_without_axes_need_them_given(folders: tuple[Path, Path]) -> None:
    for side, name in enumerate(["x_labels.tif", "x_masks.tif"]):
        write(folders[side] / name, np.stack([TWO, TWO, NONE]))
    pairing = pair_files(*folders)
    with pytest.raises(AxesError, match="x_"):
        evaluate_pairs(pairing)
    assert evaluate_pairs(pairing, axes="ZYX").total.pooled.n_truth == 2
    assert evaluate_pairs(pairing, axes="TYX").total.pooled.n_truth == 4
    with pytest.raises(AxesError, match="TZYX"):
        evaluate_pairs(pairing, axes="TZYX")


def test_axes_in_another_order_are_brought_together(folders: tuple[Path, Path]) -> None:
    volumes = np.stack([np.stack([TWO, TWO, NONE]), np.stack([ONE, NONE, NONE])])
    write(folders[0] / "x_labels.tif", volumes, axes="TZYX")
    tifffile.imwrite(
        write(folders[1] / "x_masks.ome.tif"),
        np.moveaxis(volumes, 0, 1),
        ome=True,
        photometric="minisblack",
        metadata={"axes": "ZTYX"},
    )
    result = evaluate_pairs(pair_files(*folders))
    assert [image.frame for image in result.images] == ["T=0", "T=1"]
    assert result.total.pooled.average_precision.tolist() == [1.0] * 10
    assert result.total.pooled.n_truth == 3


def test_other_shapes_and_axes_are_refused_with_both_files(folders: tuple[Path, Path]) -> None:
    prediction = write(folders[0] / "x_labels.tif", TWO[:2])
    truth = write(folders[1] / "x_masks.tif", TWO)
    with pytest.raises(MetricError, match="same shape") as caught:
        evaluate_pairs(pair_files(*folders))
    for word in (str(prediction), str(truth), "(2, 4)", "(3, 4)"):
        assert word in str(caught.value)
    write(folders[0] / "x_labels.tif", np.stack([TWO, TWO]), axes="TYX")
    with pytest.raises(MetricError, match="axes differ: YX") as caught:
        evaluate_pairs(pair_files(*folders))
    assert "TYX (2, 3, 4)" in str(caught.value)


def test_a_file_that_is_no_image_is_refused(folders: tuple[Path, Path]) -> None:
    write(folders[1] / "x_masks.tif")
    folders[0].mkdir()
    (folders[0] / "x_labels.tif").write_text("no TIFF")
    with pytest.raises(ReadError, match=r"x_labels\.tif"):
        evaluate_pairs(pair_files(*folders))


def test_no_pair_is_refused() -> None:
    with pytest.raises(MetricError, match="no score"):
        evaluate_pairs(Pairing(()))
