"""The most that this processor can calculate, and what the network asks of it.

``python _ceiling_worker.py``; JSON on standard output: billions of operations a second in
products of matrices (fp32 and bf16, the best of several), and billions of operations for a tile.
Threads come from ``OMP_NUM_THREADS``.
"""

from __future__ import annotations

import json
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from cellseg_engine.core.tiling import TILE_PX
from cellseg_engine.nets.unet import ResidualUNet

SIDE = 3072
"""Of the matrices: large enough to keep the units busy, 38 MB each in fp32."""
REPEATS = 20
N_CHANNELS = 2


def products_per_second(dtype: torch.dtype) -> float:
    """Give billions of operations a second in the fastest product of two matrices."""
    left, right = torch.randn(2, SIDE, SIDE).to(dtype)
    torch.mm(left, right)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    return float(2 * SIDE**3 / min(seconds) / 1e9)


def operations_of_tile() -> float:
    """Give billions of operations (a multiplication and an addition are two) for one tile."""
    net = ResidualUNet(N_CHANNELS).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(torch.zeros(1, N_CHANNELS, TILE_PX, TILE_PX))
    return float(counter.get_total_flops() / 1e9)


if __name__ == "__main__":
    ceiling = {
        "fp32": products_per_second(torch.float32),
        "bf16": products_per_second(torch.bfloat16),
        "tile": operations_of_tile(),
    }
    print(json.dumps(ceiling))
