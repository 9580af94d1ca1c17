"""OME-TIFF files that name each other: positions in files of their own, planes in several files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg_engine.batch.plan import make_plan
from cellseg_engine.errors import ReadError
from cellseg_engine.io.images import read_image
from tests.integration.cli import Cli, disks, listing

OPTIONS = ("--diameter-px", 24, "--device", "cpu", "--outputs", "labels")


def uuid(number: int) -> str:
    return f"urn:uuid:0000000{number}-0000-0000-0000-000000000000"


def tiff_data(name: str, number: int, place: str = "") -> str:
    return (
        f'<TiffData IFD="0" PlaneCount="1" FirstC="0" FirstT="0" FirstZ="0"{place}>'
        f'<UUID FileName="{name}">{uuid(number)}</UUID></TiffData>'
    )


def write_with(path: Path, pixels: np.ndarray, images: str, number: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="{uuid(number)}">{images}</OME>'
    )
    tifffile.imwrite(path, pixels, description=xml, metadata=None, compression="zlib")
    return path


def image(pixels: np.ndarray, planes: str, size_t: int = 1, size_um: float = 0.5) -> str:
    height, width = pixels.shape
    return (
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
        f'SizeX="{width}" SizeY="{height}" SizeC="1" SizeZ="1" SizeT="{size_t}" '
        f'PhysicalSizeX="{size_um}" PhysicalSizeY="{size_um}">{planes}</Pixels></Image>'
    )


def write_positions(folder: Path, pixels: Sequence[np.ndarray]) -> list[Path]:
    """Write an image per file; every file lists all, the second one with other calibration."""
    names = [f"pos{n}.ome.tif" for n in range(len(pixels))]
    images = "".join(
        image(one, tiff_data(name, n), size_um=0.5 + n)
        for n, (name, one) in enumerate(zip(names, pixels, strict=True))
    )
    return [write_with(folder / name, pixels[n], images, n) for n, name in enumerate(names)]


def write_frames(folder: Path, frames: Sequence[np.ndarray]) -> list[Path]:
    """Write one image, a file per time point."""
    names = [f"t{n}.ome.tif" for n in range(len(frames))]
    planes = "".join(
        tiff_data(name, n).replace('FirstT="0"', f'FirstT="{n}"') for n, name in enumerate(names)
    )
    images = image(frames[0], planes, size_t=len(frames))
    return [write_with(folder / name, frames[n], images, n) for n, name in enumerate(names)]


def flat(value: int) -> np.ndarray:
    return np.full((32, 40), value, np.uint8)


def test_each_position_is_read_from_its_own_file(tmp_path: Path) -> None:
    paths = write_positions(tmp_path, [flat(100), flat(200)])
    for path, value, size_um in zip(paths, (100, 200), (0.5, 1.5), strict=True):
        found = read_image(path)
        assert np.unique(found.pixels).tolist() == [value]
        assert found.pixel_size_um == {"Y": size_um, "X": size_um}
        assert (found.warnings, found.files) == ((), (path,))
    paths[0].unlink()
    alone = read_image(paths[1])
    assert np.unique(alone.pixels).tolist() == [200]
    assert alone.pixel_size_um == {"Y": 1.5, "X": 1.5}
    assert len(make_plan([str(tmp_path)]).jobs) == 1


def test_a_file_without_own_planes_is_refused(tmp_path: Path) -> None:
    paths = write_positions(tmp_path, [flat(100), flat(200)])
    xml = image(flat(0), tiff_data("pos0.ome.tif", 0))
    other = write_with(tmp_path / "index.ome.tif", flat(7), xml, 9)
    with pytest.raises(ReadError, match=r"its images lie in other files, for example pos0\.ome"):
        read_image(other)
    assert paths[0].exists()


def test_frames_in_files_of_their_own_are_one_image(tmp_path: Path) -> None:
    paths = write_frames(tmp_path, [flat(1), flat(2), flat(3)])
    found = read_image(paths[1])
    assert (found.axes, found.files) == ("TYX", tuple(paths))
    assert found.pixels[:, 0, 0].tolist() == [1, 2, 3]
    plan = make_plan([str(tmp_path)])
    assert [job.files for job in plan.jobs] == [(paths[0],)]
    assert len(plan.warnings) == 1
    assert "are read with those: 2, for example t1.ome.tif with t0.ome.tif." in plan.warnings[0]


def test_a_set_is_segmented_once_and_followed_in_all_its_files(cli: Cli, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    paths = write_frames(folder, [disks(), disks()])
    first = cli("segment", folder, "--out", out, *OPTIONS)
    assert (first.code, "1 segmented; 8 objects in all" in first.out) == (0, True), first.err
    assert sorted(listing(out)) == ["summary.csv", "t0_labels.tif", "t0_run.json"]
    run = json.loads((out / "t0_run.json").read_text())
    assert [source["path"] for source in run["sources"]] == [str(path) for path in paths]
    assert "1 skipped" in cli("segment", folder, "--out", out, *OPTIONS).out
    before = (out / "t0_labels.tif").read_bytes()
    with tifffile.TiffFile(paths[1]) as tif:
        xml = tif.ome_metadata
    tifffile.imwrite(paths[1], np.zeros_like(disks()), description=xml, metadata=None)
    changed = cli("segment", folder, "--out", out, *OPTIONS)
    assert (changed.code, "made before t1.ome.tif changed" in changed.err) == (1, True)
    paths[1].unlink()
    assert "before t1.ome.tif was removed" in cli("segment", folder, "--out", out, *OPTIONS).err
    assert (out / "t0_labels.tif").read_bytes() == before


def test_a_part_alone_is_refused_with_the_file_to_give(cli: Cli, tmp_path: Path) -> None:
    paths = write_frames(tmp_path / "in", [disks(), disks()])
    outcome = cli("segment", paths[1], "--out", tmp_path / "out", *OPTIONS)
    assert outcome.code == 1
    assert "holds a part of the image that begins in t0.ome.tif. Give that file" in outcome.err
    assert not listing(tmp_path / "out")
