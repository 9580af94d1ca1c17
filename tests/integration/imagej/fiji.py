"""Datasets and a gateway of pyimagej, in the Fiji that FIJI_HOME names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cellseg_imagej import Calibration, segment_imageplus, to_array, to_dataset, to_imageplus
from tests.integration.fiji_host import real_fiji
from tests.integration.fiji_runs import DIAMETER_PX, crop

MICRON = Calibration(0.5, 0.25, 2.0, "\u00b5m", "\u00b5m", "\u00b5m", frame_interval=30.0)


@pytest.fixture(scope="session", autouse=True)
def java() -> None:
    """Not the plain ImageJ of the other files: the gateway starts Java."""


@pytest.fixture(scope="session")
def gateway() -> Any:
    import scyjava

    imagej = pytest.importorskip("imagej")
    scyjava.config.endpoints.clear()  # what pyimagej adds lies in the folder
    return imagej.init(str(real_fiji()), mode="headless")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("axes", ["YX", "CYX", "ZCYX", "TZCYX", "XYTC"])
def test_a_dataset_goes_there_and_back(gateway: Any, dtype: str, axes: str) -> None:
    shape = tuple({"T": 2, "Z": 3, "C": 4, "Y": 5, "X": 6}[letter] for letter in axes)
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    dataset = to_dataset(gateway, array, axes, MICRON, title="a b")
    again = to_array(dataset, axes)
    assert again.array.dtype == dtype
    np.testing.assert_array_equal(again.array, array)
    assert again.calibration.pixel_size_um(axes) == MICRON.pixel_size_um(axes)
    assert again.calibration.frame_interval == ("T" in axes) * 30.0


def test_colours_of_a_dataset(gateway: Any) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (2, 5, 6, 3), np.uint8)
    again = to_array(to_dataset(gateway, colours, "ZYXS"))
    assert again.axes == "ZYXS"
    np.testing.assert_array_equal(again.array, colours)


def test_an_imageplus_beside_a_gateway(gateway: Any) -> None:
    outcome = segment_imageplus(to_imageplus(crop(60, 90, 80, 90)), {"diameter_px": DIAMETER_PX})
    assert outcome.n_objects > 2
