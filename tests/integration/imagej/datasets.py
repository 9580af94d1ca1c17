"""Datasets, through the signatures of ImageJ2 (tests/hosts/imagej2); the real one is in fiji.py."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_engine.errors import AxesError, ImageError
from cellseg_imagej import Calibration, start_imagej, to_array, to_dataset
from cellseg_imagej.errors import JavaTypeError
from cellseg_imagej.java import java_class
from tests.conftest import ROOT
from tests.integration.fiji_host import require_host
from tools.fiji_host import find_program

MICRON = Calibration(
    0.5, 0.25, 2.0, "micron", "\u00b5m", "nm", 3.0, -1.0, 0.5, frame_interval=30.0, time_unit="min"
)
KINDS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


@pytest.fixture(scope="session", autouse=True)
def java(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Start ImageJ with the stand-in on its class path."""
    import scyjava

    classes = tmp_path_factory.mktemp("classes")
    files = [str(path) for path in (ROOT / "tests/hosts/imagej2").rglob("*.java")]
    options = ["--release", "8", "-Xlint:-options", "-proc:none", "-d", str(classes)]
    subprocess.run([find_program("javac"), *options, *files], check=True)
    scyjava.config.add_classpath(str(classes))
    start_imagej(require_host() / "jars", options=["-Xmx1g"])


@pytest.fixture(scope="session")
def gateway(java: None) -> Any:
    return java_class("net.imagej.types.Planes")()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_type_and_order_goes_there_and_back(gateway: Any, data: st.DataObject) -> None:
    kind = np.dtype(data.draw(st.sampled_from(KINDS)))
    extra = data.draw(st.lists(st.sampled_from("TZC"), unique=True))
    axes = "".join(data.draw(st.permutations(["Y", "X", *extra])))
    shape = tuple(data.draw(st.integers(1, 4)) for _ in axes)
    array = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 99, shape)
    array = (array - (0 if kind.kind == "u" else 50)).astype(kind)
    dataset = to_dataset(gateway, array, axes, MICRON, title="a b")
    assert str(dataset.getName()) == "a b"
    again = to_array(dataset, axes)
    assert again.array.dtype == kind
    np.testing.assert_array_equal(again.array, array)
    found = again.calibration
    assert (found.pixel_width, found.x_unit, found.x_origin) == (0.5, "micron", 3.0)
    assert (found.pixel_height, found.y_unit, found.y_origin) == (0.25, "\u00b5m", -1.0)
    if "Z" in axes:
        assert (found.pixel_depth, found.z_unit, found.z_origin) == (2.0, "nm", 0.5)
    assert (found.frame_interval, found.time_unit) == ((30.0, "min") if "T" in axes else (0, "sec"))


def test_colours(gateway: Any) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (2, 5, 6, 3), np.uint8)
    dataset = to_dataset(gateway, colours, "ZYXS")
    assert dataset.isRGBMerged() and dataset.numDimensions() == 4
    again = to_array(dataset)
    assert again.axes == "ZYXS"
    np.testing.assert_array_equal(again.array, colours)


def test_what_is_refused(gateway: Any) -> None:
    import jpype

    stack = np.zeros((3, 4, 5), np.uint8)
    with pytest.raises(AxesError, match="has 3 dimensions"):
        to_dataset(gateway, stack)
    with pytest.raises(ImageError, match="these are int64"):
        to_dataset(gateway, stack.astype(np.int64), "ZYX")
    with pytest.raises(JavaTypeError, match=r"what imagej\.init\(\) gives; this is int"):
        to_dataset(1, stack, "ZYX")
    axis = java_class("net.imagej.axis.Axes")
    types = jpype.JArray(java_class("net.imagej.axis.AxisType"))(
        [axis.get("X"), axis.get("Y"), axis.get("Lifetime")]
    )
    sizes = jpype.JArray(jpype.JLong)([4, 5, 6])
    odd = gateway.dataset().create(sizes, "flim", types, 8, False, False)
    with pytest.raises(AxesError, match=r"flim has a dimension Lifetime \(6\)"):
        to_array(odd)
