"""What the overlay shows of an image."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cellseg_engine.batch.outputs import middle_plane
from cellseg_engine.io.images import ImageData
from cellseg_engine.settings import make_settings


@pytest.mark.parametrize(
    ("channel", "names", "shown"),
    [
        ("2", (), 20),
        ("Actin", ("DAPI", "Actin", "ER"), 20),
        ("actin", ("DAPI", "Actin", "ER"), 20),
        ("2", ("3", "2", "1"), 20),
        ("green", (), 20),
        ("3,1", (), 30),
        ("1", (), 10),
    ],
)
def test_the_overlay_shows_the_channel_that_was_segmented(
    channel: str, names: tuple[str, ...], shown: float
) -> None:
    pixels = np.stack([np.full((5, 6, 7), value) for value in (10, 20, 60)], axis=1)
    image = ImageData(pixels, "ZCYX", names, {}, Path("x.tif"))
    labels = np.zeros((5, 6, 7), np.int32)
    labels[2] = 1
    settings = make_settings(channel=channel)
    result = cast(Any, SimpleNamespace(labels=labels, axes="ZYX", settings=settings))
    plane, ids = middle_plane(image, result)
    assert plane.shape == ids.shape == (6, 7)
    assert (plane == shown).all()
    assert (ids == 1).all()
