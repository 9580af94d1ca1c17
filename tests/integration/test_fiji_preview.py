"""Preview Cells in a real headless ImageJ with the real engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.integration.fiji_host import ABORTED, ImageJ
from tests.integration.fiji_runs import (
    crop,
    engine_labels,
    saved_labels,
)

LOOK = """
from ij import WindowManager
from ij.gui import OvalRoi
image = WindowManager.getImage({title!r})
rois = image.getOverlay().toArray()
disks = [roi for roi in rois if isinstance(roi, OvalRoi)]
box = disks[0].getBounds()
result = [len(rois), len(disks), disks[0].getFloatWidth(), image.getWidth(), image.getHeight(),
          disks[0].getFillColor() is not None, list(image.getDimensions()[2:]),
          image.getProp("cellseg_diameter_px")]
"""


def test_the_selection_is_cut_out_with_outlines_and_the_estimated_diameter_as_a_disk(
    fiji: ImageJ, tmp_path: Path
) -> None:
    path, part = tmp_path / "cells.tif", tmp_path / "part.tif"
    pixels = crop(0, 0, 200, 260)
    tifffile.imwrite(path, pixels)
    tifffile.imwrite(part, pixels[40:130, 60:170])
    fiji.macro(
        f'open("{path}"); makeRectangle(60, 40, 110, 90); run("Preview Cells", "diameter_px=0");'
    )
    title = "cells.tif-preview"
    n_rois, n_disks, width_px, width, height, is_filled, _, given = fiji.python(
        LOOK.format(title=title)
    )
    assert (width, height, n_disks, is_filled) == (110, 90, 1, True)
    expected = engine_labels(part, diameter_px=0)
    assert n_rois - 1 == expected.max() > 0
    assert width_px == pytest.approx(float(given), abs=0.01)
    assert 10 < width_px < 80
    words = f"{title}: {expected.max()} objects, estimated diameter {width_px:.1f} px"
    assert words in fiji.printed
    np.testing.assert_array_equal(saved_labels(fiji, title, tmp_path), pixels[40:130, 60:170])
    assert "cells.tif-labels" not in fiji.printed  # a preview makes no results


def test_without_a_selection_it_is_at_most_512_px_of_the_middle_plane_shown(
    fiji: ImageJ, tmp_path: Path
) -> None:
    path = tmp_path / "stack.tif"
    plane = np.zeros((540, 600), np.uint8)
    plane[200:330, 230:390] = crop(0, 0, 130, 160)
    stack = np.stack([plane * 0, plane, plane // 2, plane * 0]).reshape(2, 2, *plane.shape)
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZCYX"})
    fiji.macro(
        f'open("{path}"); Stack.setPosition(1, 2, 1);'
        'run("Preview Cells", "diameter_px=60 channel=1");'
    )
    n_rois, _, width_px, width, height, _, dimensions, _ = fiji.python(
        LOOK.format(title="stack.tif-preview")
    )
    assert (width, height, dimensions) == (512, 512, [2, 1, 1])
    assert width_px == 60
    assert n_rois > 1  # slice 2 has objects in channel 1, slice 1 has none


def test_a_point_is_the_middle_of_what_is_cut_out(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    pixels = np.zeros((700, 800), np.uint16)
    pixels[600:690, 700:790] = crop(0, 0, 90, 90)
    tifffile.imwrite(path, pixels)
    fiji.macro(f'open("{path}"); makePoint(780, 690); run("Preview Cells", "diameter_px=60");')
    cut = saved_labels(fiji, "large.tif-preview", tmp_path)
    np.testing.assert_array_equal(cut, pixels[700 - 512 :, 800 - 512 :])


def test_without_an_image_it_says_so(fiji: ImageJ) -> None:
    assert fiji.macro('run("Preview Cells", ""); return "went on";') == ABORTED
    assert "No image is open." in fiji.printed


def test_of_a_volume_the_preview_shows_one_plane(fiji: ImageJ, tmp_path: Path) -> None:
    path, plane = tmp_path / "stack.tif", tmp_path / "plane.tif"
    pixels = np.stack([crop(0, 0, 80, 90), crop(60, 40, 80, 90)])
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(plane, pixels[0])
    options = "diameter_px=20 volume_mode=fuse"
    fiji.macro(f'open("{path}"); run("Preview Cells", "{options}");')
    found = fiji.python(LOOK.format(title="stack.tif-preview"))
    expected = engine_labels(plane, diameter_px=20)
    assert expected.max() > 1
    assert found[0] - found[1] >= expected.max(), "an outline for each object beside the disk"
