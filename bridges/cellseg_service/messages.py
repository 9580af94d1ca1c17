"""What is asked and what is answered: the request, checked, and the events of its stream."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cellseg_engine.errors import CellSegError, SettingsError
from cellseg_engine.settings import Settings, make_settings
from cellseg_engine.zoo.paths import expand_path
from cellseg_engine.zoo.store import looks_like_path
from cellseg_service.errors import RequestError, WireError
from cellseg_service.wire import WIRE, explain_version_mismatch

Output = Literal["labels", "rois", "table", "probability", "flows"]
MAX_MESSAGE_CHARACTERS = 1000

Request = TypeVar("Request", bound=BaseModel)
Text = Annotated[str, Field(max_length=500)]
Micron = Annotated[float, Field(ge=0, le=1e9)]


class ImageReference(BaseModel):
    """Where the image is: a file of the exchange folder, or an upload."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    array: Annotated[str, Field(max_length=200)] = ""
    upload: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _check_one(self) -> ImageReference:
        if bool(self.array) == bool(self.upload):
            raise ValueError("image has either an array or an upload")
        return self


class SegmentRequest(BaseModel):
    """The body of ``POST /v1/segment``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    wire: int
    settings: dict[str, Any] = Field(default_factory=dict)
    image: ImageReference
    axes: Annotated[str, Field(max_length=20)] | None = None
    channel_names: Annotated[list[Text], Field(max_length=1000)] = Field(default_factory=list)
    pixel_size_um: dict[Literal["Z", "Y", "X"], Micron] = Field(default_factory=dict)
    title: Text = ""
    client: Text = ""
    outputs: Annotated[list[Output], Field(max_length=20)] = Field(
        default_factory=lambda: list[Output](["labels"])
    )


class WeightsRequest(BaseModel):
    """The body of ``POST /v1/weights``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    wire: int
    settings: dict[str, Any] = Field(default_factory=dict)


def parse_body(body: bytes, kind: type[Request]) -> Request:
    """Give a request of JSON.

    Raises
    ------
    RequestError, WireError
        One sentence says what is wrong.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The request is not JSON: {shorten(str(error))}.") from None
    if not isinstance(content, dict):
        raise RequestError("The request is not a JSON object.")
    wire = content.get("wire")
    if isinstance(wire, int) and not isinstance(wire, bool) and wire != WIRE:
        raise WireError(shorten(explain_version_mismatch(wire)))
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise RequestError(_explain(error)) from None


def named_upload(body: bytes) -> str:
    """Give the upload that a `SegmentRequest` names, whatever else is wrong with it; or nothing."""
    try:
        name = json.loads(body)["image"]["upload"]
    except (ValueError, RecursionError, TypeError, LookupError):
        return ""
    return name if isinstance(name, str) else ""


def settings_of(request: SegmentRequest | WeightsRequest, *, allow_paths: bool) -> Settings:
    """Give the settings of a request.

    Parameters
    ----------
    request
        Checked by `parse_body`.
    allow_paths
        A model may be given by the path of its file, which only callers on this machine may do.

    Raises
    ------
    SettingsError
        One sentence says what is wrong.
    """
    settings = make_settings(request.settings)
    for model in (settings.model, settings.model_side_views):
        check_model(model, allow_paths=allow_paths)
    return settings


def check_model(model: str, *, allow_paths: bool) -> None:
    """Refuse a model that is no name, and no path that means the same in every folder.

    Parameters
    ----------
    model
        As asked for.
    allow_paths
        See `settings_of`.

    Raises
    ------
    SettingsError
        One sentence says what is wrong.
    """
    if not model.isprintable():
        raise SettingsError(f"{shorten(repr(model))} is not the name of a model.")
    if not allow_paths and ("/" in model or "\\" in model):
        raise SettingsError(
            "This engine serves other machines, so a model is given by its name, not by a path.",
            hint="Import it there: cellseg models import FILE.",
        )
    if looks_like_path(model) and not expand_path(model).is_absolute():
        raise SettingsError(
            f"The model {shorten(repr(model))} is no whole path.",
            hint="Give all of its path, or the name of a model: `cellseg models list` shows them.",
        )


def describe_error(error: CellSegError) -> dict[str, str]:
    """Give the ``error`` of an answer."""
    return {"code": error.code, "message": shorten(error.message), "hint": shorten(error.hint)}


def encode_event(event: dict[str, Any]) -> bytes:
    """Give a line of the stream; ASCII, so that a lone surrogate in a title does no harm.

    Raises
    ------
    ValueError
        A number is NaN or infinite, which JSON cannot say.
    """
    return json.dumps(event, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def shorten(text: str) -> str:
    """Give a text that is not longer than a message should be."""
    limit = MAX_MESSAGE_CHARACTERS
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return shorten(f"The request is wrong at {place or 'its top'}: {message}.")
