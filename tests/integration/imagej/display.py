"""What needs a display: the ROI Manager; run with a DISPLAY by test_imagej_python.py."""

from __future__ import annotations

import numpy as np
import pytest

from cellseg_imagej import (
    add_to_roi_manager,
    labels_to_imageplus,
    labels_to_rois,
    rois_to_labels,
    start_imagej,
    to_imageplus,
)
from cellseg_imagej.java import java_class
from tests.integration.fiji_host import require_host


@pytest.fixture(scope="session", autouse=True)
def java() -> None:
    """Start ImageJ with windows."""
    start_imagej(require_host() / "jars", headless=False, options=["-Xmx1g"])


def test_rois_are_appended_to_the_manager_and_read_from_it() -> None:
    labels = np.zeros((2, 30, 30), np.int32)
    labels[0, 2:9, 3:12] = 1
    labels[1, 12:20, 5:9] = 2
    image = to_imageplus(labels.astype(np.uint8), "ZYX", title="drawn")
    manager_class = java_class("ij.plugin.frame.RoiManager")
    before = java_class("ij.gui.Roi")(1, 1, 4, 4)
    before.setName("0009-1-1")
    before.setPosition(1)
    manager_class().addRoi(before)
    add_to_roi_manager(labels_to_rois(labels, "ZYX", like=image))
    manager = manager_class.getInstance()
    names = [str(roi.getName()) for roi in manager.getRoisAsArray()]
    assert names[1:] == ["0001-1-1", "0002-2-1"] and len(names) == 3
    manager.select(0)
    manager.runCommand("Delete")
    drawn = rois_to_labels(manager, image)
    np.testing.assert_array_equal(drawn.labels, labels)
    assert drawn.remarks == ()


def test_a_closed_window_takes_the_pixels_along() -> None:
    from cellseg_imagej import ClosedImageError, to_array

    image = labels_to_imageplus(np.eye(20, dtype=int), title="seen")
    image.show()
    to_array(image)
    image.changes = False
    image.close()
    with pytest.raises(ClosedImageError, match="The image seen is closed"):
        to_array(image)
