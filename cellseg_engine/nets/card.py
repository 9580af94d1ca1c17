"""What a weights file says about itself, and the numbers it holds; no torch here.

Own weights are one safetensors file: the network's parameters under their official names,
optionally a size model under ``size_model.*``, and a card as JSON in the metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cellseg_engine.core.flow_variants import VARIANTS
from cellseg_engine.errors import WeightsError
from cellseg_engine.nets.size_model import SizeModel

METADATA_KEY = "cellseg"
FORMAT, FORMAT_WITH_INT8 = 1, 2
"""What a reader has to know; a file without int8 can be read by older readers too."""
SIZE_PREFIX = "size_model."
STEP_SUFFIX = "::step"
"""Of the array of what one unit of an int8 array stands for."""
INT8_LIMIT = 127
MAX_CHANNELS = 64
"""More are no image, and a network for them may not fit into memory."""
MAX_DIAMETER_PX = 1e6

Storage = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class ModelCard:
    """Facts about one trained network.

    Attributes
    ----------
    name, version, description
        For people.
    licence, origin, training_data, training_data_sha256
        Where it comes from; the hash is of the list of training files, empty if unknown.
    n_channels
        Channels of the input.
    diam_mean_px
        Object diameter at which the network sees the image (30; nuclei 17).
    diam_mean_is_guessed
        Whether no file said so and it comes from the name of the weights file.
    diam_labels_px
        Mean object diameter of its training images.
    flow_variant
        ``v3``, ``v2`` or ``paper``: the flow targets it was trained on.
    diameter_range_px
        Smallest and largest image diameter that its size model was trained on; (0, 0) if unknown.
    start_name, start_sha256
        The model whose weights the training went on from; empty if unknown or random.
    """

    name: str
    n_channels: int
    diam_mean_px: float
    diam_labels_px: float
    flow_variant: str = "v3"
    version: str = "1"
    description: str = ""
    licence: str = "unknown"
    origin: str = "unknown"
    training_data: str = "unknown"
    training_data_sha256: str = ""
    diameter_range_px: tuple[float, float] = (0.0, 0.0)
    start_name: str = ""
    start_sha256: str = ""
    diam_mean_is_guessed: bool = False

    def with_changes(self, **changes: Any) -> ModelCard:
        """Give the card with some values replaced."""
        return replace(self, **changes)


@dataclass(frozen=True)
class WeightsFile:
    """The content of one weights file.

    Attributes
    ----------
    card
        What it says about itself.
    arrays
        Parameters by their official names.
    size_model
        Its size model, or None.
    sha256
        Of the file.
    """

    card: ModelCard
    arrays: dict[str, np.ndarray]
    size_model: SizeModel | None
    sha256: str


def read_card(path: Path) -> ModelCard:
    """Read the card of a safetensors file without its weights.

    Raises
    ------
    WeightsError
        Damaged, or not written by CellSeg.
    """
    return _read_file(path, with_arrays=False)[0]


def read_weights(path: Path) -> WeightsFile:
    """Read a safetensors file of ours.

    Raises
    ------
    WeightsError
        Damaged, or not written by CellSeg.
    """
    card, arrays = _read_file(path, with_arrays=True)
    size_arrays = {
        name.removeprefix(SIZE_PREFIX): arrays.pop(name)
        for name in sorted(arrays)
        if name.startswith(SIZE_PREFIX)
    }
    size_model = SizeModel.from_arrays(size_arrays, card.diameter_range_px) if size_arrays else None
    return WeightsFile(card, arrays, size_model, file_sha256(path))


def write_weights(
    path: Path,
    card: ModelCard,
    arrays: dict[str, np.ndarray],
    size_model: SizeModel | None = None,
    *,
    storage: Storage = "float32",
) -> None:
    """Write a safetensors file.

    Parameters
    ----------
    storage
        Of convolution and linear weights: float16 has half the size of float32, int8 a quarter,
        with one step for each output channel. Batch-normalisation values always stay float32
        (their variances can be too small for less).

    Raises
    ------
    OSError
        The file cannot be written; what was there may be gone.
    """
    stored: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if storage == "int8" and array.ndim >= 2:
            stored[name], stored[name + STEP_SUFFIX] = _to_int8(array)
        elif storage == "float16" and array.ndim >= 2:
            stored[name] = _storable(array.astype(np.float16))
        else:
            stored[name] = _storable(array)
    if size_model is not None:
        stored |= {SIZE_PREFIX + name: array for name, array in size_model.to_arrays().items()}
    file_format = FORMAT_WITH_INT8 if storage == "int8" else FORMAT
    metadata = {METADATA_KEY: json.dumps({"format": file_format, **asdict(card)}, sort_keys=True)}
    path.touch()
    mode = path.stat().st_mode  # that of any new file of the user's; safetensors makes it 0600
    try:
        save_file(stored, path, metadata=metadata)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
    path.chmod(mode)


def check_ensemble(name: str, files: Sequence[WeightsFile]) -> None:
    """Make sure that the outputs of the networks of a model can be averaged.

    Raises
    ------
    WeightsError
        They differ in channels, diameter or flow targets, or two of them are the same.
    """
    cards = [file.card for file in files]
    for what, values in (
        ("channels", {card.n_channels for card in cards}),
        ("the diameter at which they see objects", {card.diam_mean_px for card in cards}),
        ("the flow targets that they were trained on", {card.flow_variant for card in cards}),
    ):
        if len(values) > 1:
            listed = " and ".join(str(value) for value in sorted(values, key=str))
            raise WeightsError(
                f"The networks of the ensemble {name} differ in {what}: {listed}.",
                hint="Average only networks that were trained alike.",
            )
    if len({file.sha256 for file in files}) < len(files):
        raise WeightsError(
            f"Two networks of the ensemble {name} are the same file.",
            hint="Name each once; networks of an ensemble are trained with different seeds.",
        )


def file_sha256(path: Path) -> str:
    """Give the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_file(path: Path) -> bool:
    """Say whether there is a file; False also for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _storable(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(array.shape)


def _to_int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give weights as int8, and the float32 step of each output channel (the first dimension)."""
    largest = np.abs(array).reshape(len(array), -1).max(axis=1).astype(np.float32)
    step = np.where(largest > 0, largest / np.float32(INT8_LIMIT), np.float32(1))
    return np.rint(array / _along_first(step, array.ndim)).astype(np.int8), step


def _from_int8(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give arrays with int8 ones multiplied by their steps, and the others as they are."""
    given = {}
    for name, array in arrays.items():
        step = arrays.get(name + STEP_SUFFIX)
        if step is not None or (array.dtype == np.int8 and array.ndim >= 2):
            if step is None or array.ndim < 2 or step.size != len(array):
                raise WeightsError(
                    f"{path}: {name} needs one step for each of its channels, and has "
                    f"{'none' if step is None else step.size}."
                )
            given[name] = array.astype(np.float32) * _along_first(step, array.ndim)
        elif not name.endswith(STEP_SUFFIX):
            given[name] = array
    return given


def _along_first(values: np.ndarray, ndim: int) -> np.ndarray:
    return values.reshape(-1, *[1] * (ndim - 1))


def _read_file(path: Path, *, with_arrays: bool) -> tuple[ModelCard, dict[str, np.ndarray]]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = list(file.keys()) if with_arrays else []
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    return _parse_card(path, metadata), _from_int8(path, arrays)


def _parse_card(path: Path, metadata: dict[str, str]) -> ModelCard:
    try:
        values = json.loads(metadata[METADATA_KEY])
        if values.pop("format") not in (FORMAT, FORMAT_WITH_INT8):
            raise WeightsError(
                f"{path} was written by a newer CellSeg.", hint="Update cellseg-engine."
            )
        known = {field.name for field in fields(ModelCard)}
        card = ModelCard(**{name: value for name, value in values.items() if name in known})
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"{path} is a safetensors file without a CellSeg model card.",
            hint="Use a model made by cellseg, or an official Cellpose .pth file.",
        ) from error
    _check_card(path, card)
    if card.flow_variant not in VARIANTS:
        raise WeightsError(f"{path} names the unknown flow variant {card.flow_variant!r}.")
    low, high = card.diameter_range_px
    return card.with_changes(diameter_range_px=(float(low), float(high)))


def _check_card(path: Path, card: ModelCard) -> None:
    """Refuse a card whose values are not what `ModelCard` says."""
    texts = [field.name for field in fields(card) if field.type == "str"]
    values: dict[str, Any] = vars(card)
    channels, span = values["n_channels"], values["diameter_range_px"]
    for name, is_fine, wanted in (
        *((name, isinstance(values[name], str), "a text") for name in texts),
        (
            "n_channels",
            type(channels) is int and 0 < channels <= MAX_CHANNELS,
            f"a whole number from 1 to {MAX_CHANNELS}",
        ),
        *(
            (name, _is_diameter(values[name]), "a positive number of pixels")
            for name in ("diam_mean_px", "diam_labels_px")
        ),
        (
            "diameter_range_px",
            isinstance(span, list | tuple)
            and len(span) == 2
            and all(value == 0 or _is_diameter(value) for value in span),
            "two numbers of pixels",
        ),
        ("diam_mean_is_guessed", isinstance(values["diam_mean_is_guessed"], bool), "true or false"),
    ):
        if not is_fine:
            raise WeightsError(
                f"{path} has a model card with {name} = {values[name]!r:.60}, which must be "
                f"{wanted}.",
                hint="Make or copy the file again.",
            )


def _is_diameter(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < MAX_DIAMETER_PX


def _damaged(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} is damaged or not a safetensors file.", hint="Copy or download it again."
    )
