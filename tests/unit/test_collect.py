"""The table of the planes of an image: a column for each of its channels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.axes import to_planes
from cellseg_engine.pipeline.collect import StackWork
from cellseg_engine.pipeline.masks import PlaneObjects
from cellseg_engine.pipeline.plane_fields import PlaneFields
from cellseg_engine.settings import make_settings


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("DAPI", "Actin"), ("DAPI", "Actin")),
        ((), ("1", "2")),
        (("AF488", "AF488"), ("1", "2")),
    ],
)
def test_each_channel_has_its_own_mean(names: tuple[str, ...], columns: tuple[str, ...]) -> None:
    image = np.stack([np.full((8, 9), 3.0), np.full((8, 9), 7.0)])
    labels = np.zeros((8, 9), np.int32)
    labels[2:5, 2:6] = 1
    fields = Fields(
        np.zeros((2, 8, 9), np.float32), np.zeros((8, 9), np.float32), np.ones(256, np.float32)
    )
    work = StackWork(to_planes(image, "CYX"), False, names, 2)
    shown = cast(Any, SimpleNamespace(has_contrast=True, is_extreme=False))
    objects = PlaneObjects(labels, np.zeros(1))
    work.add_plane(0, image, PlaneFields(fields, (8, 9)), objects, shown)
    work.link(make_settings())
    size = cast(Any, SimpleNamespace(diameter_px=4.0, warnings=()))
    preparation = cast(Any, SimpleNamespace(settings=make_settings(), invert=False))
    table = work.finish(preparation, size, {}, ()).objects
    means = {name: values.tolist() for name, values in table.items() if "intensity" in name}
    assert means == {f"intensity_mean_{columns[0]}": [3], f"intensity_mean_{columns[1]}": [7]}
