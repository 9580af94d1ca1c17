"""Fit the size model: from the style of an image to the diameter of its objects.

Stringer et al. 2021, "Test time resizing": a linear regression from the style vectors of the
training images to the logarithm of the object diameter; Cellpose makes it a ridge regression on
random views of many scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cellseg_engine.backends.flow_unet import FlowUNet
from cellseg_engine.core.resize import resize_bilinear, scaled_shape
from cellseg_engine.nets.size_model import SizeModel
from cellseg_engine.train.dataset import TrainingImage
from cellseg_engine.train.validate import full_channels

MAX_PASSES = 10
"""Cellpose's number of random views of each image."""
ENOUGH_VIEWS = 1000
"""Many images need fewer views each: this many tell the 256 coefficients."""
SCALE_RANGE = (0.5, 2.0)
"""Sizes of objects relative to those annotated that the size model gets to see."""
VIEW_PX = 368
"""Longest side of a view."""
RIDGE = 1.0
RIDGES = (1.0, 0.1, 0.01, 0.001)
"""Strengths tried; 1 is Cellpose's, for styles of unit length."""
FOLDS = 5
_PASSES = 3

Look = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Styles (N, 256) and logarithms of diameters (N,) to fit to, and those to test on."""


@dataclass(frozen=True)
class SizeFit:
    """A size model and how well it does.

    Attributes
    ----------
    model
        The fitted model.
    ridge
        The strength chosen by the held-out images, or by cross-validation without them.
    median_error, correlation
        Of the logarithm of the diameter, style against truth, on views of the held-out images,
        or of each group of training images by a fit to the others; NaN where there are too few to
        tell.
    """

    model: SizeModel
    ridge: float
    median_error: float
    correlation: float


def fit_size_model(
    model: FlowUNet,
    training: Sequence[TrainingImage],
    held_out: Sequence[TrainingImage],
    *,
    seed: int,
    n_passes: int = 0,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> SizeFit:
    """Fit a size model for a network.

    Every image is seen several times, at the scale at which an estimate looks at images of
    unknown size (``diam_mean_px / diam_labels_px``) times a random factor of `SCALE_RANGE`, as a
    random part of at most `VIEW_PX`. The regression learns to tell the factor times the true
    diameter.

    Parameters
    ----------
    model
        With the final weights; its card's diameters count.
    training
        To fit to.
    held_out
        To choose the strength of the ridge regression by; without, it is chosen by
        cross-validation over the groups of the training images, and `RIDGE` where there is one.
    n_passes
        Views of each image; 0 takes as many as make `ENOUGH_VIEWS`, at most `MAX_PASSES`.
    """
    n_passes = n_passes or max(1, min(MAX_PASSES, -(-ENOUGH_VIEWS // len(training))))
    total = n_passes * (len(training) + len(held_out))
    fit_styles, fit_logs = _look(
        model, training, seed, n_passes, lambda done: progress(done, total)
    )
    start = n_passes * len(training)
    test_styles, test_logs = _look(
        model, held_out, seed + 1, n_passes, lambda done: progress(start + done, total)
    )
    range_px = _range(training)
    diam_mean = model.card.diam_mean_px
    if held_out:
        looks = [(fit_styles, fit_logs, test_styles, test_logs)]
    else:
        groups = np.tile([image.group for image in training], n_passes)
        looks = list(leave_groups_out(fit_styles, fit_logs, groups))
    ridge, error, correlation = RIDGE, math.nan, math.nan
    if looks:
        ridge, error, correlation = choose_ridge(RIDGES, looks, diam_mean)
    fitted = ridge_regression(fit_styles, fit_logs, ridge, diam_mean, range_px)
    return SizeFit(fitted, ridge, error, correlation)


def leave_groups_out(styles: np.ndarray, logs: np.ndarray, groups: np.ndarray) -> Iterator[Look]:
    """Divide into parts to fit to and to test on, with each group in one of `FOLDS` tests."""
    names = np.unique(groups)
    if len(names) < 2:
        return
    for fold in range(min(FOLDS, len(names))):
        is_test = np.isin(groups, names[fold::FOLDS])
        yield styles[~is_test], logs[~is_test], styles[is_test], logs[is_test]


def ridge_regression(
    styles: np.ndarray,
    log_diameters: np.ndarray,
    ridge: float,
    diam_mean_px: float,
    range_px: tuple[float, float] = (0.0, 0.0),
) -> SizeModel:
    """Give the size model of least squares with a penalty.

    Parameters
    ----------
    styles
        float of shape (N, 256).
    log_diameters
        float of shape (N,): natural logarithm of diameters in px.
    ridge
        Weight of the squared length of the coefficients.
    diam_mean_px
        Diameter that logarithms are relative to.
    range_px
        Smallest and largest diameter, for the model to know.
    """
    relative = log_diameters - np.log(diam_mean_px)
    style_mean, log_offset = styles.mean(axis=0), float(relative.mean())
    centred = styles - style_mean
    normal = centred.T @ centred + ridge * np.eye(styles.shape[1])
    coefficients = np.linalg.solve(normal, centred.T @ (relative - log_offset))
    return SizeModel(coefficients, style_mean, diam_mean_px, log_offset, range_px)


def _look(
    model: FlowUNet,
    images: Sequence[TrainingImage],
    seed: int,
    n_passes: int,
    progress: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Give styles, float64 (N, 256), and logarithms of diameters (N,) of random views."""
    styles, logs = [], []
    first_scale = model.card.diam_mean_px / model.card.diam_labels_px
    for number in range(n_passes):
        for index, image in enumerate(images):
            rng = np.random.default_rng([seed, _PASSES, number, index])
            factor = float(np.exp(rng.uniform(*np.log(SCALE_RANGE))))
            pixels = full_channels(image, model.card.n_channels)
            styles.append(model.predict(_part(pixels, first_scale * factor, rng)).style)
            logs.append(np.log(image.diameter_px * factor))
            progress(number * len(images) + index + 1)
    return np.array(styles, np.float64), np.array(logs)


def _part(pixels: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Give a random part of an image that is at most `VIEW_PX` long once it is scaled."""
    places = rng.random(2)
    window = []
    for length, place in zip(pixels.shape[1:], places, strict=True):
        side = min(length, max(1, round(VIEW_PX / scale)))
        start = int(place * (length - side + 1))
        window.append(slice(start, start + side))
    part = pixels[:, window[0], window[1]]
    height, width = scaled_shape((part.shape[1], part.shape[2]), scale)
    return resize_bilinear(part, (max(1, height), max(1, width)))


def _range(images: Sequence[TrainingImage]) -> tuple[float, float]:
    diameters = [image.diameter_px for image in images]
    return min(diameters) * SCALE_RANGE[0], max(diameters) * SCALE_RANGE[1]


def choose_ridge(
    ridges: Sequence[float], looks: Sequence[Look], diam_mean_px: float
) -> tuple[float, float, float]:
    """Give the strength with the least median error in all tests, the error and the correlation."""
    found = [(ridge, *_quality(ridge, looks, diam_mean_px)) for ridge in ridges]
    return min(found, key=lambda one: one[1])


def _quality(ridge: float, looks: Sequence[Look], diam_mean_px: float) -> tuple[float, float]:
    """Give median error and correlation of the logarithms of diameters over all tests."""
    estimates, truth = [], []
    for fit_styles, fit_logs, test_styles, test_logs in looks:
        fitted = ridge_regression(fit_styles, fit_logs, ridge, diam_mean_px)
        estimates.append(np.log([fitted.predict(style) for style in test_styles]))
        truth.append(test_logs)
    found, wanted = np.concatenate(estimates), np.concatenate(truth)
    error = float(np.median(np.abs(found - wanted)))
    if len(found) < 3 or np.ptp(found) == 0 or np.ptp(wanted) == 0:
        return error, math.nan
    return error, float(np.corrcoef(found, wanted)[0, 1])
