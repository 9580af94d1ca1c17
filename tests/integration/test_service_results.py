"""What the service gives: the labels of `cellseg segment`, for local and remote clients."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cellseg_client
from cellseg_client import Engine, Progress, RefusedError
from cellseg_engine import Segmenter, make_settings
from cellseg_engine.cli.demo import DEMO_FOLDER
from cellseg_engine.io.images import read_image
from tests.conftest import ROOT
from tests.integration.cli import Cli, disks
from tests.integration.service import (
    Place,
    ask,
    client_folder,
    old_pythons,
    place,
    segment_body,
    wait_until,
)

OUTPUTS = ("labels", "rois", "table", "probability", "flows")

FROM_OLD_PYTHON = """
import json, sys, threading
import numpy as np
import cellseg_client
image = np.load(sys.argv[1])
engine = cellseg_client.ensure(timeout_s=30)
result = engine.segment(image, "YX", json.loads(sys.argv[3]), outputs=["labels", "rois", "table"])
np.save(sys.argv[2], result.labels)
remote = cellseg_client.connect(engine.url, engine.token)
remote = remote.segment(image, "YX", json.loads(sys.argv[3]))
print(json.dumps({
    "python": list(sys.version_info[:2]),
    "same": bool(np.array_equal(remote.labels, result.labels)),
    "rows": len(result.table["label"]),
    "engine_imported": [n for n in sys.modules if n.startswith(("cellseg_e", "cellseg_s"))],
    "threads": [t.name for t in threading.enumerate() if not t.daemon],
}))
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("results")) as there:
        there.start()
        yield there


@pytest.fixture
def engine(there: Place) -> Engine:
    return there.engine()


def test_a_stack_as_one_volume_equals_the_engine(engine: Engine) -> None:
    plane = read_image(demo_image()).pixels[:60, :60]
    image = np.stack([plane] * 4)
    values = {"volume_mode": "fuse", "diameter_px": 25, "device": "cpu"}
    sizes = {"Z": 1.5, "Y": 0.5, "X": 0.5}
    answer = engine.segment(image, "ZYX", values, OUTPUTS, pixel_size_um=sizes)
    expected = Segmenter(make_settings(values)).segment(image, "ZYX", pixel_size_um=sizes)
    np.testing.assert_array_equal(answer.labels, expected.labels)
    assert answer.provenance["volume"] == expected.provenance["volume"]
    assert answer.provenance["volume"]["anisotropy"] == 3
    assert answer.flows is not None
    assert answer.flows.shape == (3, *image.shape)
    assert answer.table is not None
    assert {"volume_um3", "surface_um2", "centroid_z_um"} <= set(answer.table)
    with pytest.raises(RefusedError, match="contradicts the calibration"):
        engine.segment(image, "ZYX", {**values, "anisotropy": "2"}, pixel_size_um=sizes)
    with pytest.raises(RefusedError, match="needs planes along Z"):
        engine.segment(plane, "YX", values)


def demo_image() -> Path:
    return sorted(p for p in DEMO_FOLDER.iterdir() if p.suffix in (".png", ".tif"))[0]


def test_tracks_come_with_the_table(engine: Engine) -> None:
    movie = np.stack([np.roll(disks(n=2), 4 * t, axis=1) for t in range(3)])
    settings = {"diameter_px": 24, "track_threshold": 0.3, "device": "cpu"}
    sizes = {"Y": 0.5, "X": 0.5}
    result = engine.segment(
        movie, "TYX", settings, ("labels", "table"), pixel_size_um=sizes, title="a movie"
    )
    assert result.tracks is not None
    assert np.unique(np.asarray(result.labels)).tolist() == [0, 1, 2]
    assert result.tracks["n_frames"].tolist() == [3, 3]
    assert result.tracks["path_um"] == pytest.approx(result.tracks["path_px"] / 2)
    assert result.n_objects == len(np.asarray(result.table and result.table["label"])) == 6
    assert engine.segment(movie, "TYX", settings).tracks is None
    with pytest.raises(RefusedError, match="the image has no time axis"):
        engine.segment(movie[0], "YX", settings)


@pytest.mark.parametrize("settings", [{}, {"diameter_px": 25, "flow_threshold": 0.8}])
def test_everything_equals_cellseg_segment(
    engine: Engine, there: Place, cli: Cli, tmp_path: Path, settings: dict[str, Any]
) -> None:
    path = tmp_path / "nuclei.tif"
    tifffile.imwrite(path, np.ascontiguousarray(read_image(demo_image()).pixels[:160, :160]))
    options = [x for k, v in settings.items() for x in ("--" + k.replace("_", "-"), v)]
    assert cli("segment", path, "--out", tmp_path, *options).code == 0
    expected = tifffile.imread(tmp_path / f"{path.stem}_labels.tif")

    image = read_image(path)
    result = engine.segment(
        image.pixels,
        image.axes,
        settings,
        OUTPUTS,
        channel_names=image.channel_names,
        pixel_size_um=image.pixel_size_um,
    )
    assert result.labels is not None
    assert result.n_objects > 1
    np.testing.assert_array_equal(result.labels, expected)
    assert result.labels.dtype == np.uint16
    assert result.rois == (tmp_path / f"{path.stem}_rois.zip").read_bytes()
    run = json.loads((tmp_path / f"{path.stem}_run.json").read_text(encoding="utf-8"))
    assert result.provenance["model"] == run["model"]
    assert result.provenance["settings"] == run["settings"]
    header = (tmp_path / f"{path.stem}_objects.csv").read_text(encoding="utf-8").splitlines()[0]
    assert result.table is not None
    assert list(result.table) == header.split(",")
    assert result.probability is not None
    assert result.flows is not None
    assert result.probability.shape == expected.shape
    assert result.flows.shape == (2, *expected.shape)
    assert there.exchanged() == []


def test_layouts_of_the_array_make_no_difference(engine: Engine) -> None:
    image = disks()
    expected = engine.segment(image, "YX", {"diameter_px": 24}).labels
    assert expected is not None
    assert expected.max() == 4
    for same in (
        np.asfortranarray(image),
        image.astype(">u2"),
        image.astype(np.float64),
        np.repeat(image, 2, axis=1)[:, ::2],
    ):
        labels = engine.segment(same, "YX", {"diameter_px": 24}).labels
        np.testing.assert_array_equal(labels, expected)
    transposed = engine.segment(image.T, "XY", {"diameter_px": 24}).labels
    np.testing.assert_array_equal(transposed, expected)


def test_python_3_8_and_3_9_without_the_engine_and_with_a_proxy_set(
    there: Place, tmp_path: Path
) -> None:
    pythons = old_pythons()
    image = disks()
    np.save(tmp_path / "image.npy", image)
    expected = there.engine().segment(image, "YX", {"diameter_px": 24}).labels
    dead = "http://127.0.0.1:9"
    environment = there.environment(
        PYTHONPATH=str(client_folder(tmp_path)),
        **dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), dead),
    )
    for python in pythons:
        done = subprocess.run(
            [python, "-c", FROM_OLD_PYTHON, "image.npy", "labels.npy", '{"diameter_px": 24}'],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["python"] < [3, 10]
        assert answer["same"]
        assert answer["rows"] == 4
        assert answer["engine_imported"] == []
        assert answer["threads"] == ["MainThread"]
        np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), expected)
    assert there.exchanged() == []


def test_a_remote_client_gets_the_same(there: Place, engine: Engine) -> None:
    image = disks((200, 300), n=6)
    expected = engine.segment(image, "YX", {"diameter_px": 24}, OUTPUTS)
    remote = cellseg_client.connect(engine.url, engine.token)
    assert remote.exchange_folders == []
    result = remote.segment(image, "YX", {"diameter_px": 24}, OUTPUTS)
    assert expected.labels is not None
    for name in ("labels", "probability", "flows"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    assert result.rois == expected.rois
    assert there.exchanged() == []
    with pytest.raises(cellseg_client.AccessError, match="no engine with this token"):
        cellseg_client.connect(engine.url, "0" * 64)


def test_progress_and_the_models_and_the_schema(engine: Engine) -> None:
    seen: list[Progress] = []
    engine.segment(disks(), "YX", {"diameter_px": 24}, progress=seen.append)
    assert seen[0].stage == "queued"
    assert {"network", "labels"} <= {news.stage for news in seen}
    assert "nuclei" in [model["name"] for model in engine.models()]
    assert "diameter_px" in engine.schema()["settings"]["properties"]


def test_one_copy_of_the_model_serves_all(there: Place, engine: Engine) -> None:
    engine.segment(disks(), "YX", {"diameter_px": 24, "device": "cpu"})
    engine.segment(disks(), "YX", {"diameter_px": 24, "device": "auto", "model": "nuclei"})
    assert engine.status()["counters"]["models_loaded"] == 1
    assert engine.status()["device"] == "cpu" or "cuda" in engine.status()["device"]


def test_a_thumbnail_of_the_last_result(there: Place, engine: Engine) -> None:
    engine.segment(disks((600, 700)), "YX", {"diameter_px": 24}, title="a well")
    newest: dict[str, Any] = {}

    def is_drawn() -> bool:
        newest.update(engine.status()["recent"][0])
        return newest["thumbnail"] is not None

    wait_until(is_drawn, "the thumbnail")
    assert newest["title"] == "a well"
    picture = engine._connection.open("GET", newest["thumbnail"]).read()
    assert picture.startswith(b"\x89PNG")
    width, height = (int.from_bytes(picture[n : n + 4], "big") for n in (16, 20))
    assert max(width, height) <= 256


def test_fifty_concurrent_requests_get_fifty_right_results(engine: Engine) -> None:
    images = [disks((48, 48), n=n % 2) for n in range(50)]
    counts: dict[int, int] = {}

    def segment(index: int) -> None:
        result = engine.segment(images[index], "YX", {"diameter_px": 24}, client=str(index % 5))
        counts[index] = result.n_objects

    threads = [threading.Thread(target=segment, args=(n,), daemon=True) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    alone = [engine.segment(image, "YX", {"diameter_px": 24}).n_objects for image in images[:2]]
    assert [counts.get(n) for n in range(50)] == [alone[n % 2] for n in range(50)]


@pytest.mark.parametrize(
    ("axes", "settings", "code", "words"),
    [
        ("ZYX", {}, "axes", "ZYX name 3 dimensions"),
        ("YX", {"diameter_px": -1}, "settings", "diameter_px = -1 is not allowed"),
        ("YX", {"nonsense": 1}, "settings", "nonsense is not a setting"),
        ("YX", {"model": "nucleii"}, "model-not-found", "There is no model 'nucleii'"),
        ("YX", {"channel": "7"}, "channel", "7"),
        ("YX", {"device": "cuda:99"}, "device", "cuda:99 is not available"),
    ],
)
def test_mistakes_are_refused_with_the_engine_s_own_sentence(
    there: Place, engine: Engine, axes: str, settings: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        engine.segment(disks(), axes, settings)
    assert caught.value.code == code
    assert there.exchanged() == []


def test_another_version_is_told_which_side_to_update(there: Place, engine: Engine) -> None:
    for wire, side in ((0, "update the program that asks"), (2, "update the engine")):
        status, answer = ask(there.find(), "POST", "/v1/segment", segment_body("a.npy", wire=wire))
        assert status == 400
        assert answer["error"]["code"] == "wire"
        assert side in answer["error"]["message"]


def test_nan_pixels_are_refused(there: Place, engine: Engine) -> None:
    image = disks().astype(np.float32)
    image[3, 4] = np.nan
    with pytest.raises(RefusedError, match="1 pixels that are NaN"):
        engine.segment(image, "YX", {"diameter_px": 24})
    assert there.exchanged() == []


def test_the_weights_that_a_segmentation_would_use(
    there: Place, engine: Engine, tmp_path: Path
) -> None:
    def ask_for(settings: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        body = json.dumps({"wire": 1, "settings": settings}).encode()
        return ask(there.find(), "POST", "/v1/weights", body)

    image = read_image(demo_image()).pixels[:60, :60]
    mine = tmp_path / "mine.safetensors"
    hashes = []
    for source in ("nuclei-provisional", "phase"):
        shutil.copy(ROOT / f"models/{source}.safetensors", mine)
        for models in ({"model": str(mine)}, {"model": "nuclei", "model_side_views": str(mine)}):
            used = engine.segment(image, "YX", {"diameter_px": 25, "device": "cpu", **models})
            expected = used.provenance["model"]["weights_sha256"]
            assert ask_for(models) == (200, {"weights_sha256": expected})
            hashes.append(tuple(expected))
    assert len(set(hashes)) == 4
    assert [len(each) for each in hashes] == [1, 2, 1, 2]
    mine.unlink()
    for model, code in ((str(mine), "model-not-found"), ("gone", "model-not-found")):
        status, answer = ask_for({"model": model})
        assert (status, answer["error"]["code"]) == (400, code)
    assert ask_for({"diameter": 3})[0] == 400
