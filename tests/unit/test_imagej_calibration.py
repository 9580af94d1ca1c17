"""The calibration of ImageJ: which of its numbers are known, and which it assumes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cellseg_imagej.calibration import Calibration, read_calibration


def make_image(depth: float, width: float, *, description: str = "", info: str = "") -> object:
    """Give what is asked of an ImagePlus."""
    java = SimpleNamespace(
        pixelWidth=width,
        pixelHeight=width,
        pixelDepth=depth,
        getXUnit=lambda: "um",
        getYUnit=lambda: "um",
        getZUnit=lambda: "um",
        xOrigin=0.0,
        yOrigin=0.0,
        zOrigin=0.0,
        frameInterval=0.0,
        getTimeUnit=lambda: "sec",
    )
    return SimpleNamespace(
        getCalibration=lambda: java,
        getOriginalFileInfo=lambda: SimpleNamespace(description=description),
        getInfoProperty=lambda: info or None,
    )


@pytest.mark.parametrize(
    ("image", "depth_um"),
    [
        (make_image(2.0, 0.25), 2.0),
        (make_image(1.0, 1.0), 1.0),
        (make_image(1.0, 0.25), None),
        (make_image(1.0, 0.25, info="Pixel Spacing: 0.25\\0.25"), None),
        (make_image(1.0, 0.25, description="ImageJ=1.54p\nunit=um\nspacing=1.0"), 1.0),
        (make_image(1.0, 0.25, info="0018,0088 Spacing Between Slices: 1"), 1.0),
        (make_image(1.0, 0.25, info='<Pixels PhysicalSizeZ="1.0"'), 1.0),
    ],
)
def test_a_depth_that_imagej_assumes_is_left_out(image: object, depth_um: float | None) -> None:
    calibration = read_calibration(image)
    assert calibration.pixel_size_um("ZYX").get("Z") == depth_um
    assert calibration == Calibration(
        calibration.pixel_width,
        calibration.pixel_height,
        calibration.pixel_depth,
        "um",
        "um",
        "um",
    )


def test_a_depth_that_a_program_gives_counts() -> None:
    given = Calibration(0.25, 0.25, 1.0, "um", "um", "um")
    assert given.pixel_size_um("ZYX") == {"Z": 1.0, "Y": 0.25, "X": 0.25}
