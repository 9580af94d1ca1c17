"""Models that come beside the program: listed, got from a file or an address, checked, removed."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cellseg_engine.errors import ModelNotFoundError, ReadError, SettingsError, WeightsError
from cellseg_engine.nets.card import write_weights
from cellseg_engine.nets.weights import load_weights
from cellseg_engine.zoo import fetch, store
from cellseg_engine.zoo.fetch import fetch_model
from tests.integration.cli import Cli, official

CONTENT = b"weights" * 1000


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with the file of a separate model, and a catalogue that names it."""
    folder = tmp_path / "origin"
    folder.mkdir()
    (folder / "far.safetensors").write_bytes(CONTENT)
    catalogue = tmp_path / "models.toml"
    catalogue.write_text(
        '[far]\nsource = "separate"\nfiles = ["far.safetensors"]\n'
        f'sha256 = ["{hashlib.sha256(CONTENT).hexdigest()}"]\ndescription = "Far away."\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(store, "CATALOGUE", catalogue)
    monkeypatch.setenv(store.MODELS_VARIABLE, str(tmp_path / "models"))
    return folder


class _CutOff(BaseHTTPRequestHandler):
    """Announces a piece of 255 bytes, and gives one of them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"ff\r\nw")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _WrongLength(_CutOff):
    """Says no number for the length of what it gives."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "abc")
        self.end_headers()
        self.wfile.write(CONTENT)


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def address(origin: Path) -> Iterator[str]:
    with serving(functools.partial(SimpleHTTPRequestHandler, directory=str(origin))) as address:
        yield address


def test_one_that_is_not_here_says_how_to_get_it(origin: Path) -> None:
    assert store.list_models() == []
    with pytest.raises(ModelNotFoundError, match=r"not on this computer") as raised:
        store.find_model("far")
    assert "cellseg models get far --from" in raised.value.hint


@pytest.mark.parametrize("place", ["file", "folder"])
def test_from_a_file(origin: Path, place: str) -> None:
    given = origin / "far.safetensors" if place == "file" else origin
    seen: list[tuple[int, int]] = []
    entry = fetch_model("far", str(given), lambda *counts: seen.append(counts))
    assert entry.files[0].read_bytes() == CONTENT
    assert store.verify(entry)
    assert seen[-1][0] == len(CONTENT)
    assert [model.name for model in store.list_models()] == ["far"]
    # Once it is here, nothing is read again.
    assert fetch_model("far", str(origin / "gone")) == entry

    store.remove_model("far")
    assert [model.name for model in store.absent_models()] == ["far"]


def test_over_the_network(address: str) -> None:
    assert fetch_model("far", address).files[0].read_bytes() == CONTENT


def test_from_the_exact_address(address: str) -> None:
    assert fetch_model("far", address + "far.safetensors").is_here


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("{address}sub/", "the server answers 404"),
        ("http://127.0.0.1:1/", "no connection"),
        ("http://127.0.0.1:1/My Models/", "not an address; a space in one is written %20"),
        ("{folder}/none.safetensors", "No such file"),
    ],
)
def test_what_cannot_be_read(address: str, origin: Path, place: str, reason: str) -> None:
    with pytest.raises(ReadError, match=reason) as raised:
        fetch_model("far", place.format(address=address, folder=origin))
    assert "copy the file from another computer" in raised.value.hint
    assert list(store.models_folder().rglob("*")) == []


def test_an_answer_that_is_cut_off(origin: Path) -> None:
    words = r"^far\.safetensors cannot be read from http.*: the answer was cut off"
    with serving(_CutOff) as address, pytest.raises(ReadError, match=words):
        fetch_model("far", address)
    assert list(store.models_folder().rglob("*.safetensors")) == []


def test_an_answer_with_a_length_that_is_no_number(origin: Path) -> None:
    seen: list[tuple[int, int]] = []
    with serving(_WrongLength) as address:
        fetch_model("far", address, lambda *counts: seen.append(counts))
    assert seen[-1] == (len(CONTENT), 0)


def test_an_endless_file_does_not_fill_the_disk(
    origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 1 << 21)
    with (origin / "far.safetensors").open("wb") as file:
        file.truncate(1 << 22)
    done: list[int] = []
    with pytest.raises(WeightsError, match=r"has more than .* so it is not far\.safetensors"):
        fetch_model("far", str(origin), lambda so_far, _: done.append(so_far))
    assert max(done) <= 1 << 21
    assert list(store.models_folder().rglob("*.safetensors")) == []


def test_a_damaged_one_that_is_not_got_from_elsewhere(
    origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = store.CATALOGUE.read_text(encoding="utf-8")
    store.CATALOGUE.write_text(text.replace("separate", "shipped"), encoding="utf-8")
    monkeypatch.setattr(store, "SHIPPED_FOLDER", origin)
    assert fetch_model("far", "/nowhere").is_here
    (origin / "far.safetensors").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="far are missing or damaged") as raised:
        fetch_model("far", "/nowhere")
    assert raised.value.hint == "Install cellseg-engine again."


@pytest.mark.parametrize("is_checkout", [False, True])
def test_a_damaged_one_is_got_again(
    cli: Cli, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_checkout: bool
) -> None:
    place = tmp_path / "checkout"
    monkeypatch.setattr(store, "CHECKOUT_FOLDER", place)
    damaged = (place if is_checkout else store.separate_folder()) / "far.safetensors"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(CONTENT[:-1])
    command = "cellseg models get far --from FOLDER_OR_ADDRESS"
    assert f"Get it again: {command}" in cli("doctor").out
    entry = fetch_model("far", str(origin))
    assert entry.files == (damaged,)
    assert damaged.read_bytes() == CONTENT
    assert store.verify(entry)
    assert [path.name for path in damaged.parent.iterdir()] == ["far.safetensors"]


def test_an_older_one_says_how_to_get_it_again(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.separate_folder() / "far.safetensors"
    path.parent.mkdir(parents=True)
    older = load_weights(official(tmp_path / "older.pth"))
    write_weights(path, older.card, older.arrays)
    with pytest.raises(WeightsError, match="is not the file that belongs to far") as raised:
        store.read_model("far")
    assert raised.value.hint == "Get it again: cellseg models get far --from FOLDER_OR_ADDRESS"


def test_another_file_is_refused_and_nothing_is_left(origin: Path) -> None:
    (origin / "far.safetensors").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=r"is not the far\.safetensors that belongs to far"):
        fetch_model("far", str(origin))
    assert [path for path in store.models_folder().rglob("*") if path.is_file()] == []


def test_its_name_is_taken(origin: Path) -> None:
    with pytest.raises(SettingsError, match="there already") as raised:
        store.import_model([origin / "far.safetensors"], "far")
    # It could not be removed either: the name stays taken.
    assert raised.value.hint == "Give another name (on the command line: --name)."


def test_the_command(cli: Cli, origin: Path) -> None:
    listed = cli("models", "list").out
    assert "far  (not on this computer)" in listed
    assert "cellseg models get NAME --from FOLDER_OR_ADDRESS" in listed
    assert "far is here" in cli("models", "get", "far", "--from", origin).out
    unknown = cli("models", "get", "phantom", "--from", origin)
    assert unknown.code == 2
    assert "There is no model 'phantom'" in unknown.err
