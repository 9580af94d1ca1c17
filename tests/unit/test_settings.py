"""Settings: declared once, checked with one clear sentence."""

from __future__ import annotations

import json

import pytest

from cellseg_engine.errors import SettingsError
from cellseg_engine.settings import Settings, make_settings


def test_defaults_are_those_of_the_papers() -> None:
    settings = Settings()
    assert settings.flow_threshold == 0.4
    assert settings.probability_threshold == 0.5
    assert settings.min_area_px == 0
    assert (settings.percentile_low, settings.percentile_high) == (1, 99)
    assert settings.diameter_px == 0
    assert settings.stitch_threshold == 0
    assert settings.fill_holes


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"diameter_px": -5}, "diameter_px = -5 is not allowed: input should be greater than"),
        ({"diameter_px": float("nan")}, "diameter_px = nan is not allowed"),
        ({"diameter_px": float("inf")}, "diameter_px = inf is not allowed"),
        ({"diameter_px": "big"}, "diameter_px = 'big' is not allowed"),
        ({"probability_threshold": 1}, "probability_threshold = 1 is not allowed"),
        ({"invert": "maybe"}, "'auto', 'yes' or 'no'"),
        ({"device": "tpu"}, "must be auto, cpu, cuda, cuda:N or mps"),
        ({"diametre": 3}, "diametre is not a setting; the settings are model, channel"),
        (
            {"percentile_low": 60, "percentile_high": 40},
            "percentile_low 60 must be below percentile_high 40",
        ),
        ({"min_area_px": 50, "max_area_px": 20}, "max_area_px 20 must not be below min_area_px 50"),
        ({"min_area_px": 1.5}, "min_area_px = 1.5 is not allowed"),
        ({"volume_mode": "fusion"}, "'planes', 'fuse' or 'cellpose3'"),
        *(
            ({"anisotropy": wrong}, f"anisotropy = {wrong!r} is not allowed: must be auto, or a")
            for wrong in ("0", 0, 0.0, -2, "-2.5", "deep", "", "nan", "inf", "1e9")
        ),
        (
            {"min_volume_px": 50, "max_volume_px": 20},
            "max_volume_px 20 must not be below min_volume_px 50",
        ),
        (
            {"min_volume_um3": 5.5, "max_volume_um3": 2},
            "max_volume_um3 2 must not be below min_volume_um3 5.5",
        ),
        ({"stitch_threshold": 1.1}, "stitch_threshold = 1.1 is not allowed: input should be less"),
        ({"track_max_gap": 2}, "track_max_gap 2 needs a track_threshold above 0"),
        ({"track_threshold": 0.2, "track_max_gap": -1}, "track_max_gap = -1 is not allowed"),
    ],
)
def test_wrong_values_are_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_settings(values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_has_a_label_a_help_and_a_group() -> None:
    schema = Settings.model_json_schema()
    json.dumps(schema)
    for name, entry in schema["properties"].items():
        assert all(entry[key] for key in ("label", "group", "description")), name
        assert "default" in entry, name
        assert entry["description"].endswith("."), name


@pytest.mark.parametrize("value", ["auto", "1", 3, 2.5, "0.5", ".5", "3."])
def test_a_depth_is_auto_or_a_number_above_0(value: object) -> None:
    assert make_settings(anisotropy=value).anisotropy == str(value)


def test_settings_can_be_changed_by_making_new_ones() -> None:
    first = make_settings({"diameter_px": 20})
    second = make_settings(first, min_area_px=3)
    assert (second.diameter_px, second.min_area_px) == (20, 3)
    assert first.min_area_px == 0
