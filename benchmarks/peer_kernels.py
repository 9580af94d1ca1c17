"""Runs inside the peer's own environment: seconds of the single steps of cellpose 3.1.1.3.

``python peer_kernels.py INPUT.npz``; JSON on standard output. Names and input are those of
`_kernels_worker.py`, which does the same with this engine.
"""

import numpy as np
import torch
from _step_times import run_steps
from cellpose import dynamics, metrics, utils

CPU = torch.device("cpu")
STEPS = 200


def plane_steps(labels, flows, shifted):
    """Give each step of a plane as a function, in an order: some use what others found."""
    mask = labels > 0
    found = {}

    def follow(interp):
        return dynamics.follow_flows(
            flows * mask, np.nonzero(mask), niter=STEPS, interp=interp, device=CPU
        )

    def bilinear():
        found["ends"] = follow(True)

    def cluster():
        ends = found["ends"]
        ends = ends if torch.is_tensor(ends) else torch.from_numpy(np.array(ends))
        found["masks"] = dynamics.get_masks_torch(
            ends.int().clone(), np.nonzero(mask), mask.shape
        ).astype(np.int32)

    network, logit = flows * 5, np.where(mask, 6.0, -6.0).astype(np.float32)
    return {
        "flow targets": lambda: dynamics.masks_to_flows(labels, device=CPU),
        "dynamics, bilinear": bilinear,
        "dynamics, nearest": lambda: follow(False),
        "clustering": cluster,
        "flow check": lambda: dynamics.remove_bad_flow_masks(
            found["masks"].copy(), network, threshold=0.4, device=CPU
        ),
        "holes and small objects": lambda: utils.fill_holes_and_remove_small_masks(
            found["masks"].copy(), min_size=15
        ),
        "fields to labels": lambda: dynamics.compute_masks(
            network,
            logit,
            niter=STEPS,
            interp=True,
            flow_threshold=0.4,
            min_size=15,
            device=CPU,
        ),
        "outlines": lambda: utils.outlines_list(found["masks"], multiprocessing=False),
        "scores": lambda: metrics.average_precision(labels, shifted, threshold=[0.5, 0.75, 0.9]),
    }


def volume_steps(mask, flows):
    """Give the steps of a volume as functions."""

    def follow(interp):
        return dynamics.follow_flows(
            flows * mask, np.nonzero(mask), niter=STEPS, interp=interp, device=CPU
        )

    network, logit = flows * 5, np.where(mask, 6.0, -6.0).astype(np.float32)
    return {
        "volume fields to labels": lambda: dynamics.compute_masks(
            network, logit, niter=STEPS, interp=True, do_3D=True, min_size=15, device=CPU
        ),
        "volume dynamics, trilinear": lambda: follow(True),
        "volume dynamics, nearest": lambda: follow(False),
    }


if __name__ == "__main__":
    run_steps(plane_steps, volume_steps, torch.set_num_threads)
