"""Label images, ROIs, GeoJSON, tables and overlays, written and read back."""

from __future__ import annotations

import csv
import io
import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from roifile import ROI_TYPE, ImagejRoi, roiread
from scipy import ndimage

from cellseg_engine.errors import AxesError
from cellseg_engine.io import labels as labels_module
from cellseg_engine.io.images import read_image, read_labels
from cellseg_engine.io.labels import write_labels
from cellseg_engine.io.overlays import PALETTE, render_overlay, thumbnail, write_overlay
from cellseg_engine.io.rois import encode_rois, write_geojson, write_rois
from cellseg_engine.io.tables import write_table

ANY_FILE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LABELS = arrays(
    np.int32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)
)
SIZES = {"Z": 1.5, "Y": 0.3, "X": 0.25}


def some_labels(*shape: int, largest: int = 900) -> np.ndarray:
    labels = np.random.default_rng(0).integers(0, largest, shape).astype(np.int32)
    labels.flat[0] = largest
    return labels


@pytest.mark.parametrize("largest", [900, 65_535, 65_536, 70_000])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        *[("YX", (30, 40)), ("ZYX", (3, 30, 40)), ("TYX", (3, 30, 40)), ("TZYX", (2, 3, 30, 40))],
        *[("YX", (30, 1)), ("ZYX", (3, 30, 1)), ("TYX", (3, 1, 1)), ("TZYX", (2, 3, 1, 1))],
    ],
)
def test_labels_round_trip(tmp_path: Path, largest: int, axes: str, shape: tuple[int, ...]) -> None:
    labels = some_labels(*shape, largest=largest)
    path = tmp_path / "x_labels.tif"
    write_labels(path, labels, axes, SIZES)
    with tifffile.TiffFile(path) as tif:
        assert bool(tif.is_imagej) == (largest <= 65_535)
        assert tif.series[0].dtype == (np.uint16 if largest <= 65_535 else np.uint32)
        assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    image = read_image(path)
    assert image.axes == axes
    assert np.array_equal(image.pixels, labels)
    expected = {letter: um for letter, um in SIZES.items() if letter in axes}
    assert image.pixel_size_um == pytest.approx(expected, rel=1e-6)
    back, back_axes = read_labels(path)
    assert back_axes == axes
    assert np.array_equal(back, labels)


@pytest.mark.parametrize("largest", [5, 70_000])
def test_labels_without_calibration(tmp_path: Path, largest: int) -> None:
    write_labels(tmp_path / "x.tif", some_labels(30, 40, largest=largest), "YX", {})
    assert read_image(tmp_path / "x.tif").pixel_size_um == {}
    write_labels(tmp_path / "y.tif", np.zeros((30, 40), np.int32), "YX")
    assert not read_labels(tmp_path / "y.tif")[0].any()


@pytest.mark.parametrize("sizes", [{"Z": 2.0}, {"Z": 2.0, "X": 0.3}])
def test_labels_claim_no_pixel_size_that_is_not_known(
    tmp_path: Path, sizes: dict[str, float]
) -> None:
    path = tmp_path / "x_labels.tif"
    write_labels(path, some_labels(3, 8, 9), "ZYX", sizes)
    assert read_image(path).pixel_size_um == {}


@pytest.mark.parametrize(("largest", "um"), [(5, 1e-10), (5, 1e10), (70_000, 1e-7), (70_000, 1e15)])
def test_pixel_sizes_that_tiff_has_no_fraction_for(tmp_path: Path, largest: int, um: float) -> None:
    labels = some_labels(8, 9, largest=largest)
    write_labels(tmp_path / "x.tif", labels, "YX", {"Y": um, "X": um})
    image = read_image(tmp_path / "x.tif")
    assert np.array_equal(image.pixels, labels)
    expected = {} if largest == 5 else {"Y": um, "X": um}
    assert image.pixel_size_um == pytest.approx(expected)


def test_labels_of_another_axis_order(tmp_path: Path) -> None:
    labels = some_labels(3, 2, 30, 40)
    write_labels(tmp_path / "x.tif", labels, "ZTYX", SIZES)
    back, axes = read_labels(tmp_path / "x.tif")
    assert axes == "TZYX"
    assert np.array_equal(back, labels.swapaxes(0, 1))


def test_large_label_files_are_big_tiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_module, "IMAGEJ_LIMIT_BYTES", 1000)
    labels = some_labels(3, 30, 40)
    write_labels(tmp_path / "x.tif", labels, "ZYX", SIZES)
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        assert tif.is_bigtiff
    image = read_image(tmp_path / "x.tif")
    assert image.axes == "ZYX"
    assert image.pixels.dtype == np.uint16
    assert image.pixel_size_um == pytest.approx(SIZES)
    assert np.array_equal(image.pixels, labels)


def test_axes_must_fit(tmp_path: Path) -> None:
    labels = some_labels(3, 30, 40)
    for call in (
        lambda: write_labels(tmp_path / "x.tif", labels, "YX"),
        lambda: encode_rois(labels, "YX"),
        lambda: encode_rois(labels, "CYX"),
    ):
        with pytest.raises(AxesError):
            call()
    assert not list(tmp_path.iterdir())


def even_odd(rings: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Fill closed rings of (x, y) corners: a vertical edge flips all pixels right of it."""
    inside = np.zeros(shape, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in itertools.pairwise(ring):
            if x0 == x1:
                inside[int(min(y0, y1)) : int(max(y0, y1)), int(x0) :] ^= True
    return inside


def roi_rings(roi: ImagejRoi) -> list[np.ndarray]:
    found = roi.coordinates(multi=True)
    loops = found if isinstance(found, list) else [found]
    return [
        loop if np.array_equal(loop[0], loop[-1]) else np.vstack([loop, loop[:1]]) for loop in loops
    ]


@ANY_FILE
@given(LABELS)
def test_rois_fill_to_the_labels(tmp_path: Path, labels: np.ndarray) -> None:
    write_rois(tmp_path / "x.zip", labels, "YX")
    rois = roiread(tmp_path / "x.zip")
    assert isinstance(rois, list)
    assert [int(roi.name) for roi in rois] == [n for n in np.unique(labels) if n]
    for roi in rois:
        mask = labels == int(roi.name)
        rings = roi_rings(roi)
        assert np.array_equal(even_odd(rings, labels.shape), mask)
        rows, columns = np.nonzero(mask)
        assert (roi.top, roi.left) == (rows.min(), columns.min())
        assert (roi.bottom, roi.right) == (rows.max() + 1, columns.max() + 1)
        assert roi.roitype == (ROI_TYPE.TRACED if len(rings) == 1 else ROI_TYPE.RECT)
        assert roi.composite == (len(rings) > 1)


def test_roi_names_and_positions() -> None:
    plane = np.array([[0, 1], [20_000, 0]])

    def read(labels: np.ndarray, axes: str) -> list[tuple[str, int, int, int, int]]:
        with zipfile.ZipFile(io.BytesIO(encode_rois(labels, axes))) as archive:
            rois = [ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist()]
            assert archive.namelist() == [f"{roi.name}.roi" for roi in rois]
        return [
            (roi.name, roi.position, roi.c_position, roi.z_position, roi.t_position) for roi in rois
        ]

    assert read(plane, "YX") == [("00001", 0, 0, 0, 0), ("20000", 0, 0, 0, 0)]
    assert read(np.array([[7]]), "YX")[0][0] == "0007"
    assert [roi[:2] for roi in read(np.stack([plane] * 2), "ZYX")] == [
        ("00001-1-1", 1), ("20000-1-1", 1), ("00001-2-1", 2), ("20000-2-1", 2),
    ]  # fmt: skip
    assert read(np.stack([plane] * 2), "TYX")[2] == ("00001-1-2", 2, 0, 0, 0)
    assert read(np.ones((2, 12, 1, 1), int), "TZYX")[-1] == ("0001-12-2", 0, 0, 12, 2)
    assert read(np.ones((12, 2, 1, 1), int), "ZTYX")[-1] == ("0001-12-2", 0, 0, 12, 2)


def test_roi_names_are_no_slice_numbers_to_imagej() -> None:
    """ImageJ takes names like 0001-0002-0003 for a slice number where no position is set."""
    [roi, *_] = roi_names(encode_rois(np.ones((120, 120, 1, 1), int), "TZYX"))
    assert not (len(roi) >= 14 and roi[4] == "-" and roi[9] == "-")


def roi_names(data: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [name.removesuffix(".roi") for name in archive.namelist()]


def test_rois_are_the_same_bytes_each_time() -> None:
    labels = some_labels(30, 40)
    assert encode_rois(labels, "YX") == encode_rois(labels, "YX")


def test_rois_beyond_what_whole_numbers_hold() -> None:
    labels = np.zeros((1, 70_000), np.int32)
    labels[0, 69_990:69_995] = 1
    with zipfile.ZipFile(io.BytesIO(encode_rois(labels, "YX"))) as archive:
        roi = ImagejRoi.frombytes(archive.read("0001.roi"))
    assert np.array_equal(even_odd(roi_rings(roi), labels.shape), labels == 1)


def test_no_objects_give_valid_empty_files(tmp_path: Path) -> None:
    labels = np.zeros((5, 6), np.int32)
    write_rois(tmp_path / "x.zip", labels, "YX")
    assert roiread(tmp_path / "x.zip") == []
    write_geojson(tmp_path / "x.geojson", labels, "YX", [])
    assert json.loads((tmp_path / "x.geojson").read_text()) == {
        "type": "FeatureCollection",
        "features": [],
    }
    write_table(tmp_path / "x.csv", ["label", "area_px"], [])
    assert (tmp_path / "x.csv").read_bytes() == b"label,area_px\n"


def polygons(geometry: dict[str, Any]) -> list[list[np.ndarray]]:
    coordinates = geometry["coordinates"]
    parts = [coordinates] if geometry["type"] == "Polygon" else coordinates
    return [[np.array(ring) for ring in polygon] for polygon in parts]


def ring_area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2


@ANY_FILE
@given(LABELS)
def test_geojson_polygons_are_valid_and_fill_to_the_labels(
    tmp_path: Path, labels: np.ndarray
) -> None:
    """Each polygon is one 4-connected part: simple rings, the outer one and those of its holes."""
    write_geojson(tmp_path / "x.geojson", labels, "YX")
    for feature in json.loads((tmp_path / "x.geojson").read_text())["features"]:
        mask = labels == int(feature["properties"]["name"])
        parts = ndimage.label(mask)[0]
        found = polygons(feature["geometry"])
        assert len(found) == parts.max()
        assert (feature["geometry"]["type"] == "Polygon") == (len(found) == 1)
        for rings in found:
            filled = even_odd(rings, labels.shape)
            [part] = np.unique(parts[filled])
            assert np.array_equal(filled, parts == part)
            for ring in rings:
                assert np.array_equal(ring[0], ring[-1])
                assert len(np.unique(ring[:-1], axis=0)) == len(ring) - 1
            assert [ring_area(ring) > 0 for ring in rings] == [True] + [False] * (len(rings) - 1)


def test_geojson_properties(tmp_path: Path) -> None:
    labels = np.zeros((2, 3, 8, 9), int)
    labels[1, 2, 3, 4] = 5
    row = {
        "label": 5,
        "well": "A1",
        "area_px": 1.0,
        "flow_error": float("nan"),
        "touches_edge": True,
    }
    write_geojson(tmp_path / "x.geojson", labels, "TZYX", [row])
    [feature] = json.loads((tmp_path / "x.geojson").read_text(encoding="utf-8"))["features"]
    assert feature == {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[5, 3], [5, 4], [4, 4], [4, 3], [5, 3]]],
            "plane": {"c": -1, "z": 2, "t": 1},
        },
        "properties": {
            "objectType": "detection",
            "name": "5",
            "measurements": {"area_px": 1.0, "touches_edge": 1},
        },
    }


def test_table(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"well": "A1, µ", "label": 1, "x": 2048.12345, "edge": True, "np": np.float32(0.1)},
        {"well": 'say "hi"', "label": np.int32(2), "x": float("nan"), "edge": np.False_},
        {"well": None, "label": 3, "x": 1234567.0, "edge": False, "np": 1e-9},
    ]
    write_table(tmp_path / "x.csv", ["well", "label", "x", "edge", "np"], rows)
    data = (tmp_path / "x.csv").read_bytes()
    assert b"\r" not in data
    assert data.decode("utf-8").splitlines() == [
        "well,label,x,edge,np",
        '"A1, µ",1,2048.12345,1,0.100000001',
        '"say ""hi""",2,,0,',
        ",3,1234567,0,1e-09",
    ]
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["well"] for row in csv.DictReader(stream)] == ["A1, µ", 'say "hi"', ""]


def test_table_names_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no column for area"):
        write_table(tmp_path / "x.csv", ["label"], [{"label": 1, "area": 2}])


def two_touching_squares(size: int = 40) -> np.ndarray:
    labels = np.zeros((size, size), np.int32)
    labels[10:30, 5:20] = 1
    labels[10:30, 20:35] = 2
    return labels


def on_line(overlay: np.ndarray) -> np.ndarray:
    return np.asarray(np.any([np.all(overlay == colour, axis=-1) for colour in PALETTE], axis=0))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 40), np.uint8),
        np.random.default_rng(0).integers(0, 60_000, (40, 40)).astype(np.uint16),
        np.random.default_rng(0).normal(-3, 1e-3, (40, 40)).astype(np.float32),
        np.random.default_rng(0).random((40, 40)) > 0.5,
        np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8),
    ],
    ids=["black", "uint16", "float", "bool", "rgb"],
)
def test_overlay_draws_the_rim_of_each_object(image: np.ndarray) -> None:
    labels = two_touching_squares()
    overlay = render_overlay(image, labels)
    assert overlay.shape == (40, 40, 3)
    assert overlay.dtype == np.uint8
    inner = np.zeros((40, 40), bool)
    inner[11:29, 6:19] = inner[11:29, 21:34] = True
    assert np.array_equal(on_line(overlay), (labels > 0) & ~inner)
    colours = [np.unique(overlay[(labels == n) & ~inner], axis=0) for n in (1, 2)]
    assert [len(colour) for colour in colours] == [1, 1]
    assert not np.array_equal(colours[0], colours[1])


def test_overlay_stretches_the_image() -> None:
    image = np.linspace(1000, 1100, 1600, dtype=np.float32).reshape(40, 40)
    overlay = render_overlay(image, np.zeros((40, 40), int))
    assert np.all(overlay[..., 0] == overlay[..., 1])
    assert overlay[0, 0].max() == 0
    assert overlay[-1, -1].min() > 200


def test_near_objects_never_share_a_colour() -> None:
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((8, 8), int))
    overlay = render_overlay(np.zeros(labels.shape), labels)
    colours = overlay[::8, ::8]
    corner = np.array([[colours[y, x] for x in range(20)] for y in range(20)])
    for step in ((0, 1), (1, 0), (1, 1)):
        there = corner[step[0] :, step[1] :]
        here = corner[: 20 - step[0], : 20 - step[1]]
        assert np.all(np.any(there != here, axis=-1))


def test_overlay_of_a_large_image_has_wide_lines() -> None:
    labels = np.zeros((40, 1600), np.int32)
    labels[5:35, 100:140] = 1
    line = on_line(render_overlay(np.zeros(labels.shape), labels))[20]
    assert np.flatnonzero(line).tolist() == [100, 101, 138, 139]
    labels[...] = 0
    labels[20:24, 100:104] = 1
    assert np.count_nonzero(on_line(render_overlay(np.zeros(labels.shape), labels))) == 12


def test_overlay_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"`image` \(shape \(4, 5\)\)"):
        render_overlay(np.zeros((4, 5)), np.zeros((5, 4), int))


def test_overlay_file_and_thumbnail(tmp_path: Path) -> None:
    labels = two_touching_squares()
    image = np.random.default_rng(0).random((40, 40))
    write_overlay(tmp_path / "x.png", image, labels)
    picture = imagecodecs.png_decode((tmp_path / "x.png").read_bytes())
    assert np.array_equal(picture, render_overlay(image, labels))
    assert thumbnail(picture, 40) is picture
    assert thumbnail(picture, 15).shape == (13, 13, 3)
    assert np.array_equal(thumbnail(np.full((30, 7, 3), 9, np.uint8), 3), np.full((3, 1, 3), 9))
    assert thumbnail(np.zeros((3, 500, 3), np.uint8), 50).shape == (1, 50, 3)
