"""OpenVINO on the CPU: about three times as fast as PyTorch there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cellseg_engine.errors import DeviceError, MissingDependencyError
from cellseg_engine.nets import compiled_cache
from cellseg_engine.nets.openvino_graph import build_graph
from cellseg_engine.nets.runtimes import check_cpu_precision

INSTALL = "pip install 'cellseg-engine[openvino]'"
GRAPH_REVISION = 1
"""To be raised when `openvino_graph` changes, so that compiled models are made anew."""
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


class OpenVinoRuntime:
    """OpenVINO on the CPU.

    Parameters
    ----------
    weights
        Parameters and statistics of the network, float, under their official names.
    n_channels
        Channels of the input.
    weights_sha256
        Hash of the weights' file; the compiled model is kept on disk under it. Empty keeps none.
    precision
        ``auto`` is fp32. OpenVINO would choose bf16 by itself where the CPU has it, so it is
        always told.

    Raises
    ------
    MissingDependencyError
        OpenVINO is not installed.
    DeviceError
        The CPU cannot do the precision.

    Notes
    -----
    The model is compiled once for tiles of any size. Tiles are calculated one by one, each on
    all threads that PyTorch is set to: on 2 cores batches of 4, and 2 tiles side by side, took
    the same time within 5 %, and so the result cannot depend on the batch. To be called by one
    thread at a time, see `cellseg_engine.nets.shared_runtime`.
    """

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        n_channels: int,
        weights_sha256: str = "",
        precision: str = "auto",
    ) -> None:
        openvino = import_openvino()
        wanted = "fp32" if precision == "auto" else precision
        check_cpu_precision(wanted)
        core = openvino.Core()
        if wanted == "bf16" and not can_bf16(core):
            raise DeviceError(
                "This CPU has no instructions for bf16, so OpenVINO cannot calculate in it.",
                hint="Use --precision fp32, which is faster here.",
            )
        threads = torch.get_num_threads()
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[wanted],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # Threads bound to cores would wait for one another where several engines run.
            "ENABLE_CPU_PINNING": False,
        }
        compiled, self.from_cache = _compile(core, weights, n_channels, weights_sha256, options)
        self._request = compiled.create_infer_request()
        executed = _executed(compiled)
        self.device = "cpu"
        self.precision = executed["precision"]
        self.best_batch = 1
        self.warnings: tuple[str, ...] = ()
        self.about: dict[str, Any] = {
            "name": "openvino",
            "version": openvino.__version__.split("-")[0],
            "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
            "kernels": executed["kernels"],
        }

    def run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give fields (N, 3, Y, X) and styles (N, 256), float32, for tiles (N, C, Y, X)."""
        tiles = np.ascontiguousarray(tiles, np.float32)
        fields: np.ndarray | None = None
        styles: np.ndarray | None = None
        for index in range(len(tiles)):
            self._request.infer([tiles[index : index + 1]], share_inputs=True)
            field, style = (self._request.get_output_tensor(n).data for n in (0, 1))
            if fields is None or styles is None:
                fields = np.empty((len(tiles), *field.shape[1:]), np.float32)
                styles = np.empty((len(tiles), *style.shape[1:]), np.float32)
            fields[index], styles[index] = field[0], style[0]
        if fields is None or styles is None:
            raise ValueError("run() was given no tiles.")
        return fields, styles


def import_openvino() -> Any:
    """Give the module ``openvino``.

    Raises
    ------
    MissingDependencyError
        It is not installed, or cannot be loaded; the hint is the install line.
    """
    try:
        import openvino
    except (ImportError, OSError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "openvino"
        reason = "is not installed" if missing else f"cannot be loaded ({error})"
        raise MissingDependencyError(f"OpenVINO {reason}.", hint=f"{INSTALL}") from error
    return openvino


def can_bf16(core: Any) -> bool:
    """Say whether the CPU has instructions for bf16."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _compile(
    core: Any,
    weights: Mapping[str, np.ndarray],
    n_channels: int,
    weights_sha256: str,
    options: dict[str, Any],
) -> tuple[Any, bool]:
    """Give the compiled model, and whether it was found on disk."""
    key = _key(core, weights_sha256, n_channels, options) if weights_sha256 else ""
    stored = compiled_cache.load(key) if key else None
    if stored is not None:
        try:
            return core.import_model(stored, "CPU", options), True
        except RuntimeError:
            compiled_cache.drop(key)
    compiled = core.compile_model(build_graph(weights, n_channels), "CPU", options)
    if key:
        compiled_cache.store(key, compiled.export_model().getvalue())
    return compiled, False


def _key(core: Any, weights_sha256: str, n_channels: int, options: dict[str, Any]) -> str:
    """Name what a compiled model depends on."""
    facts = {
        "weights": weights_sha256,
        "channels": n_channels,
        "graph": GRAPH_REVISION,
        "openvino": core.get_versions("CPU")["CPU"].build_number,
        "cpu": core.get_property("CPU", "FULL_DEVICE_NAME"),
        "capabilities": list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        "options": options,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _executed(compiled: Any) -> dict[str, Any]:
    """Say in which precision, and by which kernels, the convolutions are really calculated."""
    precisions: set[str] = set()
    kernels: set[str] = set()
    for node in compiled.get_runtime_model().get_ops():
        about = node.get_rt_info()
        if about["layerType"].astype(str) == "Convolution":
            precisions.add(about["runtimePrecision"].astype(str))
            kernels.add(about["primitiveType"].astype(str))
    lowest = next((name for name in ("f16", "bf16", "f32") if name in precisions), "f32")
    return {"precision": _NAMES[lowest], "kernels": sorted(kernels)}
