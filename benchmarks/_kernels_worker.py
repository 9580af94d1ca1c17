"""Seconds of the single steps of this engine, in a process of its own.

``python _kernels_worker.py INPUT.npz``; JSON on standard output. `peer_kernels.py` does the same
with the peer.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from _step_times import run_steps

from cellseg_engine import make_settings
from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.clustering import cluster_points
from cellseg_engine.core.dynamics import follow_flows
from cellseg_engine.core.flows import flow_errors, labels_to_flows
from cellseg_engine.core.labels import areas, fill_holes, keep_labels
from cellseg_engine.core.metrics import score_image
from cellseg_engine.core.outlines import trace_outlines
from cellseg_engine.pipeline.masks import fields_to_labels
from cellseg_engine.pipeline.volume_fields import VolumeFields
from cellseg_engine.pipeline.volume_masks import (
    Tracing,
    clean_volume,
    group_voxels,
    trace_volume,
)

STEPS = 200
DIAMETER_PX = 28.0
"""Of the objects of the volume, in voxels."""
STYLE = np.zeros(256, np.float32)
Step = Callable[[], object]


def plane_steps(labels: np.ndarray, flows: np.ndarray, shifted: np.ndarray) -> dict[str, Step]:
    """Give each step of a plane as a function, in an order: some use what others found."""
    mask = labels > 0
    found: dict[str, np.ndarray] = {}

    def bilinear() -> None:
        found["starts"], found["ends"] = follow_flows(flows, mask, STEPS)

    def cluster() -> None:
        shape = (mask.shape[0], mask.shape[1])
        found["labels"] = cluster_points(found["starts"], found["ends"], shape)

    def check() -> np.ndarray:
        return keep_labels(found["labels"], ~(flow_errors(found["labels"], flows) > 0.4))

    def clean() -> np.ndarray:
        filled = fill_holes(found["labels"])
        return keep_labels(filled, areas(filled) >= 15)

    logit = np.where(mask, 6.0, -6.0).astype(np.float32)
    fields = Fields(flows, logit, STYLE)
    return {
        "flow targets": lambda: labels_to_flows(labels),
        "dynamics, bilinear": bilinear,
        "dynamics, nearest": lambda: follow_flows(flows, mask, STEPS, "nearest"),
        "clustering": cluster,
        "flow check": check,
        "holes and small objects": clean,
        "fields to labels": lambda: fields_to_labels(fields, make_settings(), STEPS, "v3"),
        "outlines": lambda: trace_outlines(found["labels"]),
        "scores": lambda: score_image(labels, shifted, (0.5, 0.75, 0.9)),
    }


def volume_steps(mask: np.ndarray, flows: np.ndarray) -> dict[str, Step]:
    """Give the steps of a volume as functions."""
    shape = (mask.shape[0], mask.shape[1], mask.shape[2])
    logit = np.where(mask, 6.0, -6.0).astype(np.float32)

    fields = VolumeFields(np.concatenate([flows, logit[np.newaxis]]), shape, STYLE)

    def unchecked() -> object:
        tracing = Tracing(make_settings(volume_mode="cellpose3"), 1.0, STEPS, "v3")
        fraction = tracing.settings.max_size_fraction
        labels = group_voxels(flows, logit > 0, tracing, max_size_fraction=fraction)
        return clean_volume(labels, np.zeros(labels.max() + 1), tracing)

    def checked() -> object:
        tracing = Tracing(make_settings(volume_mode="fuse"), 1.0, STEPS, "v3")
        return trace_volume(fields, tracing, diameter_px=DIAMETER_PX, max_voxels=mask.size)

    return {
        "volume fields to labels": unchecked,
        "volume fields to labels, flows checked": checked,
        "volume dynamics, trilinear": lambda: follow_flows(flows, mask, STEPS),
        "volume dynamics, nearest": lambda: follow_flows(flows, mask, STEPS, "nearest"),
    }


if __name__ == "__main__":
    run_steps(plane_steps, volume_steps, numba.set_num_threads)
