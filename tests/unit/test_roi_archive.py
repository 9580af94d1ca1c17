"""Traced ROIs and their archive against what roifile and zipfile write."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roifile import ROI_TYPE, ImagejRoi

from cellseg_engine.io import roi_archive
from cellseg_engine.io.roi_archive import encode_traced, make_archive
from cellseg_engine.io.rois import encode_rois


def by_roifile(loop: np.ndarray, name: str, place: tuple[int, int, int]) -> bytes:
    (top, left), (bottom, right) = loop.min(axis=0).tolist(), loop.max(axis=0).tolist()
    roi = ImagejRoi(top=top, left=left, bottom=bottom, right=right)
    roi.roitype = ROI_TYPE.TRACED
    roi.integer_coordinates = loop[:, ::-1] - np.array([left, top], np.int32)
    roi.n_coordinates = len(loop)
    roi.name = name
    roi.position, roi.z_position, roi.t_position = place
    return roi.tobytes()


corner = st.tuples(st.integers(0, 60_535), st.integers(0, 60_535))


@given(
    loops=st.lists(st.lists(corner, min_size=4, max_size=30), max_size=5),
    place=st.tuples(*[st.integers(0, 9999)] * 3),
)
def test_they_are_those_of_roifile(
    loops: list[list[tuple[int, int]]], place: tuple[int, int, int]
) -> None:
    arrays = [np.array(loop, np.int32) for loop in loops]
    names = [f"{n + 1:04}-3-1" for n in range(len(loops))]
    made = encode_traced(arrays, names, [place] * len(loops))
    assert made == [by_roifile(loop, name, place) for loop, name in zip(arrays, names, strict=True)]


@pytest.mark.parametrize(("n_teeth", "is_traced"), [(16_383, True), (16_384, False)])
def test_an_object_may_have_more_corners_than_a_traced_roi_can_count(
    n_teeth: int, is_traced: bool
) -> None:
    comb = np.zeros((2, 2 * n_teeth), np.int32)
    comb[1] = comb[0, ::2] = 1
    with zipfile.ZipFile(io.BytesIO(encode_rois(comb, "YX"))) as archive:
        roi = ImagejRoi.frombytes(archive.read("0001.roi"))
    assert (roi.roitype == ROI_TYPE.TRACED) == is_traced
    corners = roi.coordinates() if is_traced else roi.coordinates(multi=True)[0][:-1]
    assert len(corners) == 4 * n_teeth + 2
    x, y = np.asarray(corners, np.float64).T
    assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) == 2 * comb.sum()


@given(contents=st.lists(st.binary(max_size=300), max_size=9))
def test_the_archive_is_read_by_zipfile(contents: list[bytes]) -> None:
    entries = [(f"{n:04}.roi", content) for n, content in enumerate(contents)]
    with zipfile.ZipFile(io.BytesIO(make_archive(entries))) as archive:
        assert archive.testzip() is None
        assert [(name, archive.read(name)) for name in archive.namelist()] == entries
        assert all(entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in archive.infolist())


def test_beyond_the_plain_format_zipfile_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [(f"{n}.roi", bytes([n])) for n in range(5)]
    monkeypatch.setattr(roi_archive, "_MAX_ZIP_ENTRIES", 4)
    with zipfile.ZipFile(io.BytesIO(make_archive(entries))) as archive:
        assert [(name, archive.read(name)) for name in archive.namelist()] == entries
