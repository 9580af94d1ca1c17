"""What the schema allows is what the engine accepts; where they differ, it is named here."""

from __future__ import annotations

import math
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg_engine.errors import SettingsError
from cellseg_engine.settings import make_settings
from cellseg_service.wire import contract

SCHEMA = contract()["settings"]
PROPERTIES = SCHEMA["properties"]
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

LIMITS = sorted(
    {
        float(schema[key])
        for schema in PROPERTIES.values()
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        if key in schema
    }
)
NEAR_LIMITS = [
    near for at in LIMITS for near in (at, math.nextafter(at, -1e9), math.nextafter(at, 1e9))
]
WORDS = sorted({word for schema in PROPERTIES.values() for word in schema.get("enum", ())})
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 1100),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([*NEAR_LIMITS, *map(int, LIMITS)]),
    st.sampled_from(
        [
            *WORDS,
            "",
            "AUTO",
            "cpu",
            "cuda",
            "cuda:1",
            "cuda:",
            "cuda:1\n",
            "1",
            "yes",
            "0",
            "0.0",
            ".5",
            "3.",
            "1e3",
        ]
    ),
    st.text(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
ONE_SETTING = st.tuples(st.sampled_from([*PROPERTIES, "diametre"]), VALUES)
REQUESTS = st.dictionaries(st.sampled_from(list(PROPERTIES)), VALUES, max_size=5)


def engine_accepts(values: dict[str, Any]) -> bool:
    """Ask the engine, which must answer with settings or with its own error."""
    try:
        make_settings(values)
    except SettingsError:
        return False
    return True


def schema_accepts(values: dict[str, Any]) -> bool:
    return bool(VALIDATOR.is_valid(values))


def breaks_a_rule_between_settings(values: dict[str, Any]) -> bool:
    """The rules that hold between two settings, which no schema of single settings can tell."""
    full = {name: values.get(name, schema["default"]) for name, schema in PROPERTIES.items()}
    low, high = full["percentile_low"], full["percentile_high"]
    sizes = [
        (full[f"min_{name}"], full[f"max_{name}"])
        for name in ("area_px", "volume_px", "volume_um3")
    ]
    swapped = any(largest and largest < smallest for smallest, largest in sizes)
    gap_alone = full["track_max_gap"] and not full["track_threshold"]
    return bool(low >= high or swapped or gap_alone)


def is_converted(name: str, value: object) -> bool:
    """Values that the engine takes out of kindness, and the schema does not.

    Macros and command lines hand over numbers and truth as text, so "12" is 12 and "yes" is true;
    as in Python itself, true is 1 for a number. Channel 2 is the channel "2".
    """
    kind = PROPERTIES[name]["type"]
    if kind == "string":
        return isinstance(value, (int, float)) and "enum" not in PROPERTIES[name]
    if kind == "boolean":
        return isinstance(value, (int, float, str))
    return kind in ("number", "integer") and isinstance(value, (bool, str))


def has_no_utf8(value: object) -> bool:
    """Half a surrogate pair, which JSON can spell and no text can hold."""
    return isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value)


def is_beyond_int64(value: object) -> bool:
    """A whole number written as a float that no integer of 64 bits can hold."""
    return isinstance(value, float) and abs(value) >= 2**63


def ends_in_a_newline(value: object) -> bool:
    """Python's ``$``, which the validator of these tests uses, allows one; ECMAScript's not."""
    return isinstance(value, str) and value.endswith("\n")


@given(ONE_SETTING)
def test_one_setting_is_judged_alike(setting: tuple[str, Any]) -> None:
    name, value = setting
    by_engine, by_schema = engine_accepts({name: value}), schema_accepts({name: value})
    if by_engine and not by_schema:
        assert is_converted(name, value)
    elif by_schema and not by_engine:
        assert (
            breaks_a_rule_between_settings({name: value})
            or has_no_utf8(value)
            or ends_in_a_newline(value)
            or is_beyond_int64(value)
        )


@given(REQUESTS)
def test_whole_requests_are_judged_alike(values: dict[str, Any]) -> None:
    single = {name: engine_accepts({name: value}) for name, value in values.items()}
    if schema_accepts(values) and not engine_accepts(values):
        assert breaks_a_rule_between_settings(values) or not all(single.values())
    if engine_accepts(values):
        refused = [name for name in values if not schema_accepts({name: values[name]})]
        assert all(is_converted(name, values[name]) for name in refused)


NUMBERS = [name for name, schema in PROPERTIES.items() if schema["type"] in ("number", "integer")]


@pytest.mark.parametrize("name", NUMBERS)
@given(value=st.one_of(st.sampled_from(NEAR_LIMITS), st.integers(-3, 200000), st.floats(-1, 101)))
def test_numbers_are_judged_alike_at_their_limits(name: str, value: float) -> None:
    values = {name: value}
    if schema_accepts(values) and breaks_a_rule_between_settings(values):
        assert not engine_accepts(values)
    else:
        assert engine_accepts(values) == schema_accepts(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"percentile_low": 60, "percentile_high": 40}, "percentile_low 60 must be below"),
        ({"min_area_px": 50, "max_area_px": 20}, "max_area_px 20 must not be below"),
        ({"track_max_gap": 2}, "track_max_gap 2 needs a track_threshold above 0"),
    ],
)
def test_the_rules_between_settings_are_the_engines(values: dict[str, Any], words: str) -> None:
    assert schema_accepts(values)
    with pytest.raises(SettingsError, match=words):
        make_settings(values)


@pytest.mark.parametrize(
    ("name", "value", "becomes"),
    [
        ("diameter_px", "12", 12.0),
        ("min_area_px", "7", 7),
        ("exclude_edge_objects", "yes", True),
        ("exclude_edge_objects", 1, True),
        ("batch_size", True, 1),
    ],
)
def test_what_the_engine_converts(name: str, value: object, becomes: object) -> None:
    assert not schema_accepts({name: value})
    assert getattr(make_settings({name: value}), name) == becomes


def test_numbers_that_json_does_not_have_are_refused() -> None:
    for value in (math.nan, math.inf, -math.inf):
        assert not engine_accepts({"diameter_px": value})
        assert not engine_accepts({"min_area_px": value})
