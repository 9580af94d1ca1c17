"""A stack as one volume: three views through the network, one fused field, objects in 3-D."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from cellseg_engine.backends.flow_unet import FlowUNet
from cellseg_engine.core.axes import PlaneStack
from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.normalize import sample_pixels
from cellseg_engine.core.volumes import (
    VIEWS,
    Fusion,
    ViewFuser,
    resize_volume,
    scaled_volume_shape,
    smooth_flows,
)
from cellseg_engine.errors import AxesError, SettingsError
from cellseg_engine.pipeline.blocks import largest_window
from cellseg_engine.pipeline.memory import (
    VolumePlan,
    available_bytes,
    block_voxels,
    zeros,
)
from cellseg_engine.pipeline.prepare import Preparation, PreparedPlane, predict_at_scale
from cellseg_engine.pipeline.progress import Ticker
from cellseg_engine.pipeline.volume_fields import VolumeFields
from cellseg_engine.pipeline.volume_masks import volume_halo
from cellseg_engine.settings import Settings

SAME_DEPTH = 0.05
"""Largest share by which an anisotropy given may differ from the calibration's."""
MIN_ANISOTROPY, MAX_ANISOTROPY = 0.05, 100.0


@dataclass(frozen=True)
class Anisotropy:
    """How many times deeper than wide a voxel is.

    Attributes
    ----------
    value
        Above 0.
    source
        ``given``, ``calibration`` or ``assumed``.
    warnings
        Sentences for the user.
    """

    value: float
    source: str
    warnings: tuple[str, ...] = ()


def check_volume(stack: PlaneStack, settings: Settings) -> None:
    """Make sure that a stack can be segmented as a volume.

    Raises
    ------
    AxesError
        No Z axis, or one plane only.
    """
    if "Z" not in stack.axes:
        has_time = "T" in stack.axes
        raise AxesError(
            f"volume_mode {settings.volume_mode} needs planes along Z, but the image has the axes "
            f"{stack.axes}{' (T is time)' if has_time else ''}.",
            hint="If its planes are a Z stack, give axes with Z instead of T, for example ZYX "
            "(in ImageJ: Image > Properties); else set volume_mode to planes."
            if has_time
            else "Set volume_mode to planes.",
        )
    if stack.pixels.shape[1] < 2:
        raise AxesError(
            f"volume_mode {settings.volume_mode} needs at least 2 planes along Z; this image has "
            "one.",
            hint="Set volume_mode to planes.",
        )


def find_anisotropy(settings: Settings, pixel_size_um: Mapping[str, float]) -> Anisotropy:
    """Give the anisotropy of a volume: as given, or from the calibration.

    Parameters
    ----------
    settings
        ``anisotropy`` and the limits in µm³.
    pixel_size_um
        Along ``Z``, ``Y``, ``X``; what is missing or 0 is not known.

    Raises
    ------
    SettingsError
        The one given contradicts the calibration or is out of range, the calibration cannot be
        right, or a limit in µm³ has no calibration.
    """
    z, y, x = (pixel_size_um.get(letter, 0.0) for letter in "ZYX")
    _check_microns(settings, bool(z and y and x))
    # 0.3 / 0.1 is a little less than 3, and a plane would be lost where shapes are rounded down.
    calibrated = float(f"{z / math.sqrt(y * x):.12g}") if z and y and x else 0.0
    warnings = _shape_warnings(y, x)
    if settings.anisotropy == "auto":
        if not calibrated:
            warning = (
                "Nothing says how far the planes are apart, so as far as pixels was assumed; give "
                "anisotropy, the distance of the planes over the width of a pixel."
            )
            return Anisotropy(1.0, "assumed", (warning, *warnings))
        _check_range(calibrated, f"The calibration (planes {z:g} µm apart, pixels of {x:g} µm)")
        return Anisotropy(calibrated, "calibration", warnings)
    given = float(settings.anisotropy)
    _check_range(given, f"anisotropy = {settings.anisotropy}")
    if calibrated and abs(given / calibrated - 1) > SAME_DEPTH:
        raise SettingsError(
            f"anisotropy = {given:g} contradicts the calibration of the image, whose planes are "
            f"{z:g} µm apart and whose pixels are {x:g} µm wide: {calibrated:.3g}.",
            hint="Leave anisotropy at auto, or correct the calibration of the image.",
        )
    return Anisotropy(given, "given", warnings)


def _shape_warnings(y: float, x: float) -> tuple[str, ...]:
    if not (y and x) or abs(y / x - 1) <= SAME_DEPTH:
        return ()
    return (
        (
            f"The pixels are not square ({y:g} x {x:g} µm), but are taken to be; resize the image "
            "first for good results."
        ),
    )


def _check_microns(settings: Settings, is_calibrated: bool) -> None:
    for name in ("min_volume_um3", "max_volume_um3"):
        if getattr(settings, name) and not is_calibrated:
            raise SettingsError(
                f"{name} = {getattr(settings, name):g} needs the size of a voxel in µm, which the "
                "image does not say.",
                hint=f"Use {name.replace('um3', 'px')}, or give the image a calibration.",
            )


def _check_range(value: float, what: str) -> None:
    if not MIN_ANISOTROPY <= value <= MAX_ANISOTROPY:
        raise SettingsError(
            f"{what} makes voxels {value:.3g} times as deep as wide; {MIN_ANISOTROPY:g} to "
            f"{MAX_ANISOTROPY:g} times can be segmented.",
            hint="anisotropy is the distance of the planes over the width of a pixel.",
        )


@dataclass(frozen=True)
class VolumeNetwork:
    """The models that look at a volume, and how their answers are fused.

    Attributes
    ----------
    model
        For the XY slices.
    side_model
        For the XZ and YZ slices.
    settings
        Of the call.
    """

    model: FlowUNet
    side_model: FlowUNet
    settings: Settings

    @property
    def fusion(self) -> Fusion:
        """How estimates are fused."""
        return "sum" if self.settings.volume_mode == "cellpose3" else "average"

    def plan(
        self, pixels: np.ndarray, diameter_px: float, anisotropy: float, *, keeps_fields: bool
    ) -> VolumePlan:
        """Plan the memory.

        Parameters
        ----------
        pixels
            ndarray of shape (T, Z, C, Y, X), of all time points.

        Raises
        ------
        SettingsError
            The volume would shrink to nothing.
        """
        card = self.model.card
        n_frames, n_planes, _, height, width = pixels.shape
        shape = (n_planes, height, width)
        scaled = scaled_volume_shape(shape, card.diam_mean_px / diameter_px, anisotropy)
        if min(scaled) < 1:
            size = " x ".join(str(n) for n in shape)
            raise SettingsError(
                f"diameter_px = {diameter_px:g} with an anisotropy of {anisotropy:g} does not fit "
                f"the volume: {size} voxels shrink to nothing at the model's own diameter of "
                f"{card.diam_mean_px:g} px.",
                hint="Give the diameter of the objects in pixels of a plane, or 0 to estimate it.",
            )
        max_voxels = block_voxels(self.settings.volume_block_px)
        return VolumePlan(
            shape=shape,
            scaled_shape=scaled,
            n_channels=card.n_channels,
            anisotropy=anisotropy,
            block_voxels=max_voxels,
            window_voxels=largest_window(shape, volume_halo(diameter_px, anisotropy), max_voxels),
            keeps_fields=keeps_fields,
            n_frames=n_frames,
            copied_bytes=copied_bytes(pixels[0]),
        )

    def predict(
        self, pixels: np.ndarray, preparation: Preparation, plan: VolumePlan, ticker: Ticker
    ) -> tuple[VolumeFields, PreparedPlane]:
        """Give the fused fields of a volume, and the volume as one normalised plane.

        Parameters
        ----------
        pixels, preparation
            See `show_volume`.
        plan
            See `plan`.

        Raises
        ------
        MemoryNeededError
            It does not fit.
        """
        in_file = plan.uses_a_file(available_bytes())
        seen = zeros((plan.n_channels, *plan.scaled_shape), in_file=in_file)
        tall = show_volume(pixels, preparation, seen)
        fields = zeros((4, *plan.scaled_shape), in_file=in_file)
        fuser = ViewFuser(fields[:3], fields[3], self.fusion)
        style = self._look(seen, fuser, ticker)
        fuser.finish()
        if self.settings.flow_smoothing_px > 0:
            scale = plan.scaled_shape[2] / plan.shape[2]
            smooth_flows(fields[:3], self.settings.flow_smoothing_px * scale)
        return VolumeFields(fields, plan.shape, style), tall

    def _look(self, seen: np.ndarray, fuser: ViewFuser, ticker: Ticker) -> np.ndarray:
        """Run the network on all slices; give the style, the mean over those in XY."""
        n_slices = sum(seen.shape[view.across + 1] for view in VIEWS)
        style, done = np.zeros(0), 0
        for view in VIEWS:
            model = self.model if view.name == "XY" else self.side_model
            for index, plane in enumerate(view.slices(seen)):
                ticker.start("network", done, n_slices)
                fields = predict_at_scale(
                    model, np.ascontiguousarray(plane), 1.0, self.settings, ticker
                )
                fuser.add(view, index, fields.flows, fields.logit)
                if view.name == "XY":
                    style = fields.style + (style if style.size else 0)
                done += 1
        return np.asarray(style / np.linalg.norm(style), np.float32)

    def facts(self, plan: VolumePlan, anisotropy: Anisotropy) -> dict[str, Any]:
        """Give what run.json says about the volume."""
        side = self.side_model
        return {
            "mode": self.settings.volume_mode,
            "anisotropy": round(anisotropy.value, 6),
            "anisotropy_source": anisotropy.source,
            "network_shape": list(plan.scaled_shape),
            "in_blocks": math.prod(plan.shape) > plan.block_voxels,
            "planned_bytes": plan.scaled_bytes + plan.other_bytes,
            "model_side_views": {
                "name": side.card.name,
                "version": side.card.version,
                "weights_sha256": list(side.weights_sha256),
            },
        }


def show_volume(pixels: np.ndarray, preparation: Preparation, seen: np.ndarray) -> PreparedPlane:
    """Write a volume as the network sees it, before it is cut into slices.

    Parameters
    ----------
    pixels
        ndarray of shape (Z, C, Y, X), C of the image.
    preparation
        The choices made for the image. Percentiles are those of the whole volume.
    seen
        float32 of shape (C, Z, Y, X), C of the model, written; the volume is resized to its shape.

    Returns
    -------
    The volume normalised, as one plane: all its planes, one below the other.
    """
    n_planes, _, height, _ = pixels.shape
    tall = preparation.plane(tall_plane(pixels), sample_volume(pixels))
    resize_volume(lambda z: tall.rows(z * height, (z + 1) * height), n_planes, seen.shape[1:], seen)
    return tall


def tall_plane(pixels: np.ndarray) -> np.ndarray:
    """Give a volume (Z, C, Y, X) as one plane (C, Z * Y, X), all planes one below the other."""
    n_planes, n_channels, height, width = pixels.shape
    return pixels.transpose(1, 0, 2, 3).reshape(n_channels, n_planes * height, width)


def sample_volume(pixels: np.ndarray) -> np.ndarray:
    """Give the voxels of a volume (Z, C, Y, X) that its percentiles are taken from, (C, n, x)."""
    sample = sample_pixels(pixels.swapaxes(0, 1))
    return sample.reshape(len(sample), -1, sample.shape[-1])


def copied_bytes(pixels: np.ndarray) -> int:
    """Give the size of the copy that `tall_plane` makes, unless rows follow each other anyway."""
    height = pixels.shape[2]
    step_z, _, step_y, _ = pixels.strides
    return 0 if height == 1 or step_z == height * step_y else pixels.nbytes


def check_side_model(model: FlowUNet, side: FlowUNet) -> None:
    """Make sure that the model of the side views fits the other one.

    Raises
    ------
    SettingsError
        It takes other channels, or was trained at another diameter.
    """
    ours, theirs = model.card, side.card
    if ours.n_channels != theirs.n_channels or ours.diam_mean_px != theirs.diam_mean_px:
        raise SettingsError(
            f"The model of the side views, {theirs.name} ({theirs.n_channels} channels, diameter "
            f"{theirs.diam_mean_px:g} px), does not fit {ours.name} ({ours.n_channels} channels, "
            f"{ours.diam_mean_px:g} px): both must be equal.",
            hint="Choose another model_side_views, or same.",
        )


def variant_of(model: FlowUNet) -> FlowVariant:
    """Give the flow targets of a model."""
    return cast(FlowVariant, model.card.flow_variant)
