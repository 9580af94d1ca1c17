"""Annotated images that are searched: what a table, a link or a second mention changes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tifffile

from cellseg_engine.errors import SettingsError
from cellseg_engine.settings import make_settings
from cellseg_engine.train.dataset import DataOptions, count_left_out, load_images
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.flow_cache import FlowCache
from cellseg_engine.train.prepare import find_images
from cellseg_engine.train.record import all_remarks
from cellseg_engine.train.sources import find_sources
from tests.integration.training import disks, draw_pairs, quick_options


def names(*folders: Path, **options: Any) -> list[str]:
    return [source.name for source in find_sources(folders, **options).sources]


def test_roles_are_compared_without_blanks_and_letter_case(tmp_path: Path) -> None:
    draw_pairs(tmp_path, n=3)
    (tmp_path / "manifest.csv").write_text("path,role\n0,train\n1,Train \n2,val\n")
    assert names(tmp_path) == ["0", "1"]
    assert names(tmp_path, role="VAL") == ["2"]


def test_a_manifest_may_be_written_in_capitals(tmp_path: Path) -> None:
    draw_pairs(tmp_path, n=2)
    (tmp_path / "Manifest.CSV").write_text("path\n1\n")
    assert names(tmp_path) == ["1"]


def test_a_kind_that_is_not_there_is_refused_beside_one_that_is(tmp_path: Path) -> None:
    draw_pairs(tmp_path, n=2)
    (tmp_path / "manifest.csv").write_text("path,kind\n0,fluo\n1,phase\n")
    assert names(tmp_path, kinds=["phase"]) == ["1"]
    with pytest.raises(TrainingDataError, match="of the kind fase; there are fluo, phase"):
        find_sources([tmp_path], kinds=["fluo", "fase"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"annotations": "rois"}, "--annotations rois does not go with .*manifest.csv"),
        ({"annotations": "seg"}, "which names label images"),
        ({"mask_suffix": "_truth"}, "--image-suffix and --mask-suffix do not go with"),
        ({"image_suffix": "_ch1"}, "name the files in the table's columns"),
    ],
)
def test_what_names_files_does_not_go_with_a_table_of_files(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    draw_pairs(tmp_path, n=1)
    (tmp_path / "manifest.csv").write_text("path\n0\n")
    with pytest.raises(SettingsError, match=words):
        find_sources([tmp_path], **options)
    assert names(tmp_path, annotations="labels") == ["0"]


def test_a_pair_that_is_found_twice_is_trained_on_once(tmp_path: Path) -> None:
    draw_pairs(tmp_path / "in", n=2)
    (tmp_path / "list.csv").write_text("path,channel\nin/0,1\nin/0,2\n")
    options = quick_options(tmp_path / "in", tmp_path / "m")
    for paths, wanted in (
        ([tmp_path / "in", tmp_path / "in"], ["0", "1"]),
        ([tmp_path / "in", tmp_path / "in" / ".." / "in"], ["0", "1"]),
        ([tmp_path / "list.csv", tmp_path / "in"], ["in/0", "in/0", "0", "1"]),
    ):
        found = find_images(replace(options, paths=paths), options.role)
        assert [source.name for source in found.sources] == wanted


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    draw_pairs(tmp_path / "in", n=1)
    draw_pairs(tmp_path / "elsewhere", n=1, first=1)
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "in") == ["0", "linked/1"]


def test_the_first_of_several_images_in_a_file_is_said(tmp_path: Path) -> None:
    image, labels = disks(64)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(image, photometric="minisblack")
        file.write(image[:32], photometric="minisblack")
    tifffile.imwrite(tmp_path / "a_masks.tif", labels)
    tifffile.imwrite(tmp_path / "lonely.tif", image)
    found = find_sources([tmp_path])
    options = DataOptions(make_settings(), min_objects=1)
    _, remarks = load_images(found.sources, options, FlowCache(tmp_path / "flows"))
    told = [(one.image, one.reason) for one in all_remarks(found, remarks) if one.what == "image"]
    assert told == [("a", "The file a.tif holds 2 images (series); the first is read.")]
    assert count_left_out(all_remarks(found, remarks)) == 1
