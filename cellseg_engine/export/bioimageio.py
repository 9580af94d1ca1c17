"""Models as BioImage.IO packages: a zip file that ilastik, deepImageJ and others take.

Format: model resource description 0.5 of https://bioimage.io.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellseg_engine._version import __version__
from cellseg_engine.errors import WeightsError
from cellseg_engine.export.documentation import describe_model
from cellseg_engine.export.example import (
    EPSILON,
    MIN_SIDE_PX,
    PERCENTILE_HIGH,
    PERCENTILE_LOW,
    STEP_PX,
    Example,
    draw_cover,
    make_example,
)
from cellseg_engine.export.joined import join_networks, run_network
from cellseg_engine.export.onnx_file import FIELDS, INPUT, OPSET, STYLE, check_onnx, write_onnx
from cellseg_engine.export.packages import need
from cellseg_engine.io.staging import staged
from cellseg_engine.nets import unet
from cellseg_engine.nets.card import WeightsFile
from cellseg_engine.zoo.citations import DATA, METHOD, TRAINING, Citation
from cellseg_engine.zoo.store import is_in_catalogue

AUTHORS_OF_SHIPPED = ("CellSeg Bridges developers",)
HALO_PX = 16
"""What programs that cut images into tiles leave off around each."""
STYLE_LENGTH = unet.WIDTHS[-1]

_TAGS = (
    "segmentation",
    "instance-segmentation",
    "cells",
    "cellpose",
    "unet",
    "2d",
    "pytorch",
    "onnx",
)


def export_bioimageio(
    target: Path,
    name: str,
    files: Sequence[WeightsFile],
    authors: Sequence[str] = (),
    example: Example | None = None,
) -> float:
    """Write a model as a BioImage.IO package and check it.

    It holds the weights as ONNX and as PyTorch parameters with the source of the network, a test
    input with its outputs, a cover picture, a description made from the card, and the size model
    as plain arrays, if there is one.

    Parameters
    ----------
    target
        The zip file, replaced if it is there.
    name
        Of the model.
    files
        Its networks; an ensemble is averaged inside.
    authors
        Names of those who trained it.
    example
        Test input and cover; without, a demo image of nuclei.

    Returns
    -------
    Relative root mean square difference between the fields of the ONNX file, run by
    onnxruntime, and those of PyTorch.

    Raises
    ------
    MissingDependencyError
        A package of the extra ``export`` is not installed.
    WeightsError
        The networks cannot be joined, the ONNX file gives other fields, or the package does not
        keep to the specification.
    WriteError
        It cannot be written; nothing is left then.
    """
    spec, *_ = need("bioimageio.spec", "onnx", "onnxscript", "onnxruntime")
    with staged(target.parent) as stage, tempfile.TemporaryDirectory() as folder, _quiet():
        difference = _write_parts(Path(folder), name, files, example or make_example(files[0].card))
        description = _describe(Path(folder), name, files, authors)
        path = stage.path(target.name)
        spec.save_bioimageio_package(description, output_path=path)
        _check(spec, path)
        return difference


def _write_parts(folder: Path, name: str, files: Sequence[WeightsFile], example: Example) -> float:
    """Write the files of a package; give how far ONNX is from PyTorch."""
    card = files[0].card
    write_onnx(folder / "weights.onnx", files)
    net = join_networks(files)
    torch.save(net.state_dict(), folder / "weights.pt")
    (folder / "network.py").write_bytes(Path(unet.__file__).read_bytes())
    fields, styles = run_network(net, example.normalized)
    np.save(folder / "test_input.npy", example.raw)
    np.save(folder / "test_fields.npy", fields)
    np.save(folder / "test_style.npy", styles)
    (folder / "cover.png").write_bytes(draw_cover(example, fields, card.flow_variant))
    (folder / "README.md").write_text(describe_model(name, files), encoding="utf-8")
    if files[0].size_model is not None:
        np.savez(folder / "size_model.npz", allow_pickle=False, **files[0].size_model.to_arrays())
    return check_onnx(folder / "weights.onnx", files)


def choose_citations(name: str, files: Sequence[WeightsFile]) -> tuple[Citation, ...]:
    """Give what to cite: the papers of the images only for weights that come with the program."""
    is_ours = all(is_in_catalogue(file.sha256) for file in files)
    return (METHOD, TRAINING, *(DATA.get(name, ()) if is_ours else ()))


def _describe(folder: Path, name: str, files: Sequence[WeightsFile], authors: Sequence[str]) -> Any:
    """Give the resource description, as the specification's own class."""
    v05, generic = need("bioimageio.spec.model.v0_5", "bioimageio.spec.generic.v0_3")
    card = files[0].card
    inputs = [_describe_input(v05, folder, card.n_channels)]
    outputs = [_describe_fields(v05, folder), _describe_style(v05, folder)]
    size_file = folder / "size_model.npz"
    return v05.ModelDescr(
        name=_title(name),
        description=card.description or f"{name}: objects in microscopy images, as flow fields.",
        authors=[generic.Author(name=author) for author in authors],
        packaged_by=[generic.Author(name=f"cellseg-engine {__version__}")],
        cite=[
            generic.CiteEntry(text=one.text, doi=one.doi) for one in choose_citations(name, files)
        ],
        license=_known_licence(card.licence),
        documentation=_file(v05, folder / "README.md"),
        covers=[_file(v05, folder / "cover.png")],
        attachments=[_file(v05, size_file)] if size_file.is_file() else [],
        tags=list(_TAGS),
        version=card.version if re.fullmatch(r"\d+(\.\d+){0,2}", card.version) else None,
        inputs=inputs,
        outputs=outputs,
        weights=_describe_weights(v05, folder, files),
        config={
            "cellseg": {
                "card": {**asdict(card), "diameter_range_px": list(card.diameter_range_px)},
                "networks": len(files),
                "weights_sha256": [file.sha256 for file in files],
            }
        },
    )


def _describe_weights(v05: Any, folder: Path, files: Sequence[WeightsFile]) -> Any:
    n_channels = files[0].card.n_channels
    single = len(files) == 1
    architecture = v05.ArchitectureFromFileDescr(
        source=folder / "network.py",
        callable=(unet.ResidualUNet if single else unet.NetworkAverage).__name__,
        kwargs={"n_channels": n_channels} | ({} if single else {"n_networks": len(files)}),
    )
    return v05.WeightsDescr(
        pytorch_state_dict=v05.PytorchStateDictWeightsDescr(
            source=folder / "weights.pt",
            architecture=architecture,
            pytorch_version=v05.Version(torch.__version__.split("+")[0]),
        ),
        onnx=v05.OnnxWeightsDescr(
            source=folder / "weights.onnx", opset_version=OPSET, parent="pytorch_state_dict"
        ),
    )


def _describe_input(v05: Any, folder: Path, n_channels: int) -> Any:
    names = ["objects", "nuclei"] if n_channels == 2 else []
    names = names or [f"channel{number}" for number in range(1, n_channels + 1)]
    sides = [
        v05.SpaceInputAxis(
            id=v05.AxisId(letter), size=v05.ParameterizedSize(min=MIN_SIDE_PX, step=STEP_PX)
        )
        for letter in "yx"
    ]
    normalize = v05.ScaleRangeDescr(
        kwargs=v05.ScaleRangeKwargs(
            axes=(v05.AxisId("y"), v05.AxisId("x")),
            min_percentile=PERCENTILE_LOW,
            max_percentile=PERCENTILE_HIGH,
            eps=EPSILON,
        )
    )
    return v05.InputTensorDescr(
        id=v05.TensorId(INPUT),
        description="Intensities, at the scale at which objects have the model's diameter",
        axes=[v05.BatchAxis(), v05.ChannelAxis(channel_names=names), *sides],
        test_tensor=_file(v05, folder / "test_input.npy"),
        preprocessing=[normalize],
        data=v05.IntervalOrRatioDataDescr(type="float32"),
    )


def _describe_fields(v05: Any, folder: Path) -> Any:
    sides = [
        v05.SpaceOutputAxisWithHalo(
            id=v05.AxisId(letter),
            halo=HALO_PX,
            size=v05.SizeReference(tensor_id=v05.TensorId(INPUT), axis_id=v05.AxisId(letter)),
        )
        for letter in "yx"
    ]
    return v05.OutputTensorDescr(
        id=v05.TensorId(FIELDS),
        description="Flow towards the object's centre, times 5, and logit of the probability",
        axes=[
            v05.BatchAxis(),
            v05.ChannelAxis(channel_names=["flow_y", "flow_x", "logit"]),
            *sides,
        ],
        test_tensor=_file(v05, folder / "test_fields.npy"),
        data=v05.IntervalOrRatioDataDescr(type="float32"),
    )


def _describe_style(v05: Any, folder: Path) -> Any:
    names = [f"style{number}" for number in range(STYLE_LENGTH)]
    return v05.OutputTensorDescr(
        id=v05.TensorId(STYLE),
        description="Style of the image, unit length",
        axes=[v05.BatchAxis(), v05.ChannelAxis(channel_names=names)],
        test_tensor=_file(v05, folder / "test_style.npy"),
        data=v05.IntervalOrRatioDataDescr(type="float32"),
    )


def _file(v05: Any, path: Path) -> Any:
    return v05.FileDescr(source=path)


def _title(name: str) -> str:
    """Give a name of the letters that the specification allows, 5 to 64 of them."""
    return f"CellSeg {re.sub(r'[^A-Za-z0-9_+() -]', ' ', name)}"[:64].strip()


def _known_licence(licence: str) -> str | None:
    """Give the licence if it is one of the SPDX list, which the specification asks for."""
    (common,) = need("bioimageio.spec.generic.v0_3")
    try:
        common.LicenseId(licence)
    except ValueError:
        return None
    return licence


def _check(spec: Any, path: Path) -> None:
    """Read a package as its users will, and refuse one that does not keep to the format."""
    with zipfile.ZipFile(path) as archive:  # given a path, it would leave the file open
        found = spec.load_description(archive, perform_io_checks=True)
    if isinstance(found, spec.InvalidDescr):
        problem = found.validation_summary.errors[0]
        where = ".".join(map(str, problem.loc))
        raise WeightsError(
            f"The package does not keep to the BioImage.IO format: {where}: {problem.msg}.",
            hint="Update bioimageio.spec, and please report this.",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings of the specification, which are about wishes, from the user."""
    (loguru,) = need("loguru")
    loguru.logger.disable("bioimageio.spec")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        loguru.logger.enable("bioimageio.spec")
