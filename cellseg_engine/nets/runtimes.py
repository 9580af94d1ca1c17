"""Runtimes: what executes a network, on which device and in which arithmetic.

`Runtime` is all that the rest of the engine sees; `TorchRuntime` is here, the engine's own for CPUs
in `cellseg_engine.nets.winograd_runtime`, the one of OpenVINO in
`cellseg_engine.nets.openvino_runtime`, and `cellseg_engine.nets.choose_runtime` chooses.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import sys
from typing import Any, Protocol

import numpy as np
import torch

from cellseg_engine.core.tiling import TILE_PX
from cellseg_engine.errors import DeviceError
from cellseg_engine.nets.unet import ResidualUNet

# of malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 1 << 29

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Runtime(Protocol):
    """A network ready to run.

    Attributes
    ----------
    device
        For people and ``run.json``, for example ``cpu`` or ``cuda:0 (NVIDIA A100)``.
    precision
        The arithmetic that is really executed: ``fp32``, ``bf16`` or ``fp16``.
    best_batch
        Tiles of up to 224 px per call that are fastest; see `tiles_at_once`.
    about
        What calculates, for ``run.json``: ``name`` and ``version`` of the library, and what else
        it can say about the execution.
    warnings
        Sentences for the user: why something else runs than he could expect.
    """

    device: str
    precision: str
    best_batch: int
    about: dict[str, Any]
    warnings: tuple[str, ...]

    def run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give fields (N, 3, Y, X) and styles (N, 256), float32, for tiles (N, C, Y, X)."""
        ...


def tiles_at_once(best_batch: int, tile_shape: tuple[int, ...]) -> int:
    """Give how many tiles of a size, in (Y, X), to calculate at once: fewer of large ones."""
    return max(1, min(best_batch, best_batch * TILE_PX**2 // math.prod(tile_shape)))


class TorchRuntime:
    """PyTorch on the CPU, CUDA or Apple's MPS.

    Parameters
    ----------
    net
        A network in evaluation mode; it is moved to the device.
    device
        ``auto`` takes CUDA, then MPS, then the CPU.
    precision
        ``auto`` is fp32; ``bf16`` and ``fp16`` use autocast, with fp32 sums where it matters.

    Raises
    ------
    DeviceError
        The device is not there, or cannot do the precision.
    """

    def __init__(self, net: ResidualUNet, device: str = "auto", precision: str = "auto") -> None:
        self._device = choose_device(device)
        self.precision = "fp32" if precision == "auto" else precision
        if self._device.type == "cpu":
            check_cpu_precision(self.precision)
        self.device = describe_device(self._device)
        self.about: dict[str, Any] = {"name": "torch", "version": str(torch.__version__)}
        self.warnings: tuple[str, ...] = ()
        if self._device.type == "cpu":
            self.about["threads"] = torch.get_num_threads()
        # On 2 CPU cores 8 tiles took 2.15 s in one batch and 1.47 s one by one: large batches
        # spend the difference on fresh memory.
        self.best_batch = 1 if self._device.type == "cpu" else 8
        if self._device.type == "cpu":
            reuse_freed_memory()
        layout = torch.contiguous_format if self._device.type == "mps" else torch.channels_last
        self._layout = layout
        self._net = net.to(self._device).to(memory_format=layout)

    def run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give fields (N, 3, Y, X) and styles (N, 256), float32, for tiles (N, C, Y, X)."""
        batch = torch.from_numpy(tiles).to(self._device).contiguous(memory_format=self._layout)
        with torch.inference_mode(), self._autocast():
            fields, styles = self._net(batch)
        return _to_numpy(fields), _to_numpy(styles)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.precision == "fp32":
            if self._device.type == "cuda":
                # else Ampere and later GPUs would calculate convolutions in TF32
                return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=_DTYPES[self.precision])


def check_cpu_precision(precision: str) -> None:
    """Make sure that a CPU can calculate in a precision.

    Raises
    ------
    DeviceError
        It is fp16.
    """
    if precision == "fp16":
        raise DeviceError(
            "Precision fp16 needs a GPU.", hint="Use --precision fp32 or bf16 on the CPU."
        )


@functools.cache
def reuse_freed_memory() -> None:
    """Let the C library keep up to half a GB of what a layer frees for the next one.

    glibc gives blocks of a layer's size back to the system at once, and the system has to clear
    the same pages again for the next layer: 42,000 page faults and a quarter of the time of a
    448 x 448 image. Other C libraries are left as they are.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def choose_device(name: str = "auto") -> torch.device:
    """Give the torch device of a name (``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``).

    Raises
    ------
    DeviceError
        Not available; the message says what is.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    wanted = torch.device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable = {
        "cpu": True,
        "cuda": (wanted.index or 0) < count,
        "mps": _has_mps(),
    }.get(wanted.type, False)
    if not usable:
        there = ["cpu", *(f"cuda:{n}" for n in range(count)), *(["mps"] if _has_mps() else [])]
        raise DeviceError(
            f"The device {name} is not available; this computer has {', '.join(there)}.",
            hint="Use --device auto.",
        )
    return wanted


def describe_device(device: torch.device) -> str:
    """Give a device's name for people."""
    if device.type == "cuda":
        return f"cuda:{device.index or 0} ({torch.cuda.get_device_name(device)})"
    return device.type


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.float().cpu().contiguous().numpy()
    return array
