"""What is refused before it runs: a sentence, a trace on the status page, nothing left behind."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellseg_engine.errors import (
    MemoryNeededError,
    ModelNotFoundError,
    ReadError,
    SettingsError,
)
from cellseg_engine.settings import make_settings
from cellseg_engine.train.folder import read_or_begin
from cellseg_service import memory
from cellseg_service.exchange import Exchange
from cellseg_service.messages import WeightsRequest, settings_of
from cellseg_service.model_files import find_stamps, weights_sha256
from cellseg_service.options import ServiceOptions, parse
from cellseg_service.service import Service
from cellseg_service.training_messages import TrainRequest, fine_tuning_of
from tests.integration.cli import disks
from tests.integration.service import Place, ask, place, segment_body

NOBODY = "~nobody-of-that-name/cells"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("refusals")) as there:
        there.start(fake=True)
        yield there


def post(there: Place, path: str, **values: Any) -> tuple[int, dict[str, Any]]:
    return ask(there.find(), "POST", path, json.dumps({"wire": 1, **values}).encode())


# --- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"settings": {"diameter_px": -1}}, "diameter_px"),
        ({"image": {"array": "absent.npy"}}, "There is no file 'absent.npy'"),
        ({"axes": "TCZYX"}, "axes"),
    ],
)
def test_an_image_refused_on_arrival_is_on_the_status_page(
    there: Place, more: dict[str, Any], words: str
) -> None:
    engine = there.engine()
    before = engine.status()["counters"]["jobs_refused"]
    np.save(engine.exchange_folders[0] / "image.npy", disks())
    status, answer = ask(
        there.find(),
        "POST",
        "/v1/segment",
        segment_body("image.npy", title="B07", client="me", **more),
    )
    assert status == 400
    assert words in answer["error"]["message"]
    now = engine.status()
    assert now["counters"]["jobs_refused"] == before + 1
    shown = now["recent"][0]
    assert (shown["title"], shown["client"], shown["status"]) == ("B07", "me", "refused")
    assert (shown["error"], shown["seconds"], shown["thumbnail"]) == (answer["error"], None, None)
    for path in there.exchanged():  # not looked at yet; the client removes it
        path.unlink()


@pytest.mark.parametrize(
    "more", [{"settings": {"diameter_px": -1}}, {"wire": 2}, {"nonsense": 1}, {"outputs": "rois"}]
)
def test_the_upload_of_a_refused_image_is_removed(there: Place, more: dict[str, Any]) -> None:
    stream = io.BytesIO()
    np.save(stream, disks())
    upload = ask(there.find(), "POST", "/v1/uploads", stream.getvalue())[1]["upload"]
    (path,) = there.exchanged()
    assert path.stat().st_mode & 0o077 == 0
    assert post(there, "/v1/segment", **{"image": {"upload": upload}, **more})[0] == 400
    assert there.exchanged() == []


def test_an_image_that_fits_once_others_are_done_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Exchange(None, tmp_path)
    service = Service(ServiceOptions(), "t" * 64, exchange, lambda _: pytest.fail("no model"))
    loop = asyncio.new_event_loop()

    def accept() -> int:
        name = exchange.save_array(disks()).name
        return service.accept(segment_body(name), loop)[1]

    try:
        assert accept() == 0
        monkeypatch.setattr(memory, "available_bytes", lambda: 50_000)  # the first one has it
        assert accept() == 1
        monkeypatch.setattr(memory, "total_bytes", lambda: 60_000)
        with pytest.raises(MemoryNeededError, match=r"and this computer has 0\.06 MB\."):
            accept()
        service.stop()
        service.scheduler._is_stopping = False
        with pytest.raises(MemoryNeededError, match=r"and 0\.05 MB are free\."):
            accept()
        assert list(exchange.large.glob("*.npy")) == []
    finally:
        exchange.close()
        loop.close()


# --- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["sub/mine.safetensors", "./mine", "mine.pth", "..\\mine"])
def test_a_model_by_a_path_that_is_not_whole_is_refused(model: str) -> None:
    words = "is no whole path"
    for name in ("model", "model_side_views"):
        request = WeightsRequest(wire=1, settings={name: model})
        with pytest.raises(SettingsError, match=words):
            settings_of(request, allow_paths=True)
    training = TrainRequest(wire=1, folder="/cells", start_from=model)
    with pytest.raises(SettingsError, match=words):
        fine_tuning_of(training)


def test_whole_paths_and_names_of_models_are_taken() -> None:
    for model in ("nuclei", "slow", "auto", "~/mine.safetensors", "/models/mine"):
        settings = settings_of(WeightsRequest(wire=1, settings={"model": model}), allow_paths=True)
        assert settings.model == model


# --- weights -------------------------------------------------------------------------------------


def test_what_is_no_plain_file_is_never_read_as_weights(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in ("/dev/zero", str(tmp_path / "pipe.safetensors"), str(tmp_path)):
        with pytest.raises(ModelNotFoundError, match="is no weights file but a device, a pipe"):
            weights_sha256(make_settings(model=path))
        assert find_stamps(path) == ()
    with pytest.raises(ModelNotFoundError, match="cannot be read: File name too long"):
        weights_sha256(make_settings(model="/" + 300 * "x"))


# --- training folders ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/training/folder", "/v1/training/images", "/v1/train"])
def test_folders_that_cannot_be_are_refused_in_a_sentence(
    there: Place, tmp_path: Path, path: str
) -> None:
    more: dict[str, Any] = {}
    if path == "/v1/training/images":
        more = {"axes": "YX", "image": {"array": "a.npy"}, "rois": {"array": "r.npy"}}
    for folder, words in (
        (NOBODY, f"The training folder '{NOBODY}' is no whole path."),
        (str(tmp_path / (300 * "x")), "File name too long"),
    ):
        for name in ("a.npy", "r.npy") if more else ():
            np.save(there.exchange_folders()[0] / name, np.zeros((8, 8), np.uint8))
        status, answer = post(there, path, folder=folder, **more)
        assert (status, answer["status"]) == (400, "refused"), answer
        assert words in answer["error"]["message"]
        assert there.exchanged() == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_permission_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)  # root, who may run this test, may read all
    with pytest.raises(ReadError, match=r"The folder .* cannot be read: Permission denied\."):
        read_or_begin(tmp_path)


def test_arrays_are_removed_also_when_the_request_is_wrong(there: Place, tmp_path: Path) -> None:
    files = {name: {"array": f"{name}.npy"} for name in ("image", "rois", "predicted")}
    wrongs: list[dict[str, Any]] = [
        {"wire": 2},
        {"more": 1},
        {"axes": 5},
        {"image": {"array": "absent.npy"}},
    ]
    for wrong in wrongs:
        for name in files:
            np.save(there.exchange_folders()[0] / f"{name}.npy", np.zeros((8, 8), np.uint8))
        values: dict[str, Any] = {"folder": str(tmp_path / "cells"), "axes": "YX", **files, **wrong}
        assert post(there, "/v1/training/images", **values)[0] == 400
        left = [path.name for path in there.exchanged()]
        assert left == (["image.npy"] if "image" in wrong else [])
        for path in there.exchanged():
            path.unlink()
    for body in (b"[", b"[]", b'{"image": 5}', b'{"image": {"array": ["x"]}}'):
        assert ask(there.find(), "POST", "/v1/training/images", body)[0] == 400


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--upload-limit", "nan", "nan is no size in GB; use more than 0"),
        ("--upload-limit", "0", "0 is no size in GB"),
        ("--upload-limit", "1e300", "1e300 is no size in GB"),
        ("--keep", "0", "0 would remove results before they are read; use 1 or more"),
        ("--keep", "nan", "nan are no seconds"),
    ],
)
def test_options_that_cannot_be(
    option: str, value: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([option, value])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
