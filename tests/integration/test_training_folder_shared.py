"""A training folder that others write to as well: by hand, in other threads and processes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg_engine.errors import WriteError
from cellseg_engine.train import lock
from cellseg_engine.train.folder import (
    CollectedImage,
    TrainedModel,
    add_image,
    note_model,
    now,
    read_folder,
)
from tests.integration.cli import disks
from tests.integration.test_training_folder import SIZE, correction

OTHER = """
import sys
from pathlib import Path
from cellseg_engine.train.lock import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    "name",
    ["Cells_img.tif", "cells_masks.tif", "CELLS_seg.npy", "cells_rois.zip", "cells.png"],
)
def test_files_that_are_not_in_the_record_are_not_written_over(tmp_path: Path, name: str) -> None:
    add_image(tmp_path, correction(title="first.tif"))
    (tmp_path / name).write_bytes(b"mine")
    image, _, _ = add_image(tmp_path, correction(title="cells.tif", pixels=disks(SIZE, seed=9)))
    assert image.name == "cells_2"
    assert (tmp_path / name).read_bytes() == b"mine"


def test_images_that_come_at_once_are_all_in_the_record(tmp_path: Path) -> None:
    def add(n: int) -> CollectedImage:
        return add_image(tmp_path, correction(title="a.tif", pixels=disks(SIZE, seed=n)))[0]

    def note(n: int) -> None:
        note_model(tmp_path, TrainedModel(str(n), "nuclei", 1, 6, 1, now()))

    add(0)
    with ThreadPoolExecutor(6) as pool:
        images, _ = list(pool.map(add, range(1, 7))), list(pool.map(note, range(6)))
    content = read_folder(tmp_path)
    names = {"a", *(f"a_{n}" for n in range(2, 8))}
    assert {image.name for image in content.images} == names
    assert {image.name for image in images} < names
    assert {model.name for model in content.models} == set("012345")
    for image in content.images:
        assert tifffile.imread(tmp_path / f"{image.name}_img.tif").shape == SIZE
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_another_process_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_image(tmp_path, correction(title="a.tif"))
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with other, ThreadPoolExecutor(1) as pool:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "held\n"
        with monkeypatch.context() as patch:
            patch.setattr(lock, "WRITER_TIMEOUT_S", 0)
            with pytest.raises(WriteError, match="Another program was writing to"):
                add_image(tmp_path, correction(pixels=np.zeros(SIZE, np.uint8)))
        coming = pool.submit(add_image, tmp_path, correction(pixels=np.zeros(SIZE, np.uint8)))
        assert len(read_folder(tmp_path).images) == 1
        other.stdin.close()
        coming.result(30)
    assert len(read_folder(tmp_path).images) == 2
