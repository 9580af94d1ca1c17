"""One setting as the renderings see it: read from the JSON Schema, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

KINDS = {"string": "text", "number": "number", "integer": "integer", "boolean": "boolean"}
KNOWN = {
    *("type", "title", "description", "default", "enum", "pattern", "minLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("label", "group", "unit", "step"),
}
Value = str | int | float | bool


@dataclass(frozen=True)
class Setting:
    """A setting; ``kind`` is text, number, integer, boolean or choice."""

    name: str
    kind: str
    label: str
    help: str
    group: str
    unit: str
    default: Value
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    step: float | None = None
    pattern: str = ""


def read_settings(schema: dict[str, Any]) -> dict[str, Setting]:
    """Give the settings of a JSON Schema by name, in its order.

    Raises
    ------
    ValueError
        The schema uses a keyword that no rendering would show.
    """
    return {name: _read(name, entry) for name, entry in schema["properties"].items()}


def pick(settings: dict[str, Setting], names: Iterable[str]) -> list[Setting]:
    """Give the settings of a host in its order."""
    return [settings[name] for name in names]


def _read(name: str, entry: dict[str, Any]) -> Setting:
    unknown = sorted(entry.keys() - KNOWN)
    if unknown:
        raise ValueError(f"{name}: the renderings do not know {', '.join(unknown)}")
    return Setting(
        name=name,
        kind="choice" if "enum" in entry else KINDS[entry["type"]],
        label=entry["label"],
        help=entry["description"],
        group=entry["group"],
        unit=entry.get("unit", ""),
        default=entry["default"],
        choices=tuple(entry.get("enum", ())),
        minimum=entry.get("minimum"),
        maximum=entry.get("maximum"),
        exclusive_minimum=entry.get("exclusiveMinimum"),
        exclusive_maximum=entry.get("exclusiveMaximum"),
        step=entry.get("step"),
        pattern=entry.get("pattern", ""),
    )
