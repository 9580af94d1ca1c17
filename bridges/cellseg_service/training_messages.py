"""What is asked about training: requests, checked, in the engine's own terms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from cellseg_engine.errors import SettingsError
from cellseg_engine.settings import DEFAULT_MODEL, Settings, make_settings
from cellseg_engine.train.finetune import ONLINE_RECIPE, FineTuning
from cellseg_engine.zoo.paths import expand_path
from cellseg_service.errors import RequestError
from cellseg_service.messages import Micron, Text, check_model, parse_body

SHARED_SETTINGS = (
    "channel",
    "nuclear_channel",
    "invert",
    "percentile_low",
    "percentile_high",
    "device",
)
"""Settings of a segmentation that a training has too."""

_CONFIG = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ArrayFile(BaseModel):
    """A file of the exchange folder."""

    model_config = _CONFIG

    array: Annotated[str, Field(max_length=200)]


class FolderRequest(BaseModel):
    """The body of ``POST /v1/training/folder``; the others have its fields too."""

    model_config = _CONFIG

    wire: int
    folder: Annotated[str, Field(min_length=1, max_length=4000)]

    @property
    def path(self) -> Path:
        """The training folder; with a ``~`` that stands for nobody's home it is no whole path."""
        return expand_path(self.folder)


class PartRequest(BaseModel):
    """A rectangle of an image; it may reach over its borders, as selections can."""

    model_config = _CONFIG

    left: int
    top: int
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


class AddRequest(FolderRequest):
    """The body of ``POST /v1/training/images``."""

    image: ArrayFile
    axes: Annotated[str, Field(max_length=20)]
    rois: ArrayFile
    predicted: ArrayFile | None = None
    title: Text = "image"
    source: Annotated[str, Field(max_length=4000)] = ""
    model: Text = ""
    pixel_size_um: dict[Literal["Z", "Y", "X"], Micron] = Field(default_factory=dict)
    part: PartRequest | None = None


ARRAYS = ("image", "rois", "predicted")
"""Fields of an `AddRequest` that are files of the exchange folder."""


class TrainRequest(FolderRequest):
    """The body of ``POST /v1/train``."""

    name: Text = ""
    start_from: Annotated[str, Field(min_length=1, max_length=4000)] = DEFAULT_MODEL
    recipe: Text = ONLINE_RECIPE
    epochs: Annotated[int, Field(ge=0, le=100_000)] = 0
    size_model: bool = True
    settings: dict[str, Any] = Field(default_factory=dict)
    client: Text = ""


FolderKind = TypeVar("FolderKind", bound=FolderRequest)


def parse_training(body: bytes, kind: type[FolderKind], *, is_local: bool) -> FolderKind:
    """Give a request about a training folder.

    Raises
    ------
    RequestError, WireError
        It is not what the wire says, or this engine serves other machines.
    """
    request = parse_body(body, kind)
    if not is_local:
        raise RequestError(
            "This engine serves other machines, so it does not read or write training folders.",
            hint="Train with an engine of your own computer, or `cellseg train` there.",
        )
    if "\0" in request.folder or not request.path.is_absolute():
        raise RequestError(
            f"The training folder {request.folder!r} is no whole path.",
            hint="Give all of its path.",
        )
    return request


def named_arrays(body: bytes) -> list[str]:
    """Give the arrays that an `AddRequest` names, whatever else is wrong with it."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return []
    files = [content.get(field) for field in ARRAYS] if isinstance(content, dict) else []
    names = [file.get("array") for file in files if isinstance(file, dict)]
    return [name for name in names if isinstance(name, str)]


def fine_tuning_of(request: TrainRequest) -> FineTuning:
    """Give what a request asks to train.

    Raises
    ------
    SettingsError
        A setting is wrong, or none of a training; or the model to start from is no whole path.
    """
    check_model(request.start_from, allow_paths=True)
    return FineTuning(
        folder=request.path,
        name=request.name,
        start_from=request.start_from,
        recipe=request.recipe,
        epochs=request.epochs,
        size_model=request.size_model,
        settings=training_settings(request.settings),
    )


def training_settings(values: dict[str, Any]) -> Settings:
    """Give the settings that images are prepared with.

    Raises
    ------
    SettingsError
        A name is none of `SHARED_SETTINGS`, or a value is wrong.
    """
    unknown = sorted(values.keys() - set(SHARED_SETTINGS))
    if unknown:
        raise SettingsError(
            f"{unknown[0]} is no setting of a training; those are {', '.join(SHARED_SETTINGS)}."
        )
    return make_settings(values)
