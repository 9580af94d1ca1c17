"""Volumes of full size: the exact fields of the shared synthetic one, and a real one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.core.metrics import score_image
from cellseg_engine.core.volume_flows import volume_flows
from cellseg_engine.pipeline.volume_fields import VolumeFields
from cellseg_engine.pipeline.volume_masks import Tracing, trace_volume


@pytest.mark.slow
def test_exact_fields_of_a_volume_give_all_objects_in_one_piece_and_in_blocks(
    shared: Path,
) -> None:
    spec = importlib.util.spec_from_file_location("synth", shared / "peers/synth.py")
    assert spec is not None
    assert spec.loader is not None
    synth = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(synth)
    labels = synth.labels3d()
    assert labels.shape == (64, 512, 512)
    fields = np.empty((4, *labels.shape), np.float32)
    fields[:3] = volume_flows(labels)
    fields[3] = np.where(labels > 0, 6, -6)
    volume = VolumeFields(fields, labels.shape, np.ones(256, np.float32))
    how = Tracing(make_settings(volume_mode="fuse"), 1.0, 200, "v3")
    whole, _ = trace_volume(volume, how, diameter_px=28, max_voxels=10**9)
    assert score_image(labels, whole.labels, (0.75,)).average_precision[0] == 1
    blocks, _ = trace_volume(volume, how, diameter_px=28, max_voxels=192**3)
    assert score_image(whole.labels, blocks.labels, (0.9,)).average_precision[0] >= 0.99


def test_fused_views_find_more_of_a_real_volume_than_linked_planes(shared: Path) -> None:
    folder = shared / "data/volumes/val"
    image = tifffile.imread(folder / "img3d_img.tif")
    truth = tifffile.imread(folder / "img3d_masks.tif").astype(np.int32)
    segmenter = Segmenter(make_settings(device="cpu"))
    scores = {}
    for mode in ("fuse", "planes"):
        settings = make_settings(
            volume_mode=mode, diameter_px=11, anisotropy=1, stitch_threshold=0.25
        )
        found = segmenter.segment(image, "ZYX", settings=settings)
        scores[mode] = score_image(truth, found.labels, (0.5,)).average_precision[0]
    assert scores["fuse"] > 1.5 * scores["planes"]
    assert scores["fuse"] > 0.5
