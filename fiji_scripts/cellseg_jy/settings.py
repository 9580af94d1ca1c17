"""The settings of Fiji's scripts, by tools/render_contract.py: do not edit."""

from __future__ import unicode_literals

from cellseg_jy.parameters import Parameter

SETTINGS = (
    Parameter("model", "text", "nuclei", ()),
    Parameter("channel", "text", "auto", ()),
    Parameter("nuclear_channel", "text", "none", ()),
    Parameter("diameter_px", "number", 0.0, ()),
    Parameter("invert", "choice", "auto", ("auto", "yes", "no")),
    Parameter("probability_threshold", "number", 0.5, ()),
    Parameter("flow_threshold", "number", 0.4, ()),
    Parameter("min_area_px", "integer", 0, ()),
    Parameter("max_area_px", "integer", 0, ()),
    Parameter("max_size_fraction", "number", 0.4, ()),
    Parameter("exclude_edge_objects", "boolean", False, ()),
    Parameter("percentile_low", "number", 1.0, ()),
    Parameter("percentile_high", "number", 99.0, ()),
    Parameter("iterations", "integer", 0, ()),
    Parameter("interpolation", "choice", "bilinear", ("bilinear", "nearest")),
    Parameter("test_time_augmentation", "choice", "none", ("none", "flips", "paper")),
    Parameter("tile_overlap", "number", 0.1, ()),
    Parameter("batch_size", "integer", 0, ()),
    Parameter("device", "text", "auto", ()),
    Parameter("precision", "choice", "auto", ("auto", "fp32", "bf16", "fp16")),
    Parameter("stitch_threshold", "number", 0.0, ()),
    Parameter("fill_holes", "boolean", True, ()),
    Parameter("track_threshold", "number", 0.0, ()),
    Parameter("track_max_gap", "integer", 0, ()),
    Parameter("volume_mode", "choice", "planes", ("planes", "fuse", "cellpose3")),
    Parameter("anisotropy", "text", "auto", ()),
    Parameter("flow_smoothing_px", "number", 0.0, ()),
    Parameter("model_side_views", "text", "same", ()),
    Parameter("min_volume_px", "integer", 15, ()),
    Parameter("max_volume_px", "integer", 0, ()),
    Parameter("min_volume_um3", "number", 0.0, ()),
    Parameter("max_volume_um3", "number", 0.0, ()),
    Parameter("min_volume_share", "number", 0.1, ()),
    Parameter("volume_block_px", "integer", 0, ()),
    Parameter("tiling", "choice", "fewest", ("fewest", "cellpose")),
)
