"""Pictures of an evaluation: AP against IoU, and the worst images with both outlines."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np

from cellseg_engine.batch.evaluate import Evaluation, Pair, ScoredImage, read_frames
from cellseg_engine.batch.intervals import Intervals
from cellseg_engine.core.axes import to_planes
from cellseg_engine.core.matching import match_objects
from cellseg_engine.core.outlines import outline_mask
from cellseg_engine.errors import CellSegError
from cellseg_engine.io.endings import IMAGE_ENDING, LABEL_ENDINGS
from cellseg_engine.io.figures import figure_class
from cellseg_engine.io.images import IMAGE_SUFFIXES, image_stem, read_image
from cellseg_engine.io.overlays import render_overlay
from cellseg_engine.io.staging import staged

CURVE = "ap_against_iou.png"
N_WORST = 5
MATCH_IOU = 0.5

FOUND, MISSED, INVENTED = (90, 255, 60), (255, 60, 60), (255, 225, 25)
"""Colours of matched objects (as predicted), of missed ones and of predictions without partner."""

_ENDINGS = (*LABEL_ENDINGS, IMAGE_ENDING)


def write_plots(
    folder: Path, evaluation: Evaluation, intervals: Intervals | None, axes: str | None = None
) -> list[Path]:
    """Draw the curve of average precision and the worst images.

    Parameters
    ----------
    folder
        Made if needed; pictures of an earlier evaluation in it are replaced.
    intervals
        Drawn as bands around the curves.
    axes
        As of `cellseg_engine.batch.evaluate.evaluate_pairs`.

    Returns
    -------
    The files: ``ap_against_iou.png``, and ``worst_1_NAME.png`` and so on, worst first. Images
    with every object found at all thresholds are not drawn.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    worst = sorted(evaluation.images, key=_badness)[:N_WORST]
    worst = [one for one in worst if one.score.mean_average_precision < 1]
    names = [CURVE]
    with staged(folder) as stage:
        _draw_curve(stage.path(CURVE), evaluation, intervals)
        for rank, image in enumerate(worst, start=1):
            name = f"worst_{rank}_{_file_name(image)}.png"
            picture = draw_comparison(image, axes, between=evaluation.is_between)
            stage.path(name).write_bytes(imagecodecs.png_encode(picture, level=3))
            names.append(name)
        new = {name.casefold() for name in names}
        for path in folder.glob(f"worst_[1-{N_WORST}]_*.png"):  # of an earlier evaluation
            if path.name.casefold() not in new:
                stage.remove(path.name)
    return [folder / name for name in names]


def draw_comparison(
    image: ScoredImage, axes: str | None = None, *, between: bool = False
) -> np.ndarray:
    """Draw found, missed and invented objects onto the image, where it lies beside its labels.

    Of a stack the plane with most wrong pixels is drawn.

    Parameters
    ----------
    axes, between
        As of `cellseg_engine.batch.evaluate.evaluate_pairs`.

    Returns
    -------
    uint8 of shape (Y, X, 3).
    """
    frames = read_frames(image.pair, axes, between=between)
    truth, prediction = next((one, other) for name, one, other in frames if name == image.frame)
    matches = match_objects(truth, prediction, MATCH_IOU)
    planes = truth.reshape(-1, *truth.shape[-2:]), prediction.reshape(-1, *truth.shape[-2:])
    wrong = np.count_nonzero((planes[0] > 0) != (planes[1] > 0), axis=(1, 2))
    index = int(wrong.argmax())
    truth, prediction = planes[0][index], planes[1][index]
    picture = _picture(image.pair, truth.shape) if len(planes[0]) == 1 and not image.frame else None
    base = picture if picture is not None else np.zeros(truth.shape, np.uint8)
    canvas = render_overlay(base, np.zeros(truth.shape, np.int32))
    for labels, ids, colour in (
        (prediction, matches.prediction_ids, FOUND),
        (prediction, matches.unmatched_predictions, INVENTED),
        (truth, matches.unmatched_truth, MISSED),
    ):
        canvas[outline_mask(np.where(np.isin(labels, ids), labels, 0).astype(np.int32))] = colour
    return canvas


def _badness(image: ScoredImage) -> tuple[float, float, str, str]:
    score = image.score
    at = score.thresholds.index(MATCH_IOU)
    return (
        float(score.average_precision[at]),
        score.mean_average_precision,
        image.pair.name,
        image.frame,
    )


def _file_name(image: ScoredImage) -> str:
    name = f"{image.pair.name}_{image.frame}" if image.frame else image.pair.name
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)[-100:]


def _picture(pair: Pair, shape: tuple[int, ...]) -> np.ndarray | None:
    """Give the image that lies beside the labels, grey or coloured; None if there is none."""
    for labels in (pair.truth, pair.prediction):
        stem = image_stem(labels)
        while ending := next((end for end in _ENDINGS if stem.lower().endswith(end)), ""):
            stem = stem[: -len(ending)]
        for name in (f"{stem}_img", stem):
            for suffix in sorted(IMAGE_SUFFIXES):
                path = labels.with_name(name + suffix)
                if path not in (pair.truth, pair.prediction) and path.is_file():
                    shown = _read_picture(path)
                    if shown is not None and shown.shape[:2] == shape:
                        return shown
    return None


def _read_picture(path: Path) -> np.ndarray | None:
    """Give an image as (Y, X) or (Y, X, 3); several channels are averaged."""
    try:
        data = read_image(path)
        stack = to_planes(data.pixels, data.axes)
    except CellSegError:
        return None  # what cannot be read cannot be shown; the outlines are drawn all the same
    plane = stack.pixels[0, 0]
    if stack.is_rgb:
        return np.asarray(np.moveaxis(plane, 0, -1))
    return np.asarray(plane.mean(axis=0, dtype=np.float32))


def _draw_curve(path: Path, evaluation: Evaluation, intervals: Intervals | None) -> None:
    figure_type = figure_class()
    thresholds = evaluation.total.pooled.thresholds
    figure = figure_type(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for what, colour, score, ends in (
        ("pooled", "tab:blue", evaluation.total.pooled, intervals and intervals.pooled),
        (
            "mean per image",
            "tab:orange",
            evaluation.total.mean_per_image,
            intervals and intervals.mean_per_image,
        ),
    ):
        axes.plot(thresholds, score.average_precision, "o-", color=colour, ms=4, label=what)
        if ends:
            bounds = [ends[f"average_precision_{threshold:.2f}"] for threshold in thresholds]
            low, high = np.transpose(bounds)
            axes.fill_between(thresholds, low, high, color=colour, alpha=0.2, lw=0)
    n_images = evaluation.total.n_images
    axes.set(
        xlabel="IoU threshold",
        ylabel="average precision",
        ylim=(0, 1),
        title=f"{n_images} image{'s' * (n_images != 1)}",
    )
    axes.legend()
    figure.savefig(path, dpi=110, format="png")
