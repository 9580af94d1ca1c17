"""The size estimate measures the objects that the peer measures."""

from __future__ import annotations

import numpy as np

from cellseg_engine.core.labels import areas
from cellseg_engine.pipeline.size import solid_objects


def test_small_objects_are_dropped_before_their_holes_are_filled() -> None:
    """A ring of 14 px around a hole of 1 px once counted, and moved the median diameter."""
    labels = np.zeros((12, 20), np.int32)
    labels[1:4, 1:6] = 1
    labels[2, 3] = 0
    labels[5:9, 8:14] = 2
    labels[6, 10] = 0
    assert areas(labels)[1:].tolist() == [14, 23]
    assert areas(solid_objects(labels, 15))[1:].tolist() == [24]
