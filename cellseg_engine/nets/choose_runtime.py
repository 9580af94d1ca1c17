"""Which runtime executes a network: as asked for, or the fastest that there is."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable

import numpy as np

from cellseg_engine.errors import CellSegError, DeviceError, SettingsError
from cellseg_engine.nets.openvino_runtime import OpenVinoRuntime, can_bf16, import_openvino
from cellseg_engine.nets.processor import has_bf16_units
from cellseg_engine.nets.runtimes import Runtime, TorchRuntime, choose_device
from cellseg_engine.nets.shared_runtime import SharedRuntime
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.nets.winograd_runtime import WinogradRuntime

VARIABLE = "CELLSEG_NETWORK_RUNTIME"
NAMES = ("auto", "winograd", "torch", "openvino")
CPU_ONLY = ("winograd", "openvino")


def make_runtime(
    net: ResidualUNet,
    *,
    weights_sha256: str = "",
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "",
    allow_bf16: bool = False,
) -> Runtime:
    """Give a network ready to run, for any number of threads.

    Parameters
    ----------
    net
        In evaluation mode, on the CPU.
    weights_sha256
        Hash of the weights' file; a compiled model is kept on disk under it. Empty keeps none.
    device, precision
        As in the settings.
    runtime
        ``winograd`` (CPUs and fp32 only), ``torch``, ``openvino`` (CPUs only), or ``auto``: on a
        CPU winograd for fp32, and for bf16 OpenVINO if it is installed and the CPU can do it;
        PyTorch for all else. Empty takes the environment variable ``CELLSEG_NETWORK_RUNTIME``, or
        ``auto``.
    allow_bf16
        Whether bf16 was seen to give this network's objects: then precision ``auto`` is bf16 on a
        CPU with units for it, except in winograd. Everywhere else it is fp32.

    Raises
    ------
    SettingsError
        There is no such runtime.
    MissingDependencyError
        It is not installed.
    DeviceError
        The device is not there, or the runtime cannot use it or the precision.
    """
    name = runtime_name(runtime)
    if precision == "auto" and allow_bf16 and name != "winograd" and has_bf16_units():
        precision = "bf16" if choose_device(device).type == "cpu" else precision
    return SharedRuntime(_make(net, weights_sha256, device, precision, name))


def _make(
    net: ResidualUNet, weights_sha256: str, device: str, precision: str, name: str
) -> Runtime:
    if name in CPU_ONLY and device not in ("auto", "cpu"):
        raise DeviceError(
            f"The runtime {name} calculates on the CPU, and the device {device} was asked for.",
            hint="Use --device cpu, or the runtime torch.",
        )

    def pytorch() -> Runtime:
        return TorchRuntime(net, device, precision)

    def openvino() -> Runtime:
        return OpenVinoRuntime(_arrays(net), net.n_channels, weights_sha256, precision)

    if name == "auto":
        if choose_device(device).type != "cpu" or precision == "fp16":
            return pytorch()
        if precision == "bf16":
            return _or_torch(openvino, pytorch) if is_installed() else pytorch()
        name = "winograd"
    if name == "winograd":
        return WinogradRuntime(_arrays(net), precision)
    return openvino() if name == "openvino" else pytorch()


def _arrays(net: ResidualUNet) -> dict[str, np.ndarray]:
    return {key: np.ascontiguousarray(value) for key, value in net.state_dict().items()}


def runtime_name(given: str = "") -> str:
    """Give the name of the runtime asked for: as given, of the environment, or ``auto``.

    Raises
    ------
    SettingsError
        There is no such runtime.
    """
    name = given or os.environ.get(VARIABLE, "") or "auto"
    if name not in NAMES:
        source = "runtime" if given else VARIABLE
        raise SettingsError(
            f"{source} = {name!r} is not allowed: the runtimes are {', '.join(NAMES)}."
        )
    return name


def is_installed() -> bool:
    """Say whether OpenVINO is installed; it is not loaded."""
    return importlib.util.find_spec("openvino") is not None


def _or_torch(make_fast: Callable[[], Runtime], make_torch: Callable[[], Runtime]) -> Runtime:
    """Give the OpenVINO runtime in bf16; PyTorch's where the CPU has none.

    It is PyTorch's, with a warning, also if OpenVINO does not work here.
    """
    try:
        if not can_bf16(import_openvino().Core()):
            return make_torch()
        return make_fast()
    except (CellSegError, RuntimeError) as error:
        reason = error.message if isinstance(error, CellSegError) else str(error).splitlines()[0]
        reason = reason.rstrip(". ")
        slow = make_torch()
        warning = (
            f"OpenVINO could not be used, so PyTorch ran the network, which is slower: {reason}. "
            f"Install it again, or set {VARIABLE} to torch."
        )
        slow.warnings = (warning,)
        return slow
