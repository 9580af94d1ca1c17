"""Models as ONNX files, each run once by onnxruntime and compared with PyTorch."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellseg_engine.errors import WeightsError
from cellseg_engine.export.joined import join_networks, relative_rms, run_network
from cellseg_engine.export.packages import need
from cellseg_engine.io.staging import staged
from cellseg_engine.nets.card import WeightsFile

OPSET = 18
MAX_RELATIVE_RMS = 1e-4
"""Fields of the file that differ by more from PyTorch's are an error."""
SIDE_STEP = 8
"""Y and X must be multiples of this."""
INPUT, FIELDS, STYLE = "image", "fields", "style"
METADATA_KEY = "cellseg"

_LARGEST_SIDE, _LARGEST_BATCH = 1 << 16, 1 << 16
_TRACED_SHAPE = (2, 64, 72)
_CHECKED_SHAPES = ((1, 256, 224), (3, 40, 64))


def export_onnx(target: Path, files: Sequence[WeightsFile]) -> float:
    """Write a model as an ONNX file and check it.

    The file takes ``image``, float32 (batch, channels, Y, X), normalised and at the model's
    scale, Y and X multiples of 8, any batch; it gives ``fields``, (batch, 3, Y, X): flow y and
    x, both times 5, and the logit of the object probability; and ``style``, (batch, 256). An
    ensemble is averaged inside. The card is in the metadata under ``cellseg``, as JSON.

    Parameters
    ----------
    target
        The file, replaced if it is there.
    files
        The networks of the model.

    Returns
    -------
    Relative root mean square difference between the fields of the file, run by onnxruntime,
    and those of PyTorch.

    Raises
    ------
    MissingDependencyError
        onnx, onnxscript or onnxruntime is not installed.
    WeightsError
        The networks cannot be joined, or the file gives other fields.
    WriteError
        The file cannot be written; nothing is left then.
    """
    with staged(target.parent) as stage:
        path = stage.path(target.name)
        write_onnx(path, files)
        return check_onnx(path, files)


def write_onnx(path: Path, files: Sequence[WeightsFile]) -> None:
    """Write the file of `export_onnx`, without checking it."""
    onnx, _ = need("onnx", "onnxscript")
    net = join_networks(files)
    n_channels = files[0].card.n_channels
    batch, *sides = _TRACED_SHAPE
    dim = torch.export.Dim
    rows, columns = (dim(name, min=1, max=_LARGEST_SIDE) for name in ("rows", "columns"))
    shape = {
        0: dim("batch", min=1, max=_LARGEST_BATCH),
        2: SIDE_STEP * rows,
        3: SIDE_STEP * columns,
    }
    with _quiet():
        program = torch.onnx.export(
            net,
            (torch.zeros(batch, n_channels, *sides),),
            dynamic_shapes=(shape,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[FIELDS, STYLE],
            verbose=False,
        )
    if program is None:
        raise WeightsError("PyTorch gave no ONNX program.", hint="Update torch and onnxscript.")
    model = program.model_proto
    _remove_traces(model)
    facts = {"cards": [asdict(file.card) for file in files], "sha256": [f.sha256 for f in files]}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(facts, sort_keys=True)})
    model.producer_name = "cellseg-engine"
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def check_onnx(path: Path, files: Sequence[WeightsFile]) -> float:
    """Run an ONNX file and give how far its fields are from PyTorch's, as `export_onnx` does."""
    net = join_networks(files)
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch, *sides in _CHECKED_SHAPES:
        image = rng.random((batch, files[0].card.n_channels, *sides), np.float32)
        found = run_onnx(path, image)
        for ours, theirs in zip(run_network(net, image), found, strict=True):
            worst = max(worst, relative_rms(theirs, ours))
    if not worst <= MAX_RELATIVE_RMS:
        raise WeightsError(
            f"The exported file gives other fields than the model: relative rms {worst:.2g}, "
            f"{MAX_RELATIVE_RMS:g} is allowed.",
            hint="Update torch, onnxscript and onnxruntime, and please report this.",
        )
    return worst


def run_onnx(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run an exported file with onnxruntime on the CPU.

    Parameters
    ----------
    image
        float32 of shape (N, C, Y, X).

    Returns
    -------
    fields, styles
        float32 of shapes (N, 3, Y, X) and (N, 256).

    Raises
    ------
    MissingDependencyError
        onnxruntime is not installed.
    """
    (onnxruntime,) = need("onnxruntime")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    fields, styles = session.run([FIELDS, STYLE], {INPUT: image.astype(np.float32, copy=False)})
    return fields, styles


def _remove_traces(model: Any) -> None:
    """Remove what the exporter notes beside every node: code and paths of this computer."""
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.metadata_props[:]
    del model.metadata_props[:]
    graph.doc_string = model.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about itself from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
