"""The macros of docs/examples/fiji, as a user runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from tests.conftest import ROOT
from tests.integration.fiji_host import ABORTED, ImageJ
from tests.integration.fiji_runs import crop, engine_labels

EXAMPLES = ROOT / "docs/examples/fiji"


def run(fiji: ImageJ, name: str, argument: object) -> str:
    """Run an example and give what it printed."""
    before = len(fiji.printed)
    text = (EXAMPLES / name).read_text(encoding="ascii")
    assert fiji.macro(text, str(argument)) != ABORTED, fiji.printed
    return fiji.printed[before:]


def test_every_example_is_tried_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*")} == {
        "one_image.ijm",
        "folder.ijm",
        "time_series.ijm",
    }


def test_one_image(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "my cells.tif"
    tifffile.imwrite(path, crop(100, 100, 80, 90))
    expected = engine_labels(path)
    said = run(fiji, "one_image.ijm", path)
    assert f"my cells.tif: {expected.max()} objects, diameter 30 px" in said
    saved = sorted(file.name for file in (tmp_path / "cellseg").iterdir())
    assert saved == [
        f"my cells_{end}" for end in ("labels.tif", "objects.csv", "rois.zip", "run.json")
    ]
    labels = tifffile.imread(tmp_path / "cellseg" / "my cells_labels.tif")
    np.testing.assert_array_equal(labels, expected)


def test_a_folder(fiji: ImageJ, tmp_path: Path) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    for number in range(2):
        tifffile.imwrite(images / f"{number}.tif", crop(100 * number, 0, 60, 70))
    assert "2 images are in the summary" in run(fiji, "folder.ijm", f"{images},{out}")
    labels = tifffile.imread(out / "1_labels.tif")
    np.testing.assert_array_equal(labels, engine_labels(images / "1.tif"))


def test_a_time_series(fiji: ImageJ, tmp_path: Path) -> None:
    path = tmp_path / "series.tif"
    frames = [crop(150, 60, 70, 80), np.zeros((70, 80), np.uint8), crop(0, 300, 70, 80)]
    metadata = {"axes": "TYX", "finterval": 20.0}
    tifffile.imwrite(path, np.stack(frames), imagej=True, metadata=metadata)
    said = run(fiji, "time_series.ijm", path)
    labels = engine_labels(path)
    for number, plane in enumerate(labels):
        count = len(np.unique(plane)) - 1
        assert f"frame {number + 1}, {20 * number} s: {count} nuclei" in said
    assert "frame 2, 20 s: 0 nuclei" in said
