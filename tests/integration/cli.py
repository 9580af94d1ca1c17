"""Help for tests of the command line: run it, draw images, look at folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg_engine.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def images(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "image"]


class Cli:
    """Calls the command line in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: object) -> Outcome:
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        captured = self._capfd.readouterr()
        assert "Traceback" not in captured.out + captured.err
        code = caught.value.code
        return Outcome(code if isinstance(code, int) else 1, captured.out, captured.err)


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cellseg_engine", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        **options,
    )


def disks(shape: tuple[int, int] = (96, 120), n: int = 4, seed: int = 0) -> np.ndarray:
    """Soft bright disks of 24 px on a noisy background; uint16."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 200 + rng.normal(0, 10, shape)
    places = [(24, 24), (24, 84), (70, 30), (70, 90), (24, 54), (70, 60)]
    for cy, cx in places[:n]:
        image += 3000 * np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / 12**2) ** 4))
    return image.astype(np.uint16)


def draw(path: Path, **options: Any) -> Path:
    """Write an image of disks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, disks(**options))
    return path


def listing(folder: Path) -> dict[str, bytes]:
    """Give all files below a folder with their content; empty if there is no folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def official(path: Path, seed: int = 0, n_channels: int = 2) -> Path:
    """Write a network of random weights as an official file."""
    import torch

    from cellseg_engine.nets.unet import ResidualUNet

    torch.manual_seed(seed)
    torch.save(ResidualUNet(n_channels).state_dict(), path)
    return path
