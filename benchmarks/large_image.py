"""Peak memory and times of `cellseg segment` on one large uint16 image.

The network would take most of an hour on two cores, so by default a stand-in reads flows and
logits off the pixels (the image is a field of cones, whose gradient leads to their centres) and
only every 400th tile goes through the real network too, for its memory. ``--real-network`` runs it
for all tiles. Everything else is the program as it is, in a process of its own.

    python benchmarks/large_image.py --side 10000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _peak import peak_bytes

PITCH_PX = 38
RADIUS_PX = 15.0
REAL_EVERY = 400


def draw_cones(side: int) -> np.ndarray:
    """Give a uint16 image of jittered cones, about one every 38 x 38 pixels."""
    rng = np.random.default_rng(0)
    count = side // PITCH_PX
    image = np.full((side, side), 100, np.uint16)
    reach = np.arange(-18, 19)
    for row in range(count):
        for column in range(count):
            y, x = (np.array([row, column]) + 0.5) * PITCH_PX + rng.uniform(-3, 3, 2)
            rows, columns = reach + int(y), reach + int(x)
            distance = np.hypot(rows[:, None] - y, columns[None] - x)
            cone = 100 + 3000 * np.clip(1.2 - distance / RADIUS_PX, 0, None)
            window = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            if window.shape == cone.shape:
                np.maximum(window, cone.astype(np.uint16), out=window)
    return image


class PixelRuntime:
    """Stands in for a network: the gradient is the flow, the brightness the probability."""

    precision = "fp32"
    best_batch = 1
    warnings: tuple[str, ...] = ()

    def __init__(self, real) -> None:
        self._real = real
        self._calls = 0
        self.device = real.device
        self.about = {"name": "pixels", "version": "0"}

    def run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._calls % REAL_EVERY == 0:
            self._real.run(tiles)
        self._calls += 1
        fields = np.empty((len(tiles), 3, *tiles.shape[2:]), np.float32)
        for out, tile in zip(fields, tiles, strict=True):
            gradient = np.stack(np.gradient(tile[0]))
            out[:2] = 5 * gradient / (np.hypot(*gradient) + 1e-6)
            out[2] = 20 * (tile[0] - 0.2)
        return fields, np.ones((len(tiles), 256), np.float32) / 16


def work(arguments: argparse.Namespace) -> None:
    """Run the command line in this process."""
    from cellseg_engine.cli.main import main
    from cellseg_engine.nets import choose_runtime

    if not arguments.real_network:
        make = choose_runtime.make_runtime
        choose_runtime.make_runtime = lambda *a, **k: PixelRuntime(make(*a, **k))
    command = ["segment", arguments.image, "--out", arguments.out, "--diameter-px", "30"]
    command += ["--device", "cpu", "--outputs", arguments.outputs]
    try:
        main(command)
    except SystemExit as end:
        if end.code:
            raise
    print("PEAK", peak_bytes())


def main() -> None:
    """Draw the image, run the worker, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--real-network", action="store_true")
    parser.add_argument("--outputs", default="labels,rois,overlay,table")
    parser.add_argument("--image", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.image:
        work(arguments)
        return
    import tifffile

    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "large.tif"
        tifffile.imwrite(image, draw_cones(arguments.side))
        start = time.perf_counter()
        command = [sys.executable, __file__, "--image", str(image), "--out", f"{folder}/out"]
        command += ["--outputs", arguments.outputs]
        command += ["--real-network"] if arguments.real_network else []
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - start
        peak = int(answer.stdout.split("PEAK")[1])
        record = json.loads((Path(folder) / "out" / "large_run.json").read_text())
    print(f"{arguments.side} x {arguments.side} uint16, {record['objects']} objects")
    print(f"peak memory of the process: {peak / 1e9:.2f} GB; {seconds:.1f} s: {record['seconds']}")


if __name__ == "__main__":
    main()
