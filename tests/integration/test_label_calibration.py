"""Label images that ImageJ has saved with a calibration of their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellseg_engine.errors import ReadError
from cellseg_engine.io.images import read_labels
from tests.integration.cli import Cli
from tests.integration.training import disks

LABELS = disks(64)[1].astype(np.int32)


def put(path: Path, labels: np.ndarray, **calibration: Any) -> Path:
    """Write what ImageJ writes."""
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(
        path, labels.astype(np.uint16), imagej=True, metadata={"axes": "YX", **calibration}
    )
    return path


def test_signed_labels_are_read_as_they_were(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[:, :20] = -1
    stored = put(tmp_path / "a.tif", labels + 32_768, cf=0, c0=-32768.0, c1=1.0, vunit="gray value")
    read, axes = read_labels(stored, lowest=-1)
    assert axes == "YX"
    np.testing.assert_array_equal(read, labels)
    with pytest.raises(ReadError, match="negative numbers, down to -1"):
        read_labels(stored)


@pytest.mark.parametrize("facts", [{}, {"cf": 0, "c0": 0.0, "c1": 1.0}, {"cf": 20, "c0": 0.0}])
def test_without_a_calibration_numbers_are_what_they_are(
    tmp_path: Path, facts: dict[str, Any]
) -> None:
    np.testing.assert_array_equal(read_labels(put(tmp_path / "a.tif", LABELS, **facts))[0], LABELS)


@pytest.mark.parametrize(
    "facts",
    [
        {"cf": 0, "c0": 0.0, "c1": 2.0},
        {"cf": 0, "c0": -32768.0, "c1": 0.5},
        {"cf": 3, "c0": -32768.0, "c1": 1.0, "c2": 2.0},
    ],
)
def test_other_calibrations_are_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    with pytest.raises(ReadError, match="ImageJ calibrated it, so that its numbers") as caught:
        read_labels(put(tmp_path / "a.tif", LABELS, **facts))
    assert "Analyze > Calibrate" in caught.value.hint


def test_evaluate_reads_them_too(cli: Cli, tmp_path: Path) -> None:
    put(tmp_path / "pred" / "a_labels.tif", LABELS)
    put(tmp_path / "truth" / "a_masks.tif", LABELS + 32_768, cf=0, c0=-32768.0, c1=1.0)
    outcome = cli("evaluate", "--pred", tmp_path / "pred", "--truth", tmp_path / "truth", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["pooled"]["average_precision_0.95"] == 1
