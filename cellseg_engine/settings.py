"""The one declaration of every setting.

Command-line options, the service's request schema, the CellProfiler settings, the
Fiji ``#@`` headers and the reference page are all rendered from this class
(``Settings.model_json_schema()``); nothing else lists settings.

A name carries its unit. ``0`` or a word stands for "decide for me", never null.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from cellseg_engine.declaring import explain, setting
from cellseg_engine.errors import SettingsError

DEFAULT_MODEL = "nuclei"
SAME_MODEL = "same"
_ABOVE_0 = r"[0-9]*[1-9][0-9]*(\.[0-9]*)?|[0-9]*\.[0-9]*[1-9][0-9]*"


class Settings(BaseModel):
    """How one image is segmented. Immutable; build it with `make_settings` for readable errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )

    # -- what to look at ---------------------------------------------------------------
    model: str = setting(
        DEFAULT_MODEL,
        label="Model",
        group="Model",
        min_length=1,
        help="Name of a model (see `cellseg models list`) or path of a weights file "
        "(.safetensors, or an official Cellpose .pth).",
    )
    channel: str = setting(
        "auto",
        label="Channel",
        group="Image",
        min_length=1,
        help="Channel that shows the objects: its number (from 1), its name in the file, gray "
        "(mean of an RGB image), red, green, blue, or hematoxylin (colour deconvolution of stained "
        "tissue). auto takes the only channel, or gray of an RGB image, and asks otherwise.",
    )
    nuclear_channel: str = setting(
        "none",
        label="Nuclear channel",
        group="Image",
        min_length=1,
        help="Second channel with nuclei, for models of whole cells; same choices as the channel, "
        "or none.",
    )
    invert: Literal["auto", "yes", "no"] = setting(
        "auto",
        label="Invert",
        group="Image",
        help="yes for dark objects on a bright background. auto looks at the background; what it "
        "chose is recorded with the result.",
    )
    percentile_low: float = setting(
        1.0,
        label="Low percentile",
        group="Image",
        unit="%",
        step=0.1,
        ge=0,
        lt=100,
        help="Intensity percentile that becomes 0.",
    )
    percentile_high: float = setting(
        99.0,
        label="High percentile",
        group="Image",
        unit="%",
        step=0.1,
        gt=0,
        le=100,
        help="Intensity percentile that becomes 1.",
    )

    # -- size --------------------------------------------------------------------------
    diameter_px: float = setting(
        0.0,
        label="Diameter",
        group="Size",
        unit="px",
        step=1,
        ge=0,
        le=10000,
        help="Typical diameter of the objects; 0 estimates it from the image.",
    )
    diameter_scope: Literal["image", "folder"] = setting(
        "image",
        label="Estimate per",
        group="Size",
        help="With diameter 0: estimate for each image, or once for all images of a run (the "
        "median over a sample of them).",
    )
    min_area_px: int = setting(
        0,
        label="Smallest area",
        group="Size",
        unit="px²",
        step=1,
        ge=0,
        help="Smaller objects are removed. 0: below 15 px² or, if less, a quarter of a typical "
        "object's area; 1 keeps all. In a stack planes count singly. Not for stacks as one volume.",
    )
    max_area_px: int = setting(
        0,
        label="Largest area",
        group="Size",
        unit="px²",
        step=1,
        ge=0,
        help="Larger objects are removed; 0 sets no limit. In a stack the area in each plane "
        "counts, before planes are linked. Not for stacks as one volume.",
    )
    max_size_fraction: float = setting(
        0.4,
        label="Largest share of the image",
        group="Size",
        step=0.05,
        gt=0,
        le=1,
        help="Objects that cover more than this share of the image, or of the volume, are removed.",
    )
    exclude_edge_objects: bool = setting(
        False,
        label="Exclude edge objects",
        group="Size",
        help="Remove objects that touch the border of the image; in a stack only from the planes "
        "where they touch it.",
    )

    # -- decision ----------------------------------------------------------------------
    probability_threshold: float = setting(
        0.5,
        label="Probability threshold",
        group="Decision",
        step=0.05,
        gt=0,
        lt=1,
        help="A pixel belongs to an object above this probability; lower finds more and larger "
        "objects. Cellpose has another scale for it (cellprob_threshold): there 0.5 is 0, 0.27 is "
        "-1 and 0.73 is +1.",
    )
    flow_threshold: float = setting(
        0.4,
        label="Flow-error threshold",
        group="Decision",
        step=0.1,
        ge=0,
        le=10,
        help="Objects whose recomputed flows differ more than this (mean squared error) from the "
        "network's are removed, in volumes above twice this; 0 switches the check off.",
    )
    iterations: int = setting(
        0,
        label="Iterations",
        group="Decision",
        step=50,
        ge=0,
        le=100000,
        help="Steps of the flow dynamics; 0 derives them from the diameter. Raise it for very long "
        "cells.",
    )
    interpolation: Literal["bilinear", "nearest"] = setting(
        "bilinear",
        label="Flow interpolation",
        group="Decision",
        help="How the flow between pixels is read during the dynamics; nearest is the original "
        "paper's.",
    )
    fill_holes: bool = setting(
        True,
        label="Fill holes inside objects",
        group="Decision",
        help="Background that an object encloses in its plane (with a volume_mode in the volume) "
        "becomes part of it; objects inside its hole stay.",
    )

    # -- stacks ------------------------------------------------------------------------
    stitch_threshold: float = setting(
        0.0,
        label="Link planes above IoU",
        group="Stacks",
        step=0.05,
        ge=0,
        le=1,
        help="Objects of neighbouring Z planes become one 3-D object where they overlap by more "
        "than this (intersection over union), best pairs first; 0 does not link planes. Time "
        "points are linked by the tracks alone. For volume_mode planes.",
    )
    volume_mode: Literal["planes", "fuse", "cellpose3"] = setting(
        "planes",
        label="Volumes",
        group="Stacks",
        help="planes segments each plane by itself. fuse takes a stack as one volume: flows and "
        "probabilities of all XY, XZ and YZ slices are averaged (Stringer et al. 2021). cellpose3 "
        "sums flows and logits, without flow-error threshold and smallest share.",
    )
    anisotropy: str = setting(
        "auto",
        label="Depth of a voxel",
        group="Stacks",
        pattern=rf"^(auto|{_ABOVE_0})$",
        help="For stacks as one volume: distance of the planes in pixel widths, for example 3.5. "
        "auto takes it from the calibration of the image, and 1 where that does not say.",
    )
    flow_smoothing_px: float = setting(
        0.0,
        label="Smoothing of the flow",
        group="Stacks",
        unit="px",
        step=0.5,
        ge=0,
        le=50,
        help="For stacks as one volume: smooths what the network says, over about this distance; 0 "
        "does not. Try 1 or 2 where objects break into pieces.",
    )
    model_side_views: str = setting(
        SAME_MODEL,
        label="Model of the side views",
        group="Stacks",
        min_length=1,
        help="For stacks as one volume: name or path of another model for the slices seen from the "
        "sides (XZ and YZ); same takes the model of the planes.",
    )
    min_volume_px: int = setting(
        15,
        label="Smallest volume",
        group="Stacks",
        unit="voxels",
        step=1,
        ge=0,
        help="For stacks as one volume: smaller objects are removed; 0 keeps all.",
    )
    max_volume_px: int = setting(
        0,
        label="Largest volume",
        group="Stacks",
        unit="voxels",
        step=1,
        ge=0,
        help="For stacks as one volume: larger objects are removed; 0 sets no limit.",
    )
    min_volume_um3: float = setting(
        0.0,
        label="Smallest calibrated volume",
        group="Stacks",
        unit="µm³",
        ge=0,
        help="As the smallest volume, for images with a calibration; both limits hold.",
    )
    max_volume_um3: float = setting(
        0.0,
        label="Largest calibrated volume",
        group="Stacks",
        unit="µm³",
        ge=0,
        help="As the largest volume, for images with a calibration; 0 sets no limit.",
    )
    min_volume_share: float = setting(
        0.1,
        label="Smallest share of the median volume",
        group="Stacks",
        step=0.05,
        ge=0,
        le=1,
        help="For stacks as one volume: smaller objects than this share are removed; 0 keeps all.",
    )
    volume_block_px: int = setting(
        0,
        label="Blocks of volumes",
        group="Stacks",
        unit="px",
        ge=0,
        le=10000,
        help="For stacks as one volume: side of the cubes in which objects are looked for in turn; "
        "changes memory, not the objects. 0 takes 288, which needs about 2.5 GB.",
    )

    # -- time series -------------------------------------------------------------------
    track_threshold: float = setting(
        0.0,
        label="Track above IoU",
        group="Time series",
        step=0.05,
        ge=0,
        le=1,
        help="An object keeps its number from frame to frame where it overlaps with itself by more "
        "than this (intersection over union), best pairs first; 0 does not follow objects. Planes "
        "of a stack must be linked, or one volume.",
    )
    track_max_gap: int = setting(
        0,
        label="Longest gap of a track",
        group="Time series",
        unit="frames",
        step=1,
        ge=0,
        le=1000,
        help="Frames that an object may be missing in and keep its number; 0 ends a track where "
        "its object is not found.",
    )

    # -- running -----------------------------------------------------------------------
    test_time_augmentation: Literal["none", "flips", "paper"] = setting(
        "none",
        label="Test-time augmentation",
        group="Running",
        help="Average over flipped tiles, about four times slower: flips uses Cellpose's half-"
        "overlapping grid, paper the four shifted grids of Stringer et al. 2021.",
    )
    tile_overlap: float = setting(
        0.1,
        label="Tile overlap",
        group="Running",
        step=0.05,
        ge=0.05,
        le=0.5,
        help="Share of a tile of 224 px that overlaps its neighbours on each side.",
    )
    tiling: Literal["fewest", "cellpose"] = setting(
        "fewest",
        label="Tiling",
        group="Running",
        help="What the network sees at once, at its own scale: the fewest tiles of up to 640 px, "
        "which is fastest, or tiles of 224 px as in Cellpose.",
    )
    batch_size: int = setting(
        0,
        label="Batch size",
        group="Running",
        unit="tiles",
        step=1,
        ge=0,
        le=1024,
        help="Tiles that the network sees at once; changes memory and speed, never the result. 0 "
        "takes 1 on a CPU, where that is fastest, and 8 on a GPU.",
    )
    device: str = setting(
        "auto",
        label="Device",
        group="Running",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        help="auto (a GPU when there is one), cpu, cuda, cuda:1 or mps.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto",
        label="Precision",
        group="Running",
        help="Arithmetic of the network. auto is fp32; bf16 on CPUs with units for it (AMX), for "
        "models of which the same objects were seen in both. What was executed is recorded.",
    )

    @model_validator(mode="after")
    def _check_pairs(self) -> Settings:
        if self.percentile_low >= self.percentile_high:
            raise ValueError(
                f"percentile_low {self.percentile_low:g} must be below "
                f"percentile_high {self.percentile_high:g}"
            )
        if self.max_area_px and self.max_area_px < self.min_area_px:
            low, high = self.min_area_px, self.max_area_px
            raise ValueError(f"max_area_px {high} must not be below min_area_px {low}")
        if self.track_max_gap and not self.track_threshold:
            raise ValueError(
                f"track_max_gap {self.track_max_gap} needs a track_threshold above 0: without it "
                "objects are not followed"
            )
        for name in ("volume_px", "volume_um3"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if high and high < low:
                raise ValueError(f"max_{name} {high:g} must not be below min_{name} {low:g}")
        return self


def make_settings(values: Settings | dict[str, Any] | None = None, /, **more: Any) -> Settings:
    """Give checked settings from a mapping, keyword arguments or both.

    Raises
    ------
    SettingsError
        A name is unknown or a value is out of range; one sentence names the setting, the value
        given and what is allowed.
    """
    if isinstance(values, Settings):
        values = values.model_dump(exclude_unset=True)
    try:
        return Settings.model_validate({**(values or {}), **more})
    except ValidationError as error:
        raise SettingsError(
            explain(error, Settings.model_fields), hint="See `cellseg segment --help`."
        ) from None
