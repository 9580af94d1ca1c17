"""Which ending of a name makes a file an image or an annotation of one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cellseg_engine.io.endings import IMAGE_ENDING, LABEL_ENDINGS, without_ending
from cellseg_engine.io.images import IMAGE_SUFFIXES, TIFF_SUFFIXES, image_stem

Kind = Literal["labels", "seg", "rois"]

SEG_ENDING = "_seg"
ROI_ENDINGS = ("_rois", "_roiset")
OTHER_ENDINGS = ("_overlay", "_flows", "_outlines", "_cp_output", "_probability")
"""What other programs and our own results put beside an image; neither image nor annotation."""


def classify(
    path: Path, image_suffix: str, mask_suffix: str
) -> tuple[Literal["image", "other"] | Kind, str]:
    """Say what a file is, and its name without the ending that makes it an annotation."""
    suffix, stem = path.suffix.lower(), image_stem(path)
    if suffix == ".npy" and stem.endswith(SEG_ENDING):
        return "seg", stem.removesuffix(SEG_ENDING)
    if suffix in (".zip", ".roi"):
        return "rois", without_ending(stem, ROI_ENDINGS)
    if suffix in TIFF_SUFFIXES | {".png"}:
        base = without_ending(stem, (mask_suffix,) if mask_suffix else LABEL_ENDINGS)
        if base != stem:
            return "labels", base
    if suffix in IMAGE_SUFFIXES and _is_image(stem, image_suffix):
        return "image", stem
    return "other", stem


def pair_name(path: Path) -> str:
    """Give the name that an image and its annotations have in common, of any of these files."""
    return without_image_ending(classify(path, "", "")[1])


def without_image_ending(name: str, ending: str = IMAGE_ENDING) -> str:
    """Give a name without the ending of images, however often it has it."""
    while (shorter := without_ending(name, (ending,))) != name:
        name = shorter
    return name


def _is_image(stem: str, image_suffix: str) -> bool:
    if image_suffix:
        return without_ending(stem, (image_suffix,)) != stem
    return without_ending(stem, (*OTHER_ENDINGS, *LABEL_ENDINGS)) == stem
