"""Resizing gives what OpenCV gives, which the networks of the Cellpose family were trained with.

The outputs were written by ``benchmarks/parity.py --write-golden``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cellseg_engine.core.resize import resize_bilinear, resize_nearest

GOLDEN = Path(__file__).with_name("golden") / "resize_cv2.npz"
CASES = range(7)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def test_every_golden_case_is_tested(golden: dict[str, np.ndarray]) -> None:
    assert sum(name.startswith("linear_") for name in golden) == len(CASES)


@pytest.mark.parametrize("case", CASES)
def test_bilinear_equals_opencv(golden: dict[str, np.ndarray], case: int) -> None:
    image, expected = golden[f"image_{case}"], golden[f"linear_{case}"]
    resized = resize_bilinear(image, (expected.shape[0], expected.shape[1]))
    assert resized.dtype == np.float32
    assert np.abs(resized - expected).max() <= 1e-6 * np.ptp(image)


@pytest.mark.parametrize("case", CASES)
def test_bilinear_resizes_every_channel(golden: dict[str, np.ndarray], case: int) -> None:
    image, expected = golden[f"image_{case}"], golden[f"linear_{case}"]
    resized = resize_bilinear(np.stack((image, -image)), (expected.shape[0], expected.shape[1]))
    assert np.abs(resized - np.stack((expected, -expected))).max() <= 1e-6 * np.ptp(image)


@pytest.mark.parametrize("case", CASES)
def test_nearest_equals_opencv(golden: dict[str, np.ndarray], case: int) -> None:
    labels, expected = golden[f"labels_{case}"], golden[f"nearest_{case}"]
    resized = resize_nearest(labels.astype(np.int32), (expected.shape[0], expected.shape[1]))
    np.testing.assert_array_equal(resized, expected)
