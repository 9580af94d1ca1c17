"""The table of linked planes says what the voxels say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from cellseg_engine.backends.flow_unet import Fields
from cellseg_engine.core.labels import mean_inside
from cellseg_engine.core.outlines import outline_mask
from cellseg_engine.pipeline.linking import link_planes
from cellseg_engine.pipeline.masks import PlaneObjects, describe_objects
from tests.unit import plain

COLUMNS = [
    "label", "t", "centroid_z_px", "centroid_y_px", "centroid_x_px", "volume_px", "z_first",
    "z_last", "mean_probability", "flow_error", "touches_edge", "intensity_mean_DNA",
]  # fmt: skip


class Stack:
    """Two time points of three planes, each plane described as the pipeline does."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.logits = rng.normal(0, 3, (2, 3, 96, 96)).astype(np.float32)
        self.pixels = rng.random(self.logits.shape)
        self.labels = np.zeros(self.logits.shape, np.int32)
        tables = []
        count = 0
        for t, z in np.ndindex(2, 3):
            plane = plain.blobs(seed=5 + t)
            if z == 1:  # an object is smaller here, and touches no edge
                plane = np.where(outline_mask(plane), 0, plane)
                plane[[0, -1]] = plane[:, [0, -1]] = 0
            if z == 2:  # most objects end before the last plane
                plane = np.where(plane % 3 == 1, (plane + 2) // 3, 0).astype(np.int32)
            n_objects = int(plane.max())
            fields = Fields(np.zeros((2, 96, 96), np.float32), self.logits[t, z], np.zeros(0))
            table = describe_objects(PlaneObjects(plane, rng.random(n_objects)), fields)
            table |= {"t": np.full(n_objects, t), "z": np.full(n_objects, z)}
            table["intensity_mean_DNA"] = mean_inside(plane, self.pixels[t, z])[1:]
            table["label"] += count
            self.labels[t, z] = np.where(plane > 0, plane + count, 0)
            count += n_objects
            tables.append(table)
        self.objects = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}


def test_each_row_is_an_object_of_one_time_point() -> None:
    stack = Stack()
    before = stack.labels.copy()
    objects = link_planes(stack.labels, stack.objects, 0.5)
    assert list(objects) == COLUMNS
    assert objects["label"].tolist() == list(range(1, stack.labels.max() + 1))
    assert len({len(column) for column in objects.values()}) == 1
    assert set(objects["z_last"]) == {1, 2}
    for row, label in enumerate(objects["label"]):
        t, z, y, x = np.nonzero(stack.labels == label)
        inside = (t, z, y, x)
        assert set(t) == {objects["t"][row]}
        assert (z.min(), z.max()) == (objects["z_first"][row], objects["z_last"][row])
        assert objects["volume_px"][row] == len(z)
        for name, axis in (("z", z), ("y", y), ("x", x)):
            assert objects[f"centroid_{name}_px"][row] == pytest.approx(axis.mean())
        assert objects["mean_probability"][row] == pytest.approx(
            expit(stack.logits[inside]).mean(dtype=np.float64)
        )
        assert objects["intensity_mean_DNA"][row] == pytest.approx(stack.pixels[inside].mean())
        errors = stack.objects["flow_error"][before[inside] - 1]
        assert objects["flow_error"][row] == pytest.approx(errors.mean())
        is_at_edge = bool(np.isin(y, (0, 95)).any() or np.isin(x, (0, 95)).any())
        assert objects["touches_edge"][row] == is_at_edge
    assert objects["volume_px"].dtype.kind == objects["z_first"].dtype.kind == "i"
    assert objects["touches_edge"].dtype == bool
    assert set(objects["touches_edge"]) == {True, False}


def test_a_stack_without_time_has_no_column_of_it() -> None:
    stack = Stack()
    del stack.objects["t"]
    assert list(link_planes(stack.labels, stack.objects, 0.5)) == [
        name for name in COLUMNS if name != "t"
    ]


def test_no_objects_give_an_empty_table() -> None:
    stack = Stack()
    none = {name: column[:0] for name, column in stack.objects.items()}
    labels = np.zeros_like(stack.labels)
    objects = link_planes(labels, none, 0.5)
    assert list(objects) == COLUMNS
    assert {len(column) for column in objects.values()} == {0}
    assert not labels.any()
