"""The engine's settings as CellProfiler settings, built from the generated contract."""

from __future__ import annotations

from typing import Any, Dict, List

from cellprofiler_core.setting import Binary, ValidationError
from cellprofiler_core.setting.choice import Choice
from cellprofiler_core.setting.text import Float, Integer, Text

from _cellseg import settings as contract

# Shown always; the others with the advanced settings. Hidden ones are not sent, so that what is
# not seen cannot change a result.
BASIC = ("model", "diameter_px", "probability_threshold", "flow_threshold")
# A pipeline for volumes wants objects that go through the planes.
DEFAULTS = {"stitch_threshold": 0.25}
DIAMETER = "diameter_px"


class EngineSettings:
    """The settings of the contract, in the order in which pipelines keep them."""

    def __init__(self) -> None:
        known = contract.SETTINGS  # type: Any
        self.entries = {entry["name"]: entry for entry in known}  # type: Dict[str, Dict[str, Any]]
        self.settings = {name: _make(entry) for name, entry in self.entries.items()}

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def all(self) -> List[Any]:
        """Give all of them."""
        return list(self.settings.values())

    def names(self, advanced: bool) -> List[str]:
        """Give the names of those to be sent."""
        return [name for name in self.settings if advanced or name in BASIC]

    def advanced_only(self, advanced: bool) -> List[Any]:
        """Give the settings that are shown besides the basic ones."""
        return [
            setting for name, setting in self.settings.items() if advanced and name not in BASIC
        ]

    def stack_defaults(self) -> Dict[str, Any]:
        """Give the values that differ from the engine's defaults where nobody chose one."""
        return {name: value for name, value in DEFAULTS.items() if name in self.settings}

    def values(self, advanced: bool) -> Dict[str, Any]:
        """Give names and values for the engine.

        Raises
        ------
        ValidationError
            A value is not allowed; a saved pipeline may hold anything.
        """
        names = self.names(advanced)
        values = {name: _value(self.entries[name], self.settings[name]) for name in names}
        return dict(self.stack_defaults(), **values)

    def check(self, advanced: bool) -> None:
        """Raise `ValidationError` if a value is not allowed."""
        self.values(advanced)


def _make(entry: Dict[str, Any]) -> Any:
    label = entry["label"] + (" ({})".format(entry["unit"]) if entry["unit"] else "")
    value = DEFAULTS.get(entry["name"], entry["default"])
    doc = _escape(entry["help"])
    kind = entry["kind"]
    if kind == "choice":
        return Choice(label, list(entry["choices"]), value, doc=doc)
    if kind == "boolean":
        return Binary(label, value, doc=doc)
    if kind in ("number", "integer"):
        make = Float if kind == "number" else Integer
        return make(label, value, minval=entry["minimum"], maxval=entry["maximum"], doc=doc)
    return Text(label, value, doc=doc)


def _value(entry: Dict[str, Any], setting: Any) -> Any:
    setting.test_valid(None)
    if entry["kind"] == "boolean" and setting.get_value_text() not in ("Yes", "No"):
        raise ValidationError(
            "{} is {}, but must be Yes or No".format(entry["label"], setting.get_value_text()),
            setting,
        )
    value = setting.value
    low, high = entry["exclusive_minimum"], entry["exclusive_maximum"]
    if (low is not None and value <= low) or (high is not None and value >= high):
        limits = _limits(entry)
        raise ValidationError(
            "{} is {:g}, but must be {}".format(entry["label"], value, limits), setting
        )
    if entry["kind"] == "boolean":
        return bool(value)
    if entry["kind"] in ("text", "choice"):
        return str(value).strip()
    return value


def _limits(entry: Dict[str, Any]) -> str:
    words = (
        ("exclusive_minimum", "above"),
        ("minimum", "at least"),
        ("exclusive_maximum", "below"),
        ("maximum", "at most"),
    )
    return " and ".join(
        "{} {:g}".format(word, entry[name]) for name, word in words if entry[name] is not None
    )


def _escape(text: str) -> str:
    """Keep reStructuredText, which CellProfiler reads help texts as, from seeing marks."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("_", "\\_").replace("`", "``")
