"""Time series with tracks, from the network to the files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from cellseg_engine import Segmentation, Segmenter, make_settings
from cellseg_engine.batch.outputs import track_columns, track_paths
from cellseg_engine.errors import AxesError, CellSegError, SettingsError
from cellseg_engine.io.overlays import PALETTE, render_overlay
from tests.integration.cli import Cli, disks

STEP_PX = 4
N_FRAMES = 5
MISSING = 2
"""In this frame one of the two disks is not there."""
TRACK_COLUMNS = [
    "track", "parent", "t_first", "t_last", "n_frames", "n_missing", "displacement_y_px",
    "displacement_x_px", "displacement_px", "path_px",
]  # fmt: skip


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(make_settings(device="cpu", diameter_px=24))


def movie() -> np.ndarray:
    """Two disks that move to the right; uint16 of shape (5, 96, 120)."""
    frames = [disks(n=1 if t == MISSING else 2, seed=t) for t in range(N_FRAMES)]
    return np.stack([np.roll(frame, STEP_PX * t, axis=1) for t, frame in enumerate(frames)])


def ball_stack() -> np.ndarray:
    """Two balls of 20 px in voxels twice as deep as wide; uint16 of shape (12, 26, 52)."""
    z, y, x = np.indices((12, 26, 52))
    labels = np.zeros(z.shape, bool)
    for centre in (13, 36):
        labels |= (2 * (z - 6)) ** 2 + (y - 13) ** 2 + (x - centre) ** 2 < 100
    image = ndimage.gaussian_filter(np.where(labels, 1000.0, 100.0), (0.5, 1, 1))
    noise = np.random.default_rng(0).normal(0, 20, labels.shape)
    return (image + noise).astype(np.uint16)


def run(segmenter: Segmenter, image: np.ndarray, axes: str, **values: Any) -> Segmentation:
    return segmenter.segment(image, axes, settings=make_settings(segmenter.settings, **values))


@pytest.fixture(scope="module")
def followed(segmenter: Segmenter) -> Segmentation:
    return run(segmenter, movie(), "TYX", track_threshold=0.3, track_max_gap=1)


def test_an_object_keeps_its_number_also_over_a_gap(followed: Segmentation) -> None:
    for t, frame in enumerate(followed.labels):
        here = {1: frame[24, 24 + STEP_PX * t], 2: frame[24, 84 + STEP_PX * t]}
        assert here == {1: 1, 2: 0 if t == MISSING else 2}
    rows = zip(followed.objects["t"].tolist(), followed.objects["label"].tolist(), strict=True)
    # Within a frame the order is that in which the network's fields show them.
    assert sorted(rows) == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (3, 1), (3, 2), (4, 1), (4, 2)]
    assert followed.n_objects == 9


def test_the_table_of_tracks_says_what_the_objects_say(followed: Segmentation) -> None:
    tracks = followed.tracks
    assert list(tracks) == TRACK_COLUMNS
    assert tracks["track"].tolist() == [1, 2]
    assert tracks["parent"].tolist() == [0, 0]
    assert tracks["n_frames"].tolist() == [5, 4]
    assert tracks["n_missing"].tolist() == [0, 1]
    assert (tracks["t_first"].tolist(), tracks["t_last"].tolist()) == ([0, 0], [4, 4])
    moved = STEP_PX * (N_FRAMES - 1)
    assert tracks["displacement_x_px"] == pytest.approx([moved, moved], abs=0.5)
    assert tracks["displacement_y_px"] == pytest.approx([0, 0], abs=0.5)
    for name in ("displacement_px", "path_px"):
        assert tracks[name] == pytest.approx([moved, moved], abs=0.7)
    assert (tracks["path_px"] >= tracks["displacement_px"] - 1e-9).all()


def test_following_changes_nothing_but_the_ids(
    segmenter: Segmenter, followed: Segmentation
) -> None:
    plain = run(segmenter, movie(), "TYX")
    assert plain.tracks == {}
    np.testing.assert_array_equal(followed.labels > 0, plain.labels > 0)
    for name in plain.objects.keys() - {"label"}:
        np.testing.assert_array_equal(followed.objects[name], plain.objects[name])


def test_without_a_gap_allowed_the_object_comes_back_as_another_one(segmenter: Segmenter) -> None:
    result = run(segmenter, movie(), "TYX", track_threshold=0.3)
    assert result.tracks["n_frames"].tolist() == [5, 2, 2]
    assert result.tracks["n_missing"].tolist() == [0, 0, 0]


def test_stacks_over_time_are_followed_as_volumes(segmenter: Segmenter) -> None:
    image = np.stack([np.roll(np.stack([disks(n=2)] * 2), STEP_PX * t, axis=2) for t in range(3)])
    result = run(segmenter, image, "TZYX", track_threshold=0.3, stitch_threshold=0.5)
    assert np.unique(result.labels).tolist() == [0, 1, 2]
    assert result.objects["label"].tolist() == [1, 2] * 3
    assert result.tracks["displacement_z_px"] == pytest.approx([0, 0], abs=0.1)
    sizes = {"Z": 2.0, "Y": 0.5, "X": 0.5}
    new = set(track_columns(result, sizes)) - set(result.tracks)
    assert new == {
        "displacement_z_um", "displacement_y_um", "displacement_x_um", "displacement_um", "path_um",
    }  # fmt: skip
    oblong = set(track_columns(result, sizes | {"X": 0.4})) - set(result.tracks)
    assert oblong == {"displacement_z_um", "displacement_y_um", "displacement_x_um"}


def test_volumes_over_time_are_followed(segmenter: Segmenter) -> None:
    stack = ball_stack()
    second = np.roll(stack, STEP_PX, axis=2)
    missing = np.full_like(stack, stack.min())
    image = np.stack([stack, missing, second])
    # stitch_threshold is for planes: it must not join what lies in neighbouring planes here.
    chosen = {"volume_mode": "fuse", "anisotropy": "2", "diameter_px": 20, "stitch_threshold": 0.5}
    plain = run(segmenter, image, "TZYX", **chosen)
    assert plain.tracks == {}
    assert plain.objects["t"].tolist() == [0, 0, 2, 2]
    assert plain.objects["label"].tolist() == [1, 2, 3, 4]
    result = run(segmenter, image, "TZYX", **chosen, track_threshold=0.3, track_max_gap=1)
    assert result.labels.shape == image.shape
    tracks = np.zeros(5, np.int32)
    tracks[plain.objects["label"]] = result.objects["label"]
    assert sorted(tracks[1:3]) == sorted(tracks[3:5]) == [1, 2]
    np.testing.assert_array_equal(result.labels, tracks[plain.labels])
    for t, shift in ((0, 0), (2, STEP_PX)):
        assert result.labels[t, 6, 13, [13 + shift, 36 + shift]].tolist() == (
            result.labels[0, 6, 13, [13, 36]].tolist()
        )
    for name in plain.objects.keys() - {"label"}:
        np.testing.assert_array_equal(result.objects[name], plain.objects[name])
    assert list(result.tracks) == [*TRACK_COLUMNS[:6], "displacement_z_px", *TRACK_COLUMNS[6:]]
    assert result.tracks["n_missing"].tolist() == [1, 1]
    assert result.tracks["displacement_x_px"] == pytest.approx([STEP_PX, STEP_PX], abs=0.5)
    assert result.tracks["displacement_z_px"] == pytest.approx([0, 0], abs=0.3)
    blank = next(text for text in result.warnings if "no contrast" in text)
    assert blank.startswith("1 of 3 volumes have")


def test_a_movie_without_objects_is_a_valid_answer(segmenter: Segmenter) -> None:
    result = run(segmenter, np.zeros((3, 60, 70), np.uint16), "TYX", track_threshold=0.3)
    assert list(result.tracks) == TRACK_COLUMNS
    assert result.n_objects == len(result.tracks["track"]) == 0
    assert track_paths(result) == {}


@pytest.mark.parametrize(
    ("shape", "axes", "kind", "words"),
    [
        ((40, 40), "YX", AxesError, "the image has no time axis, its axes are YX."),
        ((3, 40, 40), "ZYX", AxesError, "the image has no time axis, its axes are ZYX."),
        ((1, 40, 40), "TYX", AxesError, "the image has a single time point."),
        ((2, 3, 40, 40), "TZYX", SettingsError, "a stitch_threshold above 0 or a volume_mode"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_anything_runs(
    segmenter: Segmenter,
    shape: tuple[int, ...],
    axes: str,
    kind: type[CellSegError],
    words: str,
) -> None:
    def told(*_: object) -> None:
        raise AssertionError("it ran")

    with pytest.raises(kind) as caught:
        segmenter.segment(
            np.zeros(shape, np.uint8),
            axes,
            settings=make_settings(segmenter.settings, track_threshold=0.3),
            progress=told,
        )
    assert words in caught.value.message
    assert caught.value.hint


def test_the_files_of_a_followed_movie(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tifffile.imwrite(
        tmp_path / "m.tif", movie(), imagej=True, resolution=(4, 4),
        metadata={"unit": "um", "axes": "TYX"},
    )  # fmt: skip
    command = (
        "segment", tmp_path / "m.tif", "--out", out, "--track-threshold", 0.3, "--track-max-gap",
        1, "--json", "--outputs", "labels,overlay,table,geojson", "--diameter-px", 24, "--device",
        "cpu",
    )  # fmt: skip
    outcome = cli(*command)
    assert outcome.code == 0, outcome.err
    assert outcome.images[0]["objects"] == 9
    with (out / "m_tracks.csv").open() as file:
        tracks = list(csv.DictReader(file))
    with (out / "m_objects.csv").open() as file:
        objects = list(csv.DictReader(file))
    assert [row["track"] for row in tracks] == ["1", "2"]
    for row in tracks:
        assert float(row["path_um"]) == pytest.approx(float(row["path_px"]) / 4)
    assert len(objects) == 9
    record = json.loads((out / "m_run.json").read_text())
    assert record["outputs"]["tracks"] == "m_tracks.csv"
    features = json.loads((out / "m_objects.geojson").read_text())["features"]
    for feature in features:
        label, t = int(feature["properties"]["name"]), feature["geometry"]["plane"]["t"]
        row = next(r for r in objects if (int(r["label"]), int(r["t"])) == (label, t))
        found = feature["properties"]["measurements"]["centroid_x_px"]
        assert found == pytest.approx(float(row["centroid_x_px"]), rel=1e-6)
    again = cli(*command, "--existing", "skip")
    assert again.images[0]["status"] == "skipped"
    other = cli(*command[:4], *command[6:], "--existing", "skip")
    assert other.code == 2
    assert "--track-max-gap 1 needs a --track-threshold above 0" in other.err


def test_a_file_of_someone_else_is_not_replaced(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    tifffile.imwrite(tmp_path / "m.tif", movie()[:2], imagej=True, metadata={"axes": "TYX"})
    (out / "m_tracks.csv").write_text("mine")
    outcome = cli(
        "segment", tmp_path / "m.tif", "--out", out, "--track-threshold", 0.3, "--diameter-px", 24,
        "--device", "cpu", "--json",
    )  # fmt: skip
    assert outcome.code == 1
    assert "was not written by cellseg" in outcome.images[0]["error"]
    assert sorted(path.name for path in out.iterdir()) == ["m_tracks.csv", "summary.csv"]
    assert (out / "m_tracks.csv").read_text() == "mine"


def test_the_overlay_shows_the_way_in_the_colour_of_the_track() -> None:
    labels = np.zeros((2, 20, 40), np.int32)
    labels[0, 5:10, 5:10] = labels[1, 5:10, 25:30] = 2
    paths = {1: np.zeros((1, 2)), 2: np.array([[7.0, 7.0], [7.0, 27.0]])}
    for frame in labels:
        picture = render_overlay(np.zeros(frame.shape), frame, paths)
        assert (picture[7, 7:28] == PALETTE[1]).all()
        assert (picture[5, np.flatnonzero(frame[5])] == PALETTE[1]).all()
        assert (picture[12:] == 0).all()


def test_the_overlay_of_followed_volumes_has_paths_in_one_view(cli: Cli, tmp_path: Path) -> None:
    stack = ball_stack()
    frames = np.stack([stack, np.roll(stack, STEP_PX, axis=2)])
    tifffile.imwrite(
        tmp_path / "m.tif", frames, imagej=True, resolution=(2, 2),
        metadata={"axes": "TZYX", "unit": "um", "spacing": 1.0},
    )  # fmt: skip
    outcome = cli(
        "segment", tmp_path / "m.tif", "--out", tmp_path / "out", "--track-threshold", 0.3,
        "--volume-mode", "fuse", "--diameter-px", 20, "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    picture = imagecodecs.png_decode((tmp_path / "out/m_overlay.png").read_bytes())
    for number, x in enumerate((13, 36)):
        way = picture[13, x : x + STEP_PX + 1]
        assert (way == PALETTE[number]).all(axis=1).sum() >= STEP_PX
    side = picture[26 + 6 + 6 * 2, 13 : 13 + STEP_PX + 1]
    assert (side == side[:, :1]).all(), "grey: no path in XZ"
    with (tmp_path / "out/m_tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["displacement_z_um"]) for row in rows] == pytest.approx([0, 0], abs=0.3)
    assert [int(row["n_frames"]) for row in rows] == [2, 2]


def test_the_overlay_of_a_movie_is_its_middle_frame_with_paths(cli: Cli, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", movie()[:3], imagej=True, metadata={"axes": "TYX"})
    outcome = cli(
        "segment", tmp_path / "m.tif", "--out", tmp_path / "out", "--track-threshold", 0.3,
        "--diameter-px", 24, "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    picture = imagecodecs.png_decode((tmp_path / "out/m_overlay.png").read_bytes())
    way = picture[24, 24 : 24 + 2 * STEP_PX]
    assert (way == PALETTE[0]).all(axis=1).sum() >= STEP_PX
