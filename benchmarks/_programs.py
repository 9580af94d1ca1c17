"""The two programs that are timed on whole images, and the images."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _data import MODEL, export_model
from _peer import Peer, clean_environment, find_peer_python
from _synthetic import scatter_cells

HERE = Path(__file__).resolve().parent
DIAMETER_PX = 17.0
"""Of the cells and of the network: nothing is resized."""
SMALL_SIDE = 256
MAX_BLOCK = 2048
"""Larger images repeat one of this side."""


@dataclass(frozen=True)
class Way:
    """One program with its settings."""

    name: str
    script: str
    settings: tuple[tuple[str, Any], ...]

    @property
    def is_peer(self) -> bool:
        """Say whether it is cellpose."""
        return self.script == "peer_whole.py"

    @property
    def precision(self) -> str:
        """Give the arithmetic of ours; empty for the peer."""
        return str(dict(self.settings).get("precision", ""))


def own_way(name: str, precision: str, runtime: str = "auto") -> Way:
    """Give this engine in a precision."""
    return Way(name, "_whole_worker.py", (("precision", precision), ("runtime", runtime)))


FP32, BF16 = own_way("ours, fp32", "fp32"), own_way("ours, bf16", "bf16")
TORCH = own_way("ours, fp32, PyTorch alone", "fp32", "torch")
PEER = Way("peer", "peer_whole.py", (("mkldnn", True),))
PEER_OFF = Way("peer, mkldnn off", "peer_whole.py", (("mkldnn", False),))


class Bench:
    """What the parts need: the peer, its weights, images in a folder; the peer only when asked."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.rounds, self.threads = options.rounds, options.threads
        self.with_torch: bool = options.with_torch
        self.data: Path = options.data
        self.folder = folder
        self._peer_python: str = options.peer_python
        self._environment = clean_environment(self.threads)

    @cached_property
    def python(self) -> Path:
        """Give the peer's interpreter."""
        return find_peer_python(self._peer_python)

    @cached_property
    def peer_versions(self) -> dict[str, str]:
        """Give what the peer is made of."""
        return Peer(self.python, self.threads).versions

    @cached_property
    def weights(self) -> Path:
        """Give our weights as an official file."""
        return export_model(self.folder, MODEL)

    def image(self, side: int, seed: int = 0) -> Path:
        """Give the path of a synthetic image, uint16 as .npy."""
        path = self.folder / f"{side}-{seed}.npy"
        if not path.is_file():
            np.save(path, draw_cells(side, seed))
        return path

    def run(self, way: Way, images: Sequence[Path]) -> dict[str, Any]:
        """Run a program on images once; what its worker says."""
        task = {
            "model": MODEL,
            "weights": str(self.weights),
            "diameter_px": DIAMETER_PX,
            "warm_up": str(self.image(SMALL_SIDE)),
            "images": [str(path) for path in images],
            **dict(way.settings),
        }
        source = self.folder / "task.json"
        source.write_text(json.dumps(task))
        python = str(self.python) if way.is_peer else sys.executable
        answer: dict[str, Any] = json.loads(
            self.call([python, str(HERE / way.script), str(source)], way.name).splitlines()[-1]
        )
        runs = ", ".join(f"{run['side']} px {run['whole']:.2f} s" for run in answer["runs"])
        print(f"  {way.name}: {runs}, {answer['peak'] / 1e9:.2f} GB", file=sys.stderr, flush=True)
        return answer

    def ceiling(self) -> dict[str, float]:
        """Give the most that the processor can calculate, see `_ceiling_worker`."""
        said = self.call([sys.executable, str(HERE / "_ceiling_worker.py")], "ceiling")
        found: dict[str, float] = json.loads(said)
        print(f"  ceiling: {found}", file=sys.stderr, flush=True)
        return found

    def call(self, command: Sequence[str], name: str) -> str:
        """Run a command with the number of threads; its standard output."""
        models = {"CELLPOSE_LOCAL_MODELS_PATH": str(self.folder / "no-models")}
        environment = self._environment | models
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr[-3000:]}")
        return done.stdout


def draw_cells(side: int, seed: int) -> np.ndarray:
    """Give an image of touching bright cells on a dark, noisy ground; uint16 (Y, X)."""
    block = min(side, MAX_BLOCK)
    labels = scatter_cells(block, seed, pitch=27, radius=DIAMETER_PX / 2)
    rng = np.random.default_rng(seed)
    levels = np.r_[300, rng.uniform(1500, 4000, labels.max())]
    repeats = -(-side // block)
    image = np.tile(levels[labels], (repeats, repeats))[:side, :side]
    return (image + rng.normal(0, 120, image.shape)).clip(0, 65535).astype(np.uint16)
