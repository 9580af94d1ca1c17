"""How a setting is declared, and what is said where a value is not allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, ValidationError


def setting(
    default: Any,
    *,
    label: str,
    help: str,
    group: str,
    unit: str = "",
    step: float | None = None,
    **limits: Any,
) -> Any:
    """Declare a field of `cellseg_engine.settings.Settings`.

    Parameters
    ----------
    default
        Never None: ``0`` or a word stands for "decide for me".
    label, help, group
        What hosts and the reference page show.
    unit
        Of a number.
    step
        By which a dialog changes a number.
    **limits
        What pydantic checks, for example ``ge=0``.
    """
    extra: dict[str, Any] = {"label": label, "group": group}
    if unit:
        extra["unit"] = unit
    if step is not None:
        extra["step"] = step
    return Field(default, description=help, json_schema_extra=extra, **limits)


def explain(error: ValidationError, names: Iterable[str]) -> str:
    """Turn pydantic's first complaint into one sentence; ``names`` are those of all settings."""
    first = error.errors()[0]
    if not first["loc"]:
        return str(first["ctx"]["error"] if "error" in first.get("ctx", {}) else first["msg"]) + "."
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"{name} is not a setting; the settings are {', '.join(names)}."
    message = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] == "string_pattern_mismatch" and name == "device":
        message = "must be auto, cpu, cuda, cuda:N or mps"
    if first["type"] == "string_pattern_mismatch" and name == "anisotropy":
        message = "must be auto, or a number above 0: the distance of the planes in pixels"
    return f"{name} = {first['input']!r} is not allowed: {message}."
