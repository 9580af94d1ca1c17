"""What a person corrected: the ROIs of a model against those that they became."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cellseg_engine.train.part import Part
from cellseg_engine.train.roi_drawing import draw_roi
from cellseg_engine.train.roi_labels import decode_rois, has_area


@dataclass(frozen=True)
class Edits:
    """How many ROIs were corrected.

    Attributes
    ----------
    kept
        As the model drew them.
    changed
        With the name of one of the model's and other pixels.
    drawn
        New ones.
    removed
        Of the model's, whose names are gone.
    """

    kept: int = 0
    changed: int = 0
    drawn: int = 0
    removed: int = 0


def count_edits(
    predicted: bytes, corrected: bytes, shape: tuple[int, ...], part: Part | None = None
) -> Edits:
    """Compare two ROI archives of one plane.

    Parameters
    ----------
    predicted
        What the model had found; empty if there was no model.
    corrected
        What it became.
    shape
        (Y, X) of the image.
    part
        ROIs without a pixel in it do not count; None for the whole image.

    Raises
    ------
    ReadError
        An archive is damaged.
    """
    before = _pixels(predicted, shape, part, "of the model") if predicted else []
    after = _pixels(corrected, shape, part, "of the image")
    # Those with equal pixels are the same, whatever they are called now.
    same = Counter(pixels for _, pixels in before) & Counter(pixels for _, pixels in after)
    n_kept = sum(same.values())
    before_names = _without(before, Counter(same))
    after_names = _without(after, Counter(same))
    changed = sum((before_names & after_names).values())
    return Edits(
        kept=n_kept,
        changed=changed,
        drawn=sum(after_names.values()) - changed,
        removed=sum(before_names.values()) - changed,
    )


Pixels = tuple[int, int, tuple[int, ...], bytes]


def _pixels(
    archive: bytes, shape: tuple[int, ...], part: Part | None, where: str
) -> list[tuple[str, Pixels]]:
    """Give name and pixels of the ROIs that are areas and reach into the part."""
    found = []
    for roi in decode_rois(archive, where):
        if has_area(roi):
            region = draw_roi(roi, (shape[0], shape[1]))
            if part is not None and not part.touches(region):
                continue
            pixels = (region.top, region.left, region.mask.shape, region.mask.tobytes())
            found.append((roi.name, pixels))
    return found


def _without(rois: list[tuple[str, Pixels]], same: Counter[Pixels]) -> Counter[str]:
    """Give the names of the ROIs that are not among the equal ones."""
    names: Counter[str] = Counter()
    for name, pixels in rois:
        if same[pixels] > 0:
            same[pixels] -= 1
        else:
            names[name] += 1
    return names
