"""Weights files to networks and back: our safetensors, and the official Cellpose .pth layout."""

from __future__ import annotations

import itertools
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cellseg_engine.errors import ModelNotFoundError, SettingsError, WeightsError
from cellseg_engine.nets.card import (
    MAX_CHANNELS,
    MAX_DIAMETER_PX,
    ModelCard,
    WeightsFile,
    file_sha256,
    is_file,
    read_weights,
)
from cellseg_engine.nets.size_model import read_official_size_model
from cellseg_engine.nets.unet import N_OUTPUTS, ResidualUNet

FIRST_LAYER = "downsample.down.res_down_0.conv.conv_0.0.weight"
LAST_LAYER = "output.2.weight"
DIAMETERS = ("diam_mean", "diam_labels")
NUCLEI_DIAM_MEAN_PX = 17.0
CELLS_DIAM_MEAN_PX = 30.0
_BATCH_NORM_EPSILON = 1e-5
"""PyTorch's default, with which the official networks were trained."""


def load_weights(
    path: Path, *, size_file: Path | None = None, diam_mean_px: float = 0.0
) -> WeightsFile:
    """Read a weights file of either kind.

    Parameters
    ----------
    path
        A ``.safetensors`` file of ours, or an official file (any other suffix, often ``.pth`` or
        none), which may have its size model beside it (``size_NAME.npy`` or ``NAME_size.npy``).
    size_file
        An official size model to take instead of the one that comes with it.
    diam_mean_px
        Diameter at which the network sees objects, for a file that does not say it; 0 if unknown.

    Raises
    ------
    ModelNotFoundError
        No such file.
    WeightsError
        Damaged, of another architecture (a Cellpose 4 file among them), with missing or
        unexpected parameters, which are named, or with diameters that contradict each other.
    SettingsError
        diam_mean_px is no diameter.
    """
    if not is_file(path):
        raise ModelNotFoundError(
            f"There is no weights file {path}.", hint="`cellseg models list` shows the models."
        )
    weights = read_weights(path) if path.suffix == ".safetensors" else _read_official(path)
    _check_parameters(path, weights.arrays, weights.card.n_channels)
    size_file = size_file or (find_size_file(path) if path.suffix != ".safetensors" else None)
    if size_file:
        weights = replace(weights, size_model=read_official_size_model(size_file))
    return _with_one_diameter(path, weights, diam_mean_px)


def build_network(weights: WeightsFile) -> ResidualUNet:
    """Build the network of a checked weights file, in evaluation mode, on the CPU."""
    net = ResidualUNet(weights.card.n_channels)
    state = {
        name: torch.from_numpy(np.array(array, dtype=_native(array)))
        for name, array in weights.arrays.items()
    }
    net.load_state_dict(state, strict=False)
    return net.eval().requires_grad_(False)


def fold_normalization(
    weights: Mapping[str, np.ndarray], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Give a batch normalisation with fixed statistics as one factor and one summand a channel.

    Parameters
    ----------
    weights
        Parameters and running statistics under the names of `ResidualUNet.state_dict`, float.
    name
        The prefix of those of the normalisation.

    Returns
    -------
    factor, summand
        float64 of shape (C,).
    """
    weight, bias, mean, variance = (
        weights[f"{name}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = weight / np.sqrt(variance + _BATCH_NORM_EPSILON)
    return factor, bias - mean * factor


def export_official(path: Path, weights: WeightsFile) -> None:
    """Write the weights as an official ``.pth`` file, which cellpose 2 and 3 load."""
    net = build_network(weights)
    with torch.no_grad():
        net.diam_mean.fill_(weights.card.diam_mean_px)
        net.diam_labels.fill_(weights.card.diam_labels_px)
    with path.open("wb") as file:  # torch refuses some names that it does not open itself
        torch.save(net.state_dict(), file)


def find_size_file(path: Path) -> Path | None:
    """Give the official size model that lies beside an official weights file, if any."""
    stem = path.name.removesuffix(".pth")
    for name in (f"size_{stem}.npy", f"{path.name}_size.npy", f"{stem}_size.npy"):
        candidate = path.with_name(name)
        if candidate.is_file():
            return candidate
    return None


def _native(array: np.ndarray) -> type:
    return np.int64 if array.dtype.kind in "iu" else np.float32


def _read_official(path: Path) -> WeightsFile:
    arrays = _load_state_dict(path)
    if FIRST_LAYER not in arrays:
        missing, unexpected = _compare(arrays, 2)
        raise WeightsError(
            f"{path} is not a network of the Cellpose 1-3 layout: "
            + _name_keys(missing, unexpected),
            hint="Use a weights file of cellpose 1, 2 or 3, or a CellSeg .safetensors file.",
        )
    is_older_than_v2 = "diam_mean" not in arrays
    diam_mean, diam_labels = (_pop_diameter(path, arrays, name) for name in DIAMETERS)
    first = arrays[FIRST_LAYER]
    if first.ndim != 1 or not 0 < len(first) <= MAX_CHANNELS:
        raise WeightsError(
            f"{path} has a first layer of shape {first.shape}; networks with 1 to {MAX_CHANNELS} "
            "channels can be used."
        )
    card = ModelCard(
        name=path.name.removesuffix(".pth"),
        n_channels=len(first),
        diam_mean_px=diam_mean,
        diam_labels_px=diam_labels,
        flow_variant="v2" if is_older_than_v2 else "v3",
        description="Weights file in the official Cellpose layout.",
        origin=str(path),
    )
    return WeightsFile(card, arrays, None, file_sha256(path))


def _pop_diameter(path: Path, arrays: dict[str, np.ndarray], name: str) -> float:
    """Take a diameter out of the parameters; 0 if it is not among them."""
    values = arrays.pop(name, None)
    if values is None:
        return 0.0
    is_one = values.size == 1 and values.dtype.kind in "fiu"
    if not is_one or not 0 < values.item() < MAX_DIAMETER_PX:
        shown = ", ".join(f"{value:g}" for value in values.ravel()[:4]) or "empty"
        raise WeightsError(f"{path}: {name} must be one positive number of pixels; it is {shown}.")
    return float(values.item())


def _with_one_diameter(path: Path, weights: WeightsFile, given: float) -> WeightsFile:
    """Give a file with the diameter that all agree on who know it, or else a guess by its name."""
    if given and not 0 < given < MAX_DIAMETER_PX:
        raise SettingsError(
            f"diam_mean_px = {given:g} is not allowed: it must be a positive number of pixels."
        )
    card = weights.card
    size = weights.size_model.diam_mean_px if weights.size_model else 0.0
    own = 0.0 if card.diam_mean_is_guessed else card.diam_mean_px
    stated = {"the network": own, "its size model": size, "diam_mean_px": given}
    known = {who: value for who, value in stated.items() if value}
    for (who, value), (other, differs) in itertools.pairwise(known.items()):
        if not math.isclose(value, differs, rel_tol=1e-3):
            raise WeightsError(
                f"{path}: {who} says that objects are seen at {value:g} px, and {other} says "
                f"{differs:g} px; they must be equal.",
                hint="Import or use it with the size model that was made for it.",
            )
    guess = NUCLEI_DIAM_MEAN_PX if path.name.startswith("nuclei") else CELLS_DIAM_MEAN_PX
    diam_mean = next(iter(known.values()), card.diam_mean_px or guess)
    card = card.with_changes(
        diam_mean_px=diam_mean,
        diam_labels_px=card.diam_labels_px or diam_mean,
        diam_mean_is_guessed=not known,
    )
    return replace(weights, card=card)


def _load_state_dict(path: Path) -> dict[str, np.ndarray]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can raise nearly anything
        unsafe = isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path)
        reason = "holds more than plain weights" if unsafe else "is damaged or not a weights file"
        raise WeightsError(f"{path} {reason}.", hint="Copy or download it again.") from error
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds no named weights.")
    if "W2" in content or any(str(name).startswith("encoder.") for name in content):
        raise WeightsError(
            f"{path} is a Cellpose 4 (Cellpose-SAM) file: a transformer, another network than the "
            "residual U-Net of Cellpose 1-3 that this engine runs.",
            hint="Use a model of cellpose 1, 2 or 3.",
        )
    if not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(f"{path} holds something else than named weights.")
    try:
        return {
            str(name): (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
            for name, tensor in content.items()
        }
    except (
        NotImplementedError,
        RuntimeError,
        TypeError,
    ) as error:  # sparse ones, those without data
        raise WeightsError(f"{path} holds something else than numbers.") from error


def _compare(arrays: dict[str, np.ndarray], n_channels: int) -> tuple[list[str], list[str]]:
    expected = ResidualUNet(n_channels).state_dict()
    optional = {*DIAMETERS, *(name for name in expected if name.endswith("num_batches_tracked"))}
    missing = [name for name in expected if name not in arrays and name not in optional]
    return missing, [name for name in arrays if name not in expected]


def _name_keys(missing: list[str], unexpected: list[str]) -> str:
    parts = []
    for what, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            parts.append(f"{what} {', '.join(names[:4])}{more}")
    return "; ".join(parts) + "."


def _check_parameters(path: Path, arrays: dict[str, np.ndarray], n_channels: int) -> None:
    missing, unexpected = _compare(arrays, n_channels)
    if missing or unexpected:
        raise WeightsError(
            f"{path} does not fit the residual U-Net: " + _name_keys(missing, unexpected)
        )
    if arrays[LAST_LAYER].shape[:1] not in ((), (N_OUTPUTS,)):
        raise WeightsError(
            f"{path} has {arrays[LAST_LAYER].shape[0]} outputs; models with {N_OUTPUTS} "
            "(flow y, flow x, probability) can be used."
        )
    expected = ResidualUNet(n_channels).state_dict()
    for name, array in arrays.items():
        if tuple(array.shape) != tuple(expected[name].shape):
            raise WeightsError(
                f"{path}: {name} has shape {tuple(array.shape)}, expected "
                f"{tuple(expected[name].shape)}."
            )
        if array.dtype.kind not in "fiu":
            raise WeightsError(f"{path}: {name} holds {array.dtype} and not numbers.")
        if not np.isfinite(array).all():
            raise WeightsError(f"{path}: {name} holds NaN or infinite values.")
        if name.endswith("running_var") and (array < 0).any():
            raise WeightsError(f"{path}: {name} holds negative variances.")
