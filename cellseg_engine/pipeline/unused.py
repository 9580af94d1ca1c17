"""Settings that an image does not need: what the user set and nothing looks at."""

from __future__ import annotations

from cellseg_engine.core.axes import PlaneStack
from cellseg_engine.settings import Settings

KEEPS_ALL_PX = 1
"""A size that every object has, which hosts ask for in planes and volumes alike."""
_OF_PLANES = ("min_area_px", "max_area_px")
_OF_VOLUMES = (
    "anisotropy",
    "flow_smoothing_px",
    "model_side_views",
    "min_volume_px",
    "max_volume_px",
    "min_volume_um3",
    "max_volume_um3",
    "min_volume_share",
    "volume_block_px",
)


def unused_warnings(stack: PlaneStack, settings: Settings) -> tuple[str, ...]:
    """Say which settings were changed, but do nothing for an image.

    Settings of stacks may be set for single planes: hosts send them with each image.
    """
    if settings.volume_mode != "planes":
        return tuple(
            f"{name} counts in planes and was not looked at; use {name.replace('area', 'volume')}."
            for name in _OF_PLANES
            if _is_changed(settings, name)
        )
    if stack.n_planes == 1:
        return ()
    sentences = [
        f"{name} is for volumes and was not looked at, because volume_mode is planes."
        for name in _OF_VOLUMES
        if _is_changed(settings, name)
    ]
    if settings.stitch_threshold > 0 and "T" in stack.axes and "Z" not in stack.axes:
        sentences.append(
            "stitch_threshold links planes along Z and was not looked at: the image has the axes "
            f"{stack.axes} (T is time). To follow objects through time set track_threshold."
        )
    return tuple(sentences)


def _is_changed(settings: Settings, name: str) -> bool:
    value = getattr(settings, name)
    if name.startswith("min_") and name.endswith("_px") and value <= KEEPS_ALL_PX:
        return False
    return bool(value != Settings.model_fields[name].default)
