"""Channels: by number, name or colour; never by guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellseg_engine.errors import ChannelError
from cellseg_engine.pipeline.channels import select_channels


def pick(channel: str, n: int = 3, **options: Any) -> np.ndarray:
    planes = np.stack([np.full((4, 5), 10.0 * (k + 1)) for k in range(n)])
    arguments = {"is_rgb": False, "names": (), "nuclear_channel": "none", "n_channels": 2}
    return select_channels(planes, channel=channel, **{**arguments, **options})


def test_numbers_count_from_one() -> None:
    assert pick("1")[0, 0, 0] == 10
    assert pick("3")[0, 0, 0] == 30
    assert not pick("3")[1].any()


def test_names_win_over_colours_and_case_is_forgiven() -> None:
    names = ("DAPI", "green", "red")
    assert pick("red", names=names)[0, 0, 0] == 30
    assert pick("dapi", names=names)[0, 0, 0] == 10


def test_a_name_in_another_case_wins_over_a_colour() -> None:
    assert pick("red", names=("DAPI", "Red", "Green"))[0, 0, 0] == 20
    assert pick("GRAY", names=("GFP", "Gray", "x"))[0, 0, 0] == 20


def test_where_channels_are_called_by_numbers_a_number_is_a_name() -> None:
    assert pick("2", n=2, names=("2", "3"))[0, 0, 0] == 10
    assert pick("3", n=2, names=("2", "3"))[0, 0, 0] == 20


def test_colours_of_rgb_images() -> None:
    assert pick("green", is_rgb=True)[0, 0, 0] == 20
    assert pick("gray", is_rgb=True)[0, 0, 0] == 20
    assert pick("auto", is_rgb=True)[0, 0, 0] == 20


def test_a_single_channel_needs_no_choice() -> None:
    assert pick("auto", n=1)[0, 0, 0] == 10


def test_the_nuclear_channel_is_second() -> None:
    chosen = pick("2", nuclear_channel="1")
    assert chosen[:, 0, 0].tolist() == [20, 10]


def test_models_of_other_channel_counts() -> None:
    assert pick("2", n_channels=1).shape == (1, 4, 5)
    assert pick("3,1,2", n_channels=3)[:, 0, 0].tolist() == [30, 10, 20]


@pytest.mark.parametrize("scale", [100.0, -1.0])
def test_hematoxylin_needs_to_know_what_white_is(scale: float) -> None:
    with pytest.raises(ChannelError, match="unsigned integers or floats from 0 to 1"):
        pick("hematoxylin", is_rgb=True)
    rgb = np.full((3, 4, 4), 0.5, np.float32) * np.float32(scale)
    with pytest.raises(ChannelError, match="floats from 0 to 1"):
        select_channels(
            rgb,
            is_rgb=True,
            names=(),
            channel="hematoxylin",
            nuclear_channel="none",
            n_channels=2,
        )


def test_hematoxylin_shows_stained_nuclei_bright() -> None:
    rgb = np.full((3, 8, 8), 240, np.uint8)
    rgb[:, 2:5, 2:5] = np.array([80, 60, 140])[:, None, None]
    stain = select_channels(
        rgb, is_rgb=True, names=(), channel="hematoxylin", nuclear_channel="none", n_channels=2
    )[0]
    assert stain[3, 3] > stain[0, 0] + 0.05


@pytest.mark.parametrize(
    ("channel", "options", "words"),
    [
        ("auto", {}, "has 3 channels and none is chosen. Set channel to one of 1, 2, 3."),
        ("auto", {"names": ("DAPI", "Actin", "ER")}, "1 (DAPI), 2 (Actin), 3 (ER)"),
        ("4", {}, "no channel '4' in an image with 3 channels"),
        ("0", {}, "no channel '0'"),
        ("1", {"n": 2, "names": ("2", "3")}, "2 channels. Set channel to one of 2, 3."),
        ("1", {"n": 1, "names": ("0001",)}, "1 channel. Set channel to 0001."),
        ("gray", {}, "'gray' needs a red-green-blue image"),
        ("dapi", {"names": ("DAPI", "Dapi", "x")}, "2 channels are called 'dapi'"),
        ("GFP", {}, "no channel 'GFP'"),
        ("green", {"n": 2}, "'green' needs a red-green-blue image; this one has 2 channels"),
        ("hematoxylin", {}, "'hematoxylin' needs a red-green-blue image"),
        ("1", {"nuclear_channel": "2", "n_channels": 1}, "nuclear channel cannot be used"),
        ("1,2", {"n_channels": 3}, "takes 3 channels and channel = '1,2' names 2"),
    ],
)
def test_choices_that_are_not_there(channel: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ChannelError) as caught:
        pick(channel, **options)
    assert words in str(caught.value)
