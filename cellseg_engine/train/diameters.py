"""How large the objects of annotated images are, whose borders cut some of them.

An object at the border shows a part of its area only. Leaving such objects out favours small
ones, which are cut less often; so each whole object counts by the inverse of its chance to lie
whole within the image (Miles 1974, Lantuejoul 1980): H W / ((H - h)(W - w)) for one of h x w px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellseg_engine.core.labels import areas, bounding_boxes, median_diameter, touches_edge

_MAD_TO_SD = 1.4826
_MEDIAN_VARIANCE = np.pi / 2
"""Of a median, in variances of a mean."""
_EXACT = 1e-6
"""A variance of a logarithm that makes no difference: a tenth of a percent."""


@dataclass(frozen=True)
class Sizes:
    """The objects of an image.

    Attributes
    ----------
    logs, weights
        Of the whole objects: natural logarithms of diameters in px, and how much each counts;
        float64 (N,). All objects, each as one, where the border cuts none.
    n_cut
        Objects that the border cuts.
    at_least_px
        Median diameter of all objects, cut ones as if they were whole.
    """

    logs: np.ndarray
    weights: np.ndarray
    n_cut: int
    at_least_px: float

    @property
    def log_median(self) -> float:
        """Weighted median of the logarithms; NaN without whole objects."""
        if not self.logs.size:
            return float("nan")
        order = np.argsort(self.logs)
        weights = self.weights[order]
        middles = np.cumsum(weights) - weights / 2
        return float(np.interp(weights.sum() / 2, middles, self.logs[order]))

    @property
    def diameter_px(self) -> float:
        """Median diameter of the image; 0 without objects."""
        return float(np.exp(self.log_median)) if self.logs.size else self.at_least_px

    def variance(self, spread: float) -> float:
        """Give the variance of the median, by the standard deviation of the logarithms.

        Objects that are cut are what is not known: without any the median is exact.
        """
        if not self.logs.size:
            return float("inf")
        n_effective = self.weights.sum() ** 2 / (self.weights**2).sum()
        unknown = self.n_cut / (self.n_cut + self.logs.size)
        return float(_MEDIAN_VARIANCE * spread**2 / n_effective * unknown)


def measure_sizes(labels: np.ndarray) -> Sizes:
    """Measure the objects of a label image (Y, X)."""
    counts = areas(labels)
    is_cut = touches_edge(labels) & (counts > 0)
    whole = np.flatnonzero((counts > 0) & ~is_cut)
    logs = np.log(np.sqrt(counts[whole]) * 2 / np.sqrt(np.pi))
    weights = np.ones(whole.size)
    if is_cut.any() and whole.size:
        y_start, y_stop, x_start, x_stop = bounding_boxes(labels)[whole].T
        height, width = labels.shape
        weights = labels.size / ((height - (y_stop - y_start)) * (width - (x_stop - x_start)))
    return Sizes(logs, weights, int(is_cut.sum()), median_diameter(labels))


def settle_diameters(images: Sequence[Sizes]) -> list[float]:
    """Give the diameter of each of several images of one kind, in px.

    The median of an image with few whole objects is drawn to that of all images, by how
    uncertain it is and by how much the images differ: the best linear predictor of a model with
    random effects, with the moment estimate of Hedges and Olkin (1985) of what images differ by.
    Images whose objects are all whole keep their own.
    """
    medians = np.array([one.log_median for one in images])
    is_seen = np.isfinite(medians)
    if is_seen.sum() < 2:
        return [one.diameter_px for one in images]
    residuals = [one.logs - median for one, median in zip(images, medians, strict=True)]
    spread = _MAD_TO_SD * float(np.median(np.abs(np.concatenate(residuals))))
    variances = np.array([one.variance(spread) for one in images])
    between = max(0.0, float(medians[is_seen].var(ddof=1) - variances[is_seen].mean()))
    trust = 1 / (np.maximum(variances[is_seen], _EXACT) + between)
    common = float(medians[is_seen] @ trust / trust.sum())
    return [
        _settle(one, variance, between, common)
        for one, variance in zip(images, variances, strict=True)
    ]


def _settle(one: Sizes, variance: float, between: float, common: float) -> float:
    if variance <= _EXACT:
        return one.diameter_px
    if not one.logs.size:
        return max(one.at_least_px, float(np.exp(common)))
    return float(np.exp((between * one.log_median + variance * common) / (between + variance)))
