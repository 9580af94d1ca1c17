"""Endings by which names tell images from label images."""

from __future__ import annotations

from collections.abc import Sequence

IMAGE_ENDING = "_img"
LABEL_ENDINGS = ("_labels", "_label", "_cp_masks", "_masks", "_mask", "_gt")
"""How the stem of a label image may end; the part before says which image it belongs to. An ending
comes before those that it ends in."""


def without_ending(stem: str, endings: Sequence[str]) -> str:
    """Take off the longest of the endings, letter case aside; a name is never all ending."""
    for ending in sorted(endings, key=len, reverse=True):
        if stem.casefold().endswith(ending.casefold()) and len(stem) > len(ending):
            return stem[: -len(ending)]
    return stem
