"""Intervals, agreement of two annotators, and pictures of an evaluation."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from skimage.io import imread

from cellseg_engine.batch.agreement import as_agreement
from cellseg_engine.batch.evaluate import Evaluation, evaluate_pairs, pair_files
from cellseg_engine.batch.intervals import bootstrap
from cellseg_engine.batch.score_plots import FOUND, INVENTED, MISSED, draw_comparison, write_plots
from tests.integration.cli import Cli
from tests.integration.training import disks

IMAGE, LABELS = disks(80, seed=4)


def write(path: Path, labels: np.ndarray, axes: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"imagej": True, "metadata": {"axes": axes}} if axes else {}
    tifffile.imwrite(path, labels.astype(np.uint16), **options)


def without(*ids: int) -> np.ndarray:
    return np.where(np.isin(LABELS, ids), 0, LABELS)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Ten images; of image n the first n objects are missed."""
    for n in range(10):
        write(tmp_path / "pred" / f"{n}_labels.tif", without(*range(1, n + 1)))
        write(tmp_path / "truth" / f"{n}_masks.tif", LABELS)
    return tmp_path / "pred", tmp_path / "truth"


def evaluate(folders: tuple[Path, Path]) -> Evaluation:
    return evaluate_pairs(pair_files(*folders))


def test_files_that_are_left_out_are_named(cli: Cli, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "x_masks.tif", LABELS)
        write(tmp_path / folder / "y.tif", LABELS)
    outcome = cli("evaluate", "--pred", tmp_path / "a", "--truth", tmp_path / "b")
    assert outcome.code == 0
    assert "1 images" in outcome.out
    assert "Warning: 2 of the files are left out" in outcome.err
    for folder in ("a", "b"):
        assert str(tmp_path / folder / "y.tif") in outcome.err


# -- truths that are annotated in a part -------------------------------------------------------


def partial(labels: np.ndarray) -> np.ndarray:
    """Give labels of which only the objects that reach into the left third are known."""
    inside = np.zeros(labels.shape, bool)
    inside[:, :27] = True
    known = inside | np.isin(labels, labels[inside & (labels > 0)])
    return np.where(known, labels.astype(np.int32), np.int32(-1))


def test_only_what_is_annotated_counts(tmp_path: Path) -> None:
    truth = partial(LABELS)
    known = np.unique(truth[truth > 0])
    assert 2 <= known.size < LABELS.max()
    outside = int(np.setdiff1d(np.unique(LABELS), [0, *known])[0])
    (tmp_path / "truth").mkdir()
    tifffile.imwrite(tmp_path / "truth" / "a_masks.tif", truth)
    write(tmp_path / "pred" / "a_labels.tif", without(int(known[0]), outside))
    score = evaluate((tmp_path / "pred", tmp_path / "truth")).images[0].score
    assert (score.n_truth, score.n_prediction) == (known.size, known.size - 1)
    assert score.tp[0] == known.size - 1
    pictures = write_plots(
        tmp_path / "plots",
        evaluate((tmp_path / "pred", tmp_path / "truth")),
        None,
    )
    assert len(pictures) >= 2


def test_time_points_without_annotation_are_left_out(tmp_path: Path) -> None:
    truth = np.stack([np.full((80, 80), -1), LABELS, partial(LABELS)]).astype(np.int32)
    for name, labels in (("truth", truth), ("pred", np.stack([LABELS] * 3).astype(np.int32))):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a_labels.tif", labels, photometric="minisblack")
    found = evaluate_pairs(pair_files(tmp_path / "pred", tmp_path / "truth"), axes="TYX")
    assert [image.frame for image in found.images] == ["T=1", "T=2"]
    assert found.total.pooled.average_precision[0] == 1


def test_only_a_table_of_scores_is_replaced(
    cli: Cli, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    table = tmp_path / "scores.csv"
    call = ("evaluate", "--pred", folders[0], "--truth", folders[1], "--csv", table)
    assert [cli(*call).code, cli(*call).code] == [0, 0]
    table.write_text("image,mine\n")
    outcome = cli(*call)
    assert outcome.code == 2
    assert "is there already and is no table of scores" in outcome.err
    assert table.read_text() == "image,mine\n"


def test_masks_for_truth_are_warned_of(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "a_labels.tif", LABELS)
    write(tmp_path / "a_masks.tif", LABELS > 0)
    outcome = cli(
        "evaluate", "--pred", tmp_path / "a_labels.tif", "--truth", tmp_path / "a_masks.tif"
    )
    assert outcome.code == 0
    assert "a_masks.tif looks like a yes/no mask" in outcome.err


def test_a_truth_without_any_annotation_is_refused(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "truth").mkdir()
    tifffile.imwrite(tmp_path / "truth" / "a_masks.tif", np.full((80, 80), -1, np.int32))
    write(tmp_path / "pred" / "a_labels.tif", LABELS)
    table = tmp_path / "scores.csv"
    ended = cli(
        "evaluate", "--pred", tmp_path / "pred", "--truth", tmp_path / "truth", "--csv", table
    )
    assert ended.code == 2
    assert "a_masks.tif (truth)" in ended.err
    assert "label -1 (not annotated) everywhere" in ended.err
    assert not table.exists()


def test_shapes_are_compared_before_what_is_annotated(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "truth").mkdir()
    tifffile.imwrite(tmp_path / "truth" / "a_masks.tif", partial(LABELS))
    write(tmp_path / "pred" / "a_labels.tif", LABELS[:78])
    ended = cli("evaluate", "--pred", tmp_path / "pred", "--truth", tmp_path / "truth")
    assert ended.code == 2
    assert "they do not have the same shape: (80, 80) and (78, 80)" in ended.err


def test_ids_may_be_large(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    tifffile.imwrite(tmp_path / "truth" / "a_masks.tif", partial(LABELS))
    (tmp_path / "pred").mkdir()
    large = np.where(LABELS > 0, LABELS.astype(np.int32) + 2_000_000_000, 0).astype(np.int32)
    tifffile.imwrite(tmp_path / "pred" / "a_labels.tif", large)
    score = evaluate((tmp_path / "pred", tmp_path / "truth")).images[0].score
    assert score.n_truth == score.n_prediction == score.tp[0] > 0


def test_found_objects_have_no_negative_labels(tmp_path: Path, cli: Cli) -> None:
    write(tmp_path / "truth" / "a_masks.tif", LABELS)
    (tmp_path / "pred").mkdir()
    tifffile.imwrite(tmp_path / "pred" / "a_labels.tif", partial(LABELS))
    ended = cli("evaluate", "--pred", tmp_path / "pred", "--truth", tmp_path / "truth")
    assert ended.code == 2
    assert "has negative numbers, down to -1" in ended.err


# -- intervals ---------------------------------------------------------------------------------


def test_intervals_are_those_of_a_plain_bootstrap(folders: tuple[Path, Path]) -> None:
    evaluation = evaluate(folders)
    found = bootstrap(evaluation, seed=3)
    assert found is not None and (found.n_files, found.level) == (10, 0.95)
    n_truth = int(LABELS.max())
    hits = n_truth - np.arange(10)
    rng = np.random.default_rng(99)
    drawn = rng.integers(0, 10, (20_000, 10))
    for part, samples in (
        ("mean_per_image", (hits[drawn] / n_truth).mean(1)),
        ("pooled", hits[drawn].sum(1) / (10 * n_truth)),
    ):
        low, high = getattr(found, part)["average_precision_0.50"]
        expected = np.percentile(samples, (2.5, 97.5))
        np.testing.assert_allclose((low, high), expected, atol=0.01)
        value = evaluation.as_dict()[part]["average_precision_0.50"]
        assert low < value < high
    assert found.pooled.keys() == found.mean_per_image.keys()
    assert found.pooled["precision_0.50"] == (1.0, 1.0)


def test_intervals_hang_on_the_seed_only(folders: tuple[Path, Path]) -> None:
    evaluation = evaluate(folders)
    assert bootstrap(evaluation, seed=1) == bootstrap(evaluation, seed=1)
    assert bootstrap(evaluation, seed=1) != bootstrap(evaluation, seed=2)


def test_time_points_of_one_file_stay_together(tmp_path: Path) -> None:
    # Within each file all time points are alike, so the mean of a draw is one of a few values.
    for name, labels in (("a", LABELS), ("b", LABELS * 0)):
        write(tmp_path / "pred" / f"{name}_labels.tif", np.stack([labels] * 8), "TYX")
        write(tmp_path / "truth" / f"{name}_masks.tif", np.stack([LABELS] * 8), "TYX")
    found = bootstrap(evaluate((tmp_path / "pred", tmp_path / "truth")))
    assert found is not None and found.n_files == 2
    assert found.mean_per_image["average_precision_0.50"] == (0.0, 1.0)


def test_one_file_has_no_interval(cli: Cli, folders: tuple[Path, Path]) -> None:
    one = ("--pred", folders[0] / "0_labels.tif", "--truth", folders[1] / "0_masks.tif")
    assert "No intervals: they need two files or more." in cli("evaluate", *one).out
    assert json.loads(cli("evaluate", *one, "--json").out)["intervals"] is None


def test_intervals_on_the_command_line(cli: Cli, folders: tuple[Path, Path]) -> None:
    arguments = ("evaluate", "--pred", folders[0], "--truth", folders[1])
    outcome = cli(*arguments)
    assert outcome.code == 0
    (line,) = [row for row in outcome.out.splitlines() if row.startswith("average_precision_0.50 ")]
    assert line.count("[") == line.count("]") == 2
    assert "95% intervals over 10 files (2000 resamples, seed 0)" in outcome.out
    values = json.loads(cli(*arguments, "--json").out)["intervals"]
    assert values["pooled"].keys() == values["mean_per_image"].keys()
    assert cli(*arguments, "--seed", 5).out != outcome.out == cli(*arguments).out


# -- two annotators ----------------------------------------------------------------------------


def test_agreement_is_the_same_both_ways(folders: tuple[Path, Path]) -> None:
    forth = as_agreement(evaluate(folders))
    back = as_agreement(evaluate((folders[1], folders[0])))
    scores = {name: v for name, v in forth["pooled"].items() if not name.startswith(("n_", "only"))}
    assert scores == {name: back["pooled"][name] for name in scores}
    assert forth["mean_per_image"] == back["mean_per_image"]
    assert forth["pooled"]["only_a_0.50"] == back["pooled"]["only_b_0.50"] == 45
    assert not {"precision_0.50", "recall_0.50", "aggregated_jaccard"} & forth["pooled"].keys()


def test_agreement_on_the_command_line(
    cli: Cli, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    b, a = folders
    (b / "9_labels.tif").unlink()
    write(b / "extra_labels.tif", LABELS)
    table = tmp_path / "agreement.csv"
    outcome = cli("evaluate", "--between", a, b, "--csv", table)
    assert outcome.code == 0, outcome.err
    n = int(LABELS.max())
    assert f"9 images, {9 * n} objects of A and {9 * n - 36} of B" in outcome.out
    assert "precision_0.50 " not in outcome.out.replace("average_precision_0.50 ", "")
    assert "no label image of B for" in outcome.err and "9_masks.tif" in outcome.err
    assert "no label image of A for" in outcome.err and "extra_labels.tif" in outcome.err
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert (rows[1]["image"], rows[1]["only_a_0.50"], rows[1]["only_b_0.50"]) == ("1", "1", "0")
    values = json.loads(cli("evaluate", "--between", a, b, "--json").out)
    assert values["only_by_a"] == [str(a / "9_masks.tif")]
    assert values["intervals"]["pooled"].keys() <= values["pooled"].keys()


@pytest.mark.parametrize("arguments", [(), ("--pred", "x"), ("--between", "x", "y", "--pred", "x")])
def test_a_comparison_has_two_sides(cli: Cli, arguments: tuple[str, ...]) -> None:
    outcome = cli("evaluate", *arguments)
    assert outcome.code == 2
    assert "Give --pred and --truth, or --between A B." in outcome.err


def test_annotators_may_annotate_different_parts(tmp_path: Path, cli: Cli) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    left, right = partial(LABELS), partial(LABELS[:, ::-1])[:, ::-1]
    far = np.full(LABELS.shape, -1, np.int32)
    for n, (one, other) in enumerate(((left, LABELS), (left, np.where(left > 0, left, right)))):
        for folder, labels in ((a, one), (b, other)):
            folder.mkdir(exist_ok=True)
            tifffile.imwrite(folder / f"{n}_masks.tif", labels.astype(np.int32))
    scores = [
        json.loads(cli("evaluate", "--between", *order, "--json").out) for order in ((a, b), (b, a))
    ]
    known = np.unique(left[left > 0]).size
    for there, back in zip(*(one["images"] for one in scores), strict=True):
        assert (there["n_a"], there["n_b"]) == (back["n_b"], back["n_a"]) == (known, known)
        assert there["average_precision_0.50"] == back["average_precision_0.50"] == 1
    plots = tmp_path / "plots"
    assert cli("evaluate", "--between", a, b, "--plots", plots).code == 0
    tifffile.imwrite(b / "0_masks.tif", far)
    outcome = cli("evaluate", "--between", b, a)
    assert outcome.code == 2
    assert "0_masks.tif (A) and" in outcome.err and "no pixel is annotated in both" in outcome.err


# -- pictures ----------------------------------------------------------------------------------


def test_found_missed_and_invented_objects_have_their_colours(tmp_path: Path) -> None:
    truth, prediction = without(1), without(2)
    write(tmp_path / "t" / "x_masks.tif", truth)
    tifffile.imwrite(tmp_path / "t" / "x_img.tif", IMAGE)
    write(tmp_path / "p" / "x_labels.tif", prediction)
    (image,) = evaluate((tmp_path / "p", tmp_path / "t")).images
    canvas = draw_comparison(image)
    assert canvas.shape == (*LABELS.shape, 3)

    def ids_with(colour: tuple[int, int, int]) -> set[int]:
        return set(LABELS[(canvas == colour).all(axis=-1)])

    assert ids_with(MISSED) == {2}
    assert ids_with(INVENTED) == {1}
    assert ids_with(FOUND) == set(range(3, LABELS.max() + 1))
    # The image itself is to be seen where there is no outline.
    grey = canvas[(canvas[..., 0] == canvas[..., 1]) & (canvas[..., 1] == canvas[..., 2])]
    assert len(np.unique(grey)) > 20


def test_the_worst_images_come_first(cli: Cli, folders: tuple[Path, Path], tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    outcome = cli("evaluate", "--pred", folders[0], "--truth", folders[1], "--plots", plots)
    assert outcome.code == 0, outcome.err
    names = sorted(path.name for path in plots.iterdir())
    assert names == [
        "ap_against_iou.png",
        *(f"worst_{rank}_{10 - rank}.png" for rank in range(1, 6)),
    ]
    assert all(f"Wrote {plots / name}" in outcome.out for name in names)
    assert imread(plots / "worst_1_9.png").shape == (80, 80, 3)
    assert imread(plots / "ap_against_iou.png").shape[0] > 300


def test_pictures_of_an_earlier_evaluation_go(tmp_path: Path) -> None:
    pred, truth, plots = tmp_path / "pred", tmp_path / "truth", tmp_path / "plots"
    for name in "uv":
        write(truth / f"{name}_masks.tif", LABELS)
    plots.mkdir()
    (plots / "worst_6_of_mine.png").touch()
    (plots / "worst_case.png").touch()
    for bad, good in ("uv", "vu"):
        write(pred / f"{bad}_labels.tif", without(1))
        write(pred / f"{good}_labels.tif", LABELS)
        write_plots(plots, evaluate((pred, truth)), None)
        names = {path.name for path in plots.iterdir()}
        others = {"worst_6_of_mine.png", "worst_case.png"}
        assert names == {"ap_against_iou.png", f"worst_1_{bad}.png", *others}


def test_pictures_are_planes_whatever_order_the_axes_have(tmp_path: Path) -> None:
    pictures = []
    for axes, order in (("ZYX", (0, 1, 2)), ("YXZ", (1, 2, 0)), ("XZY", (2, 0, 1))):
        truth = np.stack([LABELS[:70], LABELS[:70]])
        found = np.stack([LABELS[:70], without(1, 3)[:70]])
        for name, labels in (("t/x_masks.tif", truth), ("p/x_labels.tif", found)):
            path = tmp_path / axes / name
            path.parent.mkdir(parents=True)
            tifffile.imwrite(path, labels.transpose(order), photometric="minisblack")
        pairing = pair_files(tmp_path / axes / "p", tmp_path / axes / "t")
        (image,) = evaluate_pairs(pairing, axes=axes).images
        pictures.append(draw_comparison(image, axes))
    assert pictures[0].shape == (70, 80, 3)
    np.testing.assert_array_equal(pictures[1], pictures[0])
    np.testing.assert_array_equal(pictures[2], pictures[0])


def test_planes_of_stacks_and_names_of_folders(tmp_path: Path) -> None:
    stack = np.stack([LABELS, LABELS, LABELS])
    worse = np.stack([LABELS, LABELS * 0, LABELS])
    write(tmp_path / "t" / "b c" / "x_masks.tif", stack, "TYX")
    write(tmp_path / "p" / "b c" / "x_labels.tif", worse, "TYX")
    evaluation = evaluate((tmp_path / "p", tmp_path / "t"))
    names = [path.name for path in write_plots(tmp_path / "plots", evaluation, None)]
    # Only the time point with faults is drawn.
    assert names == ["ap_against_iou.png", "worst_1_b_c_x_T_1.png"]


def test_pictures_need_matplotlib_and_say_so(
    cli: Cli, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    plots = tmp_path / "plots"
    outcome = cli("evaluate", "--pred", folders[0], "--truth", folders[1], "--plots", plots)
    assert outcome.code == 2
    assert 'pip install "cellseg-engine[train]"' in outcome.err
    assert "average_precision_0.50" in outcome.out
    call = ("evaluate", "--pred", folders[0], "--truth", folders[1], "--plots", plots, "--json")
    assert json.loads(cli(*call).out)["plots"] == []
    assert not plots.exists()
