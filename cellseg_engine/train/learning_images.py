"""The images of a learning curve: those to draw from, and those to score on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cellseg_engine.nets.card import WeightsFile
from cellseg_engine.train.dataset import TrainingImage, load_images
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.flow_cache import FlowCache
from cellseg_engine.train.options import TrainingOptions
from cellseg_engine.train.prepare import data_options, find_images


@dataclass(frozen=True)
class CurveImages:
    """Images that were read.

    Attributes
    ----------
    training
        To draw subsets from.
    test
        To score all networks on; no image and no group is in both.
    """

    training: list[TrainingImage]
    test: list[TrainingImage]

    @property
    def mean_diameter_px(self) -> float:
        """Give the mean diameter of the images to draw from, each with the same weight."""
        return sum(image.diameter_px for image in self.training) / len(self.training)


def read_curve_images(
    options: TrainingOptions,
    test: Sequence[Path],
    test_role: str,
    base: WeightsFile,
    progress: Callable[[int, int], None],
) -> CurveImages:
    """Read the images to draw from and the test images, as the base model sees them.

    Raises
    ------
    TrainingDataError
        An image, or images of one group, are in both; or they cannot be read.
    ReadError, WriteError
        One sentence says why.
    """
    found = find_images(options, options.role)
    found_test = find_images(replace(options, paths=test), test_role)
    n_images = len(found.sources)
    total = n_images + len(found_test.sources)
    reading = data_options(options, base.card)
    cache = FlowCache(options.flow_cache or options.out / "flows")
    images, _ = load_images(found.sources, reading, cache, lambda done, _: progress(done, total))
    tested, _ = load_images(
        found_test.sources,
        replace(reading, min_objects=1),
        cache,
        lambda done, _: progress(n_images + done, total),
    )
    _refuse_common(images, tested)
    return CurveImages(images, tested)


def _refuse_common(images: Sequence[TrainingImage], tested: Sequence[TrainingImage]) -> None:
    """Refuse test images whose pixels or groups are among those to train on."""
    seen = {image.pixels_sha256: image for image in images}
    groups = {image.group: image.name for image in images}
    for image in tested:
        same = seen.get(image.pixels_sha256)
        if same is not None:
            otherwise = "" if same.sha256 == image.sha256 else ", annotated otherwise"
            raise TrainingDataError(
                f"The test image {image.name} is also among the images to train on "
                f"({same.name}{otherwise}).",
                hint="Keep test images apart, or the scores mean nothing.",
            )
        if image.group in groups:
            raise TrainingDataError(
                f"The test image {image.name} and the image {groups[image.group]} to train on are "
                f"of one group, {image.group}.",
                hint="Put images of one well, slide or animal on one side only.",
            )
