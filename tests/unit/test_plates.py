"""File-name patterns, and files grouped into images by them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellseg_engine.errors import ReadError, SettingsError
from cellseg_engine.io.plates import group_plate, parse_pattern

PATTERN = parse_pattern("{well}_{site}_{channel}")


def paths(*names: str) -> list[Path]:
    return [Path("plate") / name for name in names]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        (
            "{well}_{site}_{channel}",
            "A01_s1_DAPI.tif",
            {"well": "A01", "site": "s1", "channel": "DAPI"},
        ),
        (
            "{well}_{site}_{channel}",
            "A01_s1_DAPI.ome.tif",
            {"well": "A01", "site": "s1", "channel": "DAPI"},
        ),
        (
            "{well}_{site}_{channel}",
            "A01_s1_w1_x.tif",
            {"well": "A01", "site": "s1", "channel": "w1_x"},
        ),
        ("{well}_{site}_{channel}", "A01_s1.tif", None),
        ("{well}_{site}_{channel}", "__.tif", None),
        ("{well}.{channel}.tif", "A01.DAPI.tif", {"well": "A01", "channel": "DAPI"}),
        ("{well}.{channel}.TIF", "A01.DAPI.tif", None),
        ("*_{well}-{channel}", "2024_run_3_B02-GFP.png", {"well": "B02", "channel": "GFP"}),
        ("*-{well}(f{site})", "p-B2(f7).png", {"well": "B2", "site": "7"}),
    ],
)
def test_match(pattern: str, name: str, expected: dict[str, str] | None) -> None:
    assert parse_pattern(pattern).match(name) == expected


def test_fields_are_in_order() -> None:
    assert PATTERN.fields == ("well", "site", "channel")


@pytest.mark.parametrize(
    ("pattern", "fact"),
    [
        ("{well}_{site", "the brace at position 8 has no partner"),
        ("well}_{site}", "the brace at position 5 has no partner"),
        ("{{well}}", "the brace at position 1 has no partner"),
        ("{well}_{well}", "the field {well} occurs twice"),
        ("{}_{well}", "{} is no name of a field"),
        ("{my well}", "{my well} is no name of a field"),
        ("A01_*", "it has no {field}"),
        ("", "it has no {field}"),
    ],
)
def test_bad_pattern_is_explained(pattern: str, fact: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_pattern(pattern)
    assert fact in str(caught.value)
    assert repr(pattern) in str(caught.value)


def test_sites_and_channels_are_in_natural_order() -> None:
    groups, unmatched = group_plate(
        paths("A10_1_w2.tif", "A2_1_w2.tif", "A2_1_w10.tif", "notes_x.tif", "A10_1_w10.tif"),
        PATTERN,
    )
    assert [group.name for group in groups] == ["A2_1", "A10_1"]
    assert groups[0].fields == {"well": "A2", "site": "1"}
    assert groups[0].channel_names == ("w2", "w10")
    assert groups[0].paths == tuple(paths("A2_1_w2.tif", "A2_1_w10.tif"))
    assert unmatched == paths("notes_x.tif")


def test_without_channel_each_file_is_an_image_with_fields() -> None:
    groups, _ = group_plate(paths("A1_2.tif", "A1_1.tif"), parse_pattern("{well}_{site}"))
    assert [(group.name, group.fields["site"]) for group in groups] == [
        ("A1_1", "1"),
        ("A1_2", "2"),
    ]
    assert groups[0].channel_names == ()


def test_missing_channel_is_named() -> None:
    with pytest.raises(ReadError, match="no file for channel GFP of well A2, site 1"):
        group_plate(paths("A1_1_DAPI.tif", "A1_1_GFP.tif", "A2_1_DAPI.tif"), PATTERN)


def test_two_files_for_one_channel_are_named() -> None:
    with pytest.raises(ReadError, match=r"A1_1_DAPI\.tif and plate/A1_1_DAPI\.png"):
        group_plate(paths("A1_1_DAPI.tif", "A1_1_DAPI.png"), PATTERN)


def test_no_match_is_an_error_unless_allowed() -> None:
    with pytest.raises(ReadError, match=r"No file name fits .* the first is x\.tif"):
        group_plate(paths("x.tif"), PATTERN)
    assert group_plate(paths("x.tif"), PATTERN, allow_none=True) == ([], paths("x.tif"))
