"""The images of a learning curve: those to draw from, and those to score on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cellseg_engine.nets.card import WeightsFile
from cellseg_engine.train.dataset import Remark, TrainingImage, load_images
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.flow_cache import FlowCache
from cellseg_engine.train.options import TrainingOptions
from cellseg_engine.train.prepare import data_options, find_images
from cellseg_engine.train.record import all_remarks
from cellseg_engine.train.sources import Found
from cellseg_engine.train.validate import leave_out_unscorable


@dataclass(frozen=True)
class CurveImages:
    """Images that were read.

    Attributes
    ----------
    training
        To draw subsets from.
    test
        To score all networks on; no image and no group is in both.
    diameter_px
        At which these are segmented.
    remarks
        What was left out or changed.
    """

    training: list[TrainingImage]
    test: list[TrainingImage]
    diameter_px: float
    remarks: list[Remark]


def read_curve_images(
    options: TrainingOptions,
    test: Sequence[Path],
    test_role: str,
    diameter_px: float,
    base: WeightsFile,
    progress: Callable[[int, int], None],
) -> CurveImages:
    """Read the images to draw from and the test images, as the base model sees them.

    Parameters
    ----------
    diameter_px
        At which test images are segmented; 0 for the mean of the images to draw from, each with
        the same weight.

    Raises
    ------
    TrainingDataError
        An image, or images of one group, are in both; they cannot be read; or none of the test
        images can be scored.
    ReadError, WriteError
        One sentence says why.
    """
    found = find_images(options, options.role)
    found_test = _find_test(options, test, test_role)
    n_images = len(found.sources)
    total = n_images + len(found_test.sources)
    reading = data_options(options, base.card)
    cache = FlowCache(options.flow_cache or options.out / "flows")
    images, remarks = load_images(
        found.sources, reading, cache, lambda done, _: progress(done, total)
    )
    tested, test_remarks = load_images(
        found_test.sources,
        replace(reading, min_objects=1),
        cache,
        lambda done, _: progress(n_images + done, total),
    )
    _refuse_common(images, tested)
    diameter_px = diameter_px or sum(image.diameter_px for image in images) / len(images)
    kept, unscorable = leave_out_unscorable(tested, base.card.diam_mean_px, diameter_px)
    if not kept:
        raise TrainingDataError(
            f"None of the {len(tested)} test images can be scored ({unscorable[0].image}: "
            f"{unscorable[0].reason}).",
            hint="Give larger ones, or the diameter of their objects with --diameter-px.",
        )
    told = [*all_remarks(found, remarks), *all_remarks(found_test, [*test_remarks, *unscorable])]
    return CurveImages(images, kept, diameter_px, told)


def _find_test(options: TrainingOptions, test: Sequence[Path], role: str) -> Found:
    """Find the test images, which need not be of all kinds that are asked for."""
    options = replace(options, paths=test)
    found = find_images(replace(options, kinds=()), role)
    kept = tuple(source for source in found.sources if source.kind in options.kinds)
    if kept or not options.kinds:
        return replace(found, sources=kept or found.sources)
    return find_images(options, role)  # which says that there are none of these kinds


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
