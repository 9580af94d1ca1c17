"""Annotated images on disk: what belongs together, what is read, what is refused and why."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from roifile import ROI_TYPE, ImagejRoi
from skimage.io import imsave

from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.errors import AxesError, CellSegError, ReadError
from cellseg_engine.io.rois import encode_rois
from cellseg_engine.settings import make_settings
from cellseg_engine.train.annotations import read_annotation
from cellseg_engine.train.dataset import DataOptions, Remark, TrainingImage, load_images
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.flow_cache import FlowCache
from cellseg_engine.train.roi_labels import read_roi_labels
from cellseg_engine.train.sampling import hold_out
from cellseg_engine.train.seg_file import read_seg_labels
from cellseg_engine.train.sources import Found, find_sources
from tests.integration.training import disks
from tests.unit.plain import blobs

IMAGE, LABELS = disks(64)


def put(path: Path, array: np.ndarray = IMAGE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        imsave(path, array, check_contrast=False)
    else:
        tifffile.imwrite(path, array, **({"photometric": "minisblack"} | options))
    return path


def put_seg(path: Path, masks: np.ndarray = LABELS, **more: Any) -> Path:
    """Write what the Cellpose interface writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "masks": masks,
        "outlines": LABELS * 0,
        "filename": "C:\\a.tif",
        "chan_choose": [0, 0],
        "ismanual": np.zeros(3, bool),
        "flows": [np.zeros((2, 2, 3), np.uint8), [], np.zeros((3, 2, 2), np.float32)],
        "diameter": np.float64(15.5),
        **more,
    }
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


def put_rois(path: Path, labels: np.ndarray = LABELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_rois(labels.astype(np.int32), "YX"))
    return path


def load(
    folder: Path, cache: Path, *, found: dict[str, Any] | None = None, **options: Any
) -> tuple[list[TrainingImage], list[Remark]]:
    sources = find_sources([folder], **(found or {})).sources
    values = {"settings": make_settings(), "min_objects": 1, **options}
    return load_images(sources, DataOptions(**values), FlowCache(cache))


def pairs(found: Found) -> list[tuple[str, str, str]]:
    return [(one.name, one.image.name, one.annotation.name) for one in found.sources]


# -- what belongs together ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("x.tif", "x_masks.tif"),
        ("x_img.tif", "x_masks.tif"),
        ("x_img.tif", "x_img_cp_masks.png"),
        ("x.png", "x_labels.tif"),
        ("x.ome.tif", "x_masks.ome.tif"),
        ("x.jpg", "x_gt.png"),
    ],
)
def test_label_images_by_their_usual_endings(tmp_path: Path, image: str, labels: str) -> None:
    put(tmp_path / "deep er" / labels)
    (tmp_path / "deep er" / image).write_bytes(b"?")
    put(tmp_path / "deep er" / "x_overlay.png", np.zeros((4, 4, 3), np.uint8))
    put(tmp_path / "deep er" / "x_flows.tif")
    put(tmp_path / ".hidden" / "y_masks.tif")
    assert pairs(find_sources([tmp_path])) == [("deep er/x", image, labels)]


def test_endings_of_ones_own(tmp_path: Path) -> None:
    put(tmp_path / "x_ch1.tif")
    put(tmp_path / "x_ch2.tif")
    put(tmp_path / "x_truth.tif")
    put(tmp_path / "x_masks.tif")
    found = find_sources([tmp_path], image_suffix="_ch1", mask_suffix="_truth")
    assert pairs(found) == [("x", "x_ch1.tif", "x_truth.tif")]


@pytest.mark.parametrize("name", ["x_rois.zip", "x_RoiSet.zip", "x.zip"])
def test_rois_and_seg_files_beside_an_image(tmp_path: Path, name: str) -> None:
    put(tmp_path / "x.tif")
    put_rois(tmp_path / name)
    assert pairs(find_sources([tmp_path])) == [("x", "x.tif", name)]
    put_seg(tmp_path / "x_seg.npy")
    with pytest.raises(TrainingDataError, match=r"a ROI archive.*--annotations rois or") as caught:
        find_sources([tmp_path])
    assert "a _seg.npy" in str(caught.value)
    found = find_sources([tmp_path], annotations="seg")
    assert pairs(found) == [("x", "x.tif", "x_seg.npy")]


def test_what_has_no_partner_is_reported(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif", "b_masks.tif", "c_masks.tif"):
        put(tmp_path / name)
    found = find_sources([tmp_path])
    assert pairs(found) == [("b", "b.tif", "b_masks.tif")]
    assert found.images_without_annotation == (tmp_path / "a.tif",)
    assert found.annotations_without_image == (tmp_path / "c_masks.tif",)


@pytest.mark.parametrize(
    ("image", "base", "suffix"),
    [("x_img.tif", "x_img", ""), ("x_ch1.tif", "x_ch1", "_ch1"), ("x_ch1.tif", "x", "_ch1"),
     ("x_img.tif", "x", ""), ("x_img_img.tif", "x_img", "")],
)  # fmt: skip
def test_annotations_named_after_the_file_of_their_image(
    tmp_path: Path, image: str, base: str, suffix: str
) -> None:
    put(tmp_path / image)
    writers: dict[str, Callable[..., Path]]
    writers = {"_masks.tif": put, "_seg.npy": put_seg, "_rois.zip": put_rois}
    for ending, write in writers.items():
        annotation = write(tmp_path / f"{base}{ending}", LABELS)
        found = find_sources([tmp_path], image_suffix=suffix)
        assert pairs(found) == [("x", image, annotation.name)]
        annotation.unlink()


def test_an_annotation_goes_to_the_image_of_its_exact_name(tmp_path: Path) -> None:
    for name in ("x", "x_img"):
        put(tmp_path / f"{name}.tif")
        put_rois(tmp_path / f"{name}_rois.zip")
    both = [("x", "x.tif", "x_rois.zip"), ("x_img", "x_img.tif", "x_img_rois.zip")]
    assert pairs(find_sources([tmp_path])) == both
    (tmp_path / "x_rois.zip").unlink()
    found = find_sources([tmp_path])
    assert pairs(found) == both[1:]
    assert found.images_without_annotation == (tmp_path / "x.tif",)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("x.tif", "x_img.tif", "x_masks.tif"), "could both be the image"),
        (("x.tif", "x.png", "x_masks.tif"), r"x\.png and x\.tif .* could both be the image"),
        (("x_img.tif", "x_img_img.tif", "x_img_masks.tif"), "could both be the image"),
        (("x.tif", "x_masks.tif", "x_img_masks.tif"), "could both be the annotation"),
        (("x.tif", "x_masks.tif", "x_labels.tif"), r"could both be the annotation of x\.tif"),
    ],
)
def test_two_candidates_are_refused(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    for name in names:
        put(tmp_path / name)
    with pytest.raises(TrainingDataError, match=words):
        find_sources([tmp_path])


def test_no_pairs(tmp_path: Path) -> None:
    put(tmp_path / "a.tif")
    put(tmp_path / "b_masks.tif")
    with pytest.raises(
        TrainingDataError,
        match=r"No image with its annotation .*\(1 images without annotation, 1 annotations "
        r"without image.*NAME\.tif belongs to NAME_masks\.tif",
    ):
        find_sources([tmp_path])
    with pytest.raises(ReadError, match="There is no folder"):
        find_sources([tmp_path / "missing"])


def test_folders_of_one_name_are_kinds_of_their_own(tmp_path: Path) -> None:
    names = ("w1/train", "w2/train", "other", "deep/w2/train")
    for name in names:
        put(tmp_path / name / "x.tif")
        put(tmp_path / name / "x_masks.tif")
    folders = [tmp_path / name for name in names]
    kinds = [one.kind for one in find_sources([*folders, tmp_path / "w1" / ".." / "other"]).sources]
    assert kinds == ["w1/train", f"{tmp_path.name}/w2/train", "other", "deep/w2/train", "other"]
    assert [one.kind for one in find_sources(folders[:1]).sources] == ["train"]
    (folders[0] / "manifest.csv").write_text("image,labels\nx.tif,x_masks.tif\n")
    kinds = [one.kind for one in find_sources(folders[:2]).sources]
    assert kinds == ["w1/train", "w2/train"]


MANIFEST = """path,role,kind,axes,group
one,train,"E. coli, DAPI",YX,g1
sub/two,train,fluo,YX,g1
three,val,fluo,YX,g2
"""


def test_a_manifest_says_what_is_for_training(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(MANIFEST)
    for name in ("one", "sub/two", "three", "four"):
        put(tmp_path / f"{name}_img.tif")
        put(tmp_path / f"{name}_masks.tif")
    for given in (tmp_path, tmp_path / "manifest.csv"):
        found = find_sources([given])
        assert [(s.name, s.kind, s.group) for s in found.sources] == [
            ("one", "E. coli, DAPI", "g1"),
            ("sub/two", "fluo", "g1"),
        ]
    assert len(find_sources([tmp_path], kinds=["fluo"]).sources) == 1
    assert [s.name for s in find_sources([tmp_path], role="val").sources] == ["three"]
    with pytest.raises(
        TrainingDataError, match=r"of the kind phase; there are E\. coli, DAPI, fluo"
    ):
        find_sources([tmp_path], kinds=["phase"])
    (tmp_path / "one_img.tif").unlink()
    with pytest.raises(TrainingDataError, match=r"names one, but there is no one_img\.tif"):
        find_sources([tmp_path])


def test_a_manifest_can_name_both_files(tmp_path: Path) -> None:
    put(tmp_path / "i" / "a.tif")
    put(tmp_path / "l" / "a.png", LABELS.astype(np.uint8))
    table = tmp_path / "list.csv"
    table.write_text("image,labels\ni/a.tif,l/a.png\n")
    assert pairs(find_sources([table])) == [("i/a.tif", "a.tif", "a.png")]
    table.write_text("picture,truth\na,b\n")
    with pytest.raises(TrainingDataError, match="has the columns picture, truth; it needs path"):
        find_sources([table])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("image,labels\na.tif,\n", r"Row 1 of .*list\.csv says nothing in the column image or lab"),
        ("role,path\ntrain\n", r"Row 1 of .*list\.csv says nothing in the column path\."),
        ("path,role\na\n,train\n", r"Row 2 of .* says nothing in the column path"),
        ("path\na,more\n", None),
        ("role,path\nval\ntrain,a\n", None),
        ("picture,truth\na,b,c\n", r"has the columns picture, truth; it needs path"),
    ],
)
def test_rows_of_a_manifest_that_are_not_complete(
    tmp_path: Path, table: str, words: str | None
) -> None:
    put(tmp_path / "a_img.tif")
    put(tmp_path / "a_masks.tif")
    (tmp_path / "list.csv").write_text(table)
    if words is None:
        assert pairs(find_sources([tmp_path / "list.csv"])) == [("a", "a_img.tif", "a_masks.tif")]
        return
    with pytest.raises(TrainingDataError, match=words):
        find_sources([tmp_path / "list.csv"])


def test_a_manifest_with_two_files_for_one_name_or_other_letter_case(tmp_path: Path) -> None:
    put(tmp_path / "a_img.TIF")
    put(tmp_path / "a_masks.TIFF")
    (tmp_path / "manifest.csv").write_text("path\na\n")
    assert pairs(find_sources([tmp_path])) == [("a", "a_img.TIF", "a_masks.TIFF")]
    for name, words in (
        ("a_masks.png", r"names a, which could be a_masks\.png or a_masks\.TIFF\. Keep one"),
        ("a_img.png", r"names a, which could be a_img\.png or a_img\.TIF\..* columns image and"),
    ):
        put(tmp_path / name, LABELS.astype(np.uint8))
        with pytest.raises(TrainingDataError, match=words):
            find_sources([tmp_path])


def test_a_manifest_below_the_given_folder_is_not_passed_over(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / "top" / "set" / f"{name}_img.tif")
        put(tmp_path / "top" / "set" / f"{name}_masks.tif")
    table = tmp_path / "top" / "set" / "manifest.csv"
    table.write_text("path,role\na,train\nb,val\n")
    with pytest.raises(TrainingDataError, match=r"manifest\.csv is a table .*Give .*set itself"):
        find_sources([tmp_path / "top"])
    assert [one.name for one in find_sources([table.parent]).sources] == ["a"]


def test_a_manifest_can_choose_the_channel_of_an_image(tmp_path: Path) -> None:
    colour = np.zeros((*LABELS.shape, 3), np.uint8)
    colour[..., 1] = (LABELS > 0) * 200
    put(tmp_path / "a.tif", colour, photometric="rgb")
    put(tmp_path / "l.tif", LABELS)
    table = tmp_path / "list.csv"
    table.write_text("image,labels,axes,channel\na.tif,l.tif,YXS,green\na.tif,l.tif,YXS,red\n")
    found = find_sources([table])
    assert [one.channel for one in found.sources] == ["green", "red"]
    images, remarks = load(table, tmp_path / "flows")
    assert len(images) == 1
    assert [one.reason for one in remarks] == ["no contrast in its pixels"]


def test_the_real_manifest(shared: Path) -> None:
    found = find_sources([shared / "data"], kinds=["fluo"])
    assert len(found.sources) == 389
    assert not any("/val/" in one.name for one in found.sources)
    assert len({one.group for one in found.sources}) < 389


# -- what is read ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["labels", "seg", "rois"])
def test_all_kinds_of_annotations_give_the_same_image(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "in" / "x.tif")
    if kind == "labels":
        put(tmp_path / "in" / "x_masks.tif", LABELS)
    elif kind == "seg":
        put_seg(tmp_path / "in" / "x_seg.npy")
    else:
        put_rois(tmp_path / "in" / "x_rois.zip")
    (image,), remarks = load(tmp_path / "in", tmp_path / "cache")
    assert remarks == []
    assert image.n_objects == LABELS.max()
    # The same objects, whatever their numbers.
    both = np.unique(np.stack([image.labels.ravel(), LABELS.ravel()]), axis=1)
    assert both.shape[1] == LABELS.max() + 1
    np.testing.assert_array_equal(image.flows, labels_to_flows(image.labels))
    assert np.percentile(image.pixels[0], (1, 99)) == pytest.approx([0, 1], abs=1e-4)
    assert image.pixels.shape == (1, 64, 64)


def test_planes_of_a_stack_are_images_of_one_group(tmp_path: Path) -> None:
    stack = np.stack([IMAGE, IMAGE[::-1]])
    put(tmp_path / "in" / "x.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    put(tmp_path / "in" / "x_masks.tif", np.stack([LABELS, LABELS[::-1]]))
    images, _ = load(tmp_path / "in", tmp_path / "cache")
    assert [image.name for image in images] == ["x plane 1", "x plane 2"]
    assert len({image.group for image in images}) == 1
    np.testing.assert_array_equal(images[0].labels > 0, (images[1].labels > 0)[::-1])


def test_planes_and_time_points_of_the_same_number_belong_together(tmp_path: Path) -> None:
    stack = np.stack([IMAGE, IMAGE[::-1], IMAGE])
    labels = np.stack([LABELS, LABELS[::-1], LABELS])
    put(tmp_path / "in" / "x.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    put(tmp_path / "in" / "x_masks.tif", labels, imagej=True, metadata={"axes": "TYX"})
    images, _ = load(tmp_path / "in", tmp_path / "cache")
    assert [image.name for image in images] == ["x plane 1", "x plane 2", "x plane 3"]
    np.testing.assert_array_equal(images[0].labels > 0, (images[1].labels > 0)[::-1])
    put(tmp_path / "in" / "x_masks.tif", labels[:2], imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(TrainingDataError, match=r"64 x 64 px in 2 planes .* 64 x 64 px in 3 pl"):
        load(tmp_path / "in", tmp_path / "cache")


def test_images_with_the_same_pixels_are_of_one_group(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name, image in (("a", IMAGE), ("b", IMAGE[::-1]), ("c", IMAGE), ("d", IMAGE[:, ::-1])):
        put(folder / f"{name}_img.tif", image)
        put(folder / f"{name}_masks.tif", LABELS)
    put(folder / "c_masks.tif", np.where(LABELS == 1, 0, LABELS))  # somebody else annotated it
    images, remarks = load(folder, tmp_path / "cache")
    a, b, c, d = images
    assert a.group == c.group and len({a.group, b.group, d.group}) == 3
    assert a.sha256 != c.sha256
    assert remarks == [Remark("c", "group", "the same pixels as a, so their groups are one")]
    for seed in range(6):
        training, held_out = hold_out(images, 0.3, seed)
        assert training and held_out
        assert ({"a", "c"} <= {one.name for one in training}) != (
            {"a", "c"} <= {one.name for one in held_out}
        )
    # Two groups that have an image in common are one, with all of their images.
    table = folder / "manifest.csv"
    table.write_text("path,group\na,left\nb,left\nc,right\nd,right\n")
    assert {image.group for image in load(folder, tmp_path / "cache")[0]} == {"left"}


@pytest.mark.parametrize("seed", range(4))
def test_rois_of_ours_are_read_back_exactly(tmp_path: Path, seed: int) -> None:
    labels = blobs(80, 20, seed)
    labels[30:50, 30:50] = 77
    labels[36:44, 36:44] = 0  # a hole
    labels[5:9, 5:9] = 78
    labels[60:64, 60:64] = 78  # two parts
    read = read_roi_labels(put_rois(tmp_path / "r.zip", labels), (80, 80))
    both = np.unique(np.stack([read.labels.ravel(), labels.ravel()]), axis=1)
    assert both.shape[1] == len(np.unique(labels))
    assert (read.not_areas, read.outside, read.covered, read.n_overlap_px) == ((), (), (), 0)


def test_rois_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "drawn.zip"
    square = np.array([[0, 0], [6, 0], [6, 6], [0, 6]], np.int32)
    drawn = {
        "rect": ImagejRoi(roitype=ROI_TYPE.RECT, left=1, top=2, right=5, bottom=4),
        "oval": ImagejRoi(roitype=ROI_TYPE.OVAL, left=10, top=0, right=20, bottom=8),
        "free": ImagejRoi(
            roitype=ROI_TYPE.FREEHAND,
            left=20, top=20, right=26, bottom=26, n_coordinates=4, integer_coordinates=square,
        ),
        "line": ImagejRoi(roitype=ROI_TYPE.LINE, x1=0, y1=0, x2=5, y2=5),
        "away": ImagejRoi(roitype=ROI_TYPE.RECT, left=100, top=100, right=105, bottom=104),
        "cut": ImagejRoi(roitype=ROI_TYPE.RECT, left=28, top=-3, right=40, bottom=2),
        "over": ImagejRoi(roitype=ROI_TYPE.RECT, left=4, top=2, right=7, bottom=4),
        "inside": ImagejRoi(roitype=ROI_TYPE.RECT, left=21, top=21, right=23, bottom=23),
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        for name, roi in drawn.items():
            roi.name = name
            archive.writestr(f"{name}.roi", roi.tobytes())
    read = read_roi_labels(path, (30, 30))
    assert (read.labels == 1).sum() == 4 * 2 - 2
    assert (read.labels == 2).sum() == pytest.approx(np.pi * 5 * 4, rel=0.06)
    assert (read.labels[20:26, 20:26] == 3).all() and (read.labels == 3).sum() == 36
    assert (read.labels == 6).sum() == 2 * 2
    assert (read.not_areas, read.outside, read.n_overlap_px) == (("line",), ("away",), 2)
    assert read.covered == ("inside",) and (read.labels == 7).sum() == 6
    (tmp_path / "one.roi").write_bytes(drawn["rect"].tobytes())
    assert read_roi_labels(tmp_path / "one.roi", (30, 30)).labels.sum() == 8


def test_rois_on_several_planes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.zip"
    path.write_bytes(encode_rois(np.stack([LABELS, LABELS]).astype(np.int32), "ZYX"))
    with pytest.raises(ReadError, match="lie on 2 planes of a stack"):
        read_roi_labels(path, (64, 64))


def test_positions_of_rois_that_mean_a_single_plane(tmp_path: Path) -> None:
    path = tmp_path / "in" / "x_rois.zip"
    put(tmp_path / "in" / "x.tif")
    places: list[dict[str, int]] = [{}, {"position": 1}, {"z_position": 1, "t_position": 1}]
    put_squares(path, *places)
    (image,), _ = load(tmp_path / "in", tmp_path / "cache")
    assert image.n_objects == 3
    put_squares(path, {"position": 1}, {"position": 2}, {"c_position": 2})
    with pytest.raises(TrainingDataError, match="lie on 2 planes of a stack"):
        load(tmp_path / "in", tmp_path / "cache")
    put(tmp_path / "in" / "x.tif", np.stack([IMAGE] * 2), imagej=True, metadata={"axes": "CYX"})
    (image,), _ = load(tmp_path / "in", tmp_path / "cache", settings=make_settings(channel="1"))
    assert image.n_objects == 3


def put_squares(path: Path, *places: dict[str, int]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for n, place in enumerate(places):
            left = 5 + 20 * n
            roi = ImagejRoi(roitype=ROI_TYPE.RECT, left=left, top=5, right=left + 8, bottom=13)
            for name, value in place.items():
                setattr(roi, name, value)
            archive.writestr(f"{n}.roi", roi.tobytes())


def test_what_macos_adds_to_an_archive_is_no_roi(tmp_path: Path) -> None:
    path = tmp_path / "r.zip"
    put_squares(path, {}, {})
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("__MACOSX/0.roi", "__MACOSX/._0.roi", "._1.roi", "sub/._1.roi"):
            archive.writestr(name, b"Mac OS X        ")
    assert np.unique(read_roi_labels(path, (64, 64)).labels).tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all", "empty", "garbage", "cut"])
def test_rois_that_are_none(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "r.zip"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            if content == "garbage":
                archive.writestr("x.roi", b"Iout" + bytes(7))
            elif content == "cut":
                archive.writestr("x.roi", encode_one()[:70])
    with pytest.raises(ReadError, match="holds no ROIs of ImageJ"):
        read_roi_labels(path, (64, 64))


def encode_one() -> bytes:
    with zipfile.ZipFile(io.BytesIO(encode_rois(LABELS.astype(np.int32), "YX"))) as archive:
        return archive.read(archive.namelist()[0])


# -- _seg.npy: a pickle ------------------------------------------------------------------------


def test_masks_of_a_seg_file_with_all_that_it_may_hold(tmp_path: Path) -> None:
    path = put_seg(
        tmp_path / "x_seg.npy",
        LABELS,
        img=IMAGE,
        est_diam=np.float32(3),
        zdraw=None,
        filename=tmp_path,
    )
    np.testing.assert_array_equal(read_seg_labels(path), LABELS)
    path = put_seg(tmp_path / "y_seg.npy", LABELS[np.newaxis])
    np.testing.assert_array_equal(read_seg_labels(path), LABELS)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def test_a_hostile_seg_file_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "was_run"
    path = put_seg(tmp_path / "x_seg.npy", filename=Hostile(target))
    with pytest.raises(ReadError, match=r"it asks for (posix|nt)\.system.*Do not use this file"):
        read_seg_labels(path)
    assert not target.exists()
    np.load(path, allow_pickle=True)  # the file is indeed dangerous
    assert target.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"x" * 300, pickle.dumps({"masks": 1}), "array", "no masks"]
)
def test_seg_files_that_are_none(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "x_seg.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "array":
        np.save(path, LABELS)
    else:
        put_seg(path, masks=None)  # type: ignore[arg-type]
    with pytest.raises(ReadError, match=r"x_seg\.npy (is damaged|holds no masks)"):
        read_seg_labels(path)


# -- bad input ---------------------------------------------------------------------------------


def test_an_annotation_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    put(tmp_path / "in" / "x.tif")
    put(tmp_path / "in" / "x_masks.tif", LABELS[:60])
    with pytest.raises(
        TrainingDataError,
        match=r"1 of 1 images .*x_masks\.tif has 60 x 64 px and its image .* 64 x",
    ):
        load(tmp_path / "in", tmp_path / "cache")


@pytest.mark.parametrize("kind", ["tif", "seg"])
def test_labels_that_are_not_whole_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "in" / "x.tif")
    halves = LABELS.astype(np.float32) / 2
    if kind == "tif":
        put(tmp_path / "in" / "x_masks.tif", halves)
    else:
        put_seg(tmp_path / "in" / "x_seg.npy", halves)
    with pytest.raises(TrainingDataError, match="not whole"):
        load(tmp_path / "in", tmp_path / "cache")


def test_all_bad_files_are_named_at_once(tmp_path: Path) -> None:
    for number in range(8):
        put(tmp_path / "in" / f"{number}.tif")
        put(tmp_path / "in" / f"{number}_masks.tif", LABELS[: 64 - 2 * (number < 7)])
    with pytest.raises(TrainingDataError, match=r"7 of 8 images.*0_masks.*4_masks.*And 2 more"):
        load(tmp_path / "in", tmp_path / "cache")


def test_images_without_enough_objects_are_left_out_and_named(tmp_path: Path) -> None:
    few = np.where(LABELS <= 4, LABELS, 0)
    for name, labels in (("a", LABELS), ("b", few), ("c", LABELS * 0)):
        put(tmp_path / "in" / f"{name}.tif")
        put(tmp_path / "in" / f"{name}_masks.tif", labels)
    put(tmp_path / "in" / "flat.tif", np.full((64, 64), 9, np.uint8))
    put(tmp_path / "in" / "flat_masks.tif", LABELS)
    images, remarks = load(tmp_path / "in", tmp_path / "cache", min_objects=5)
    assert [image.name for image in images] == ["a"]
    assert [(remark.image, remark.reason) for remark in remarks] == [
        ("b", "4 annotated objects, fewer than 5"),
        ("c", "no annotated objects"),
        ("flat", "no contrast in its pixels"),
    ]
    (tmp_path / "in" / "a.tif").unlink()
    with pytest.raises(TrainingDataError, match=r"No image is left to train on \(b: 4 annotated"):
        load(tmp_path / "in", tmp_path / "cache", min_objects=5)


def test_large_ids_are_numbered_anew_and_said(tmp_path: Path) -> None:
    put(tmp_path / "in" / "x.tif")
    put(tmp_path / "in" / "x_masks.tif", np.where(LABELS > 0, LABELS + np.uint32(70_000), 0))
    (image,), remarks = load(tmp_path / "in", tmp_path / "cache")
    assert image.labels.max() == LABELS.max()
    assert f"ids up to {70_000 + int(LABELS.max()):,} (above 65,535)" in remarks[0].reason


def test_images_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "in" / "x.tif", np.where(IMAGE > 900, np.nan, IMAGE).astype(np.float32))
    put(tmp_path / "in" / "x_masks.tif", LABELS)
    with pytest.raises(TrainingDataError, match="NaN or infinite"):
        load(tmp_path / "in", tmp_path / "cache")
    put(tmp_path / "in" / "x.tif", np.stack([IMAGE] * 3), imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(TrainingDataError, match="3 channels and none is chosen"):
        load(tmp_path / "in", tmp_path / "cache")


def test_an_annotation_of_other_axes_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "x.tif")
    put(tmp_path / "x_masks.tif", np.stack([LABELS, LABELS]))
    (source,) = find_sources([tmp_path]).sources
    with pytest.raises((ReadError, AxesError)):
        read_annotation(source, (1, 1, 64, 64), "YX")


# -- flows on disk -----------------------------------------------------------------------------


def test_flows_are_kept_by_content(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path / "flows")
    labels = blobs(40, 16)
    first = cache.flows(labels, "v3")
    np.testing.assert_array_equal(first, labels_to_flows(labels))
    (file,) = (tmp_path / "flows").iterdir()
    before = file.stat().st_mtime_ns
    again = cache.flows(labels.copy(), "v3")
    np.testing.assert_array_equal(again, first)
    assert file.stat().st_mtime_ns == before
    assert not np.asarray(again).flags.writeable
    other = cache.flows(labels, "v2")
    assert not np.array_equal(other, first)
    cache.flows(np.ascontiguousarray(labels[:, ::-1]), "v3")
    assert len(list((tmp_path / "flows").iterdir())) == 3


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None])
def test_damaged_flows_are_made_again(tmp_path: Path, damage: bytes | None) -> None:
    cache = FlowCache(tmp_path / "flows")
    labels = blobs(40, 16)
    expected = np.array(cache.flows(labels, "v3"))
    (file,) = (tmp_path / "flows").iterdir()
    file.write_bytes(file.read_bytes()[:-100] if damage is None else damage)
    np.testing.assert_array_equal(cache.flows(labels, "v3"), expected)
    assert len(list((tmp_path / "flows").iterdir())) == 1


def test_flows_that_vanish_or_change_later_are_calculated_again(tmp_path: Path) -> None:
    labels = blobs(40, 16)
    kept = FlowCache(tmp_path / "flows").flows(labels, "v3")
    expected = np.array(kept)
    (file,) = (tmp_path / "flows").iterdir()
    file.write_bytes(b"?")
    np.testing.assert_array_equal(kept, expected)
    file.unlink()
    np.testing.assert_array_equal(kept, expected)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
def test_images_keep_no_files_open(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path / "in" / f"{number}.tif")
        put(tmp_path / "in" / f"{number}_masks.tif", np.roll(LABELS, number, axis=0))
    descriptors = Path("/proc/self/fd")
    before = set(descriptors.iterdir())
    images, _ = load(tmp_path / "in", tmp_path / "cache")
    sums = [float(np.abs(image.flows).sum()) for image in images]
    assert len(sums) == 20 and min(sums) > 0
    assert len(set(descriptors.iterdir()) - before) < 5


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "flows").write_text("a file")
    with pytest.raises(CellSegError, match="not a folder"):
        FlowCache(tmp_path / "flows").flows(blobs(40, 16), "v3")
