"""Nonsense in: never a 500, never a dead service, never a Python object."""

from __future__ import annotations

import io
import json
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.cli import disks
from tests.integration.service import Place, ask, place, segment_body

N_BODIES = 250
N_ARRAYS = 250
JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1e308,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "x" * 5000,
    "\0",
    "\ud800",
    "../..",
    [],
    [[]],
    {},
    {"a": {"b": []}},
    ["labels"] * 100,
]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("fuzz")) as there:
        there.start(fake=True)
        yield there


class Trap:
    """Writes a file if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.write_text, (self.path, "sprung")


def check(there: Place, body: bytes) -> int:
    status, answer = ask(there.find(), "POST", "/v1/segment", body)
    assert status in (200, 400, 413), (status, body[:300], answer)
    assert answer["status"] in ("ok", "refused"), (body[:300], answer)
    if answer["status"] == "ok":
        Path(answer["labels"]["path"]).unlink()
    else:
        assert answer["error"]["message"]
        assert len(answer["error"]["message"]) <= 1000
    return status


def test_fuzzed_bodies_are_refused(there: Place) -> None:
    rng = random.Random(1)
    good = json.loads(segment_body("absent.npy", settings={"diameter_px": 24}))
    for number in range(N_BODIES):
        body = (
            _mutate_json(rng, good) if number % 2 else _mutate_bytes(rng, json.dumps(good).encode())
        )
        assert check(there, body) != 200, body
    for body in (b"", b"[" * 200_000, b'{"wire":' + b"9" * 10_000 + b"}", b"\xff\xfe", b"null"):
        assert check(there, body) == 400
    assert check(there, b" " * 1_000_001) == 413
    _still_well(there)


def test_fuzzed_arrays_are_refused_or_segmented(there: Place, tmp_path: Path) -> None:
    rng = random.Random(2)
    folder = there.engine().exchange_folders[0]
    stream = io.BytesIO()
    np.save(stream, disks((40, 50), n=1))
    good = stream.getvalue()
    for number in range(N_ARRAYS):
        (folder / f"f{number}.npy").write_bytes(_mutate_array(rng, good))
        check(there, segment_body(f"f{number}.npy"))
        assert not (folder / f"f{number}.npy").exists()
    _still_well(there)


def test_arrays_that_are_no_images_are_refused(there: Place, tmp_path: Path) -> None:
    folder = there.engine().exchange_folders[0]
    sprung = tmp_path / "sprung"
    objects = np.array([[Trap(sprung)]], dtype=object)
    np.save(folder / "objects.npy", objects, allow_pickle=True)
    (folder / "pickle.npy").write_bytes(pickle.dumps(Trap(sprung)))
    np.savez(folder / "zip.npz", disks())
    (folder / "zip.npz").rename(folder / "zip.npy")
    np.save(folder / "complex.npy", np.zeros((8, 8), np.complex64))
    np.save(folder / "text.npy", np.full((8, 8), "cell"))
    np.save(folder / "dates.npy", np.zeros((8, 8), "datetime64[s]"))
    np.save(folder / "records.npy", np.zeros((8, 8), [("a", "u1"), ("b", "O")]))
    np.save(folder / "wide.npy", np.zeros((8, 8), np.longdouble))
    np.save(folder / "many.npy", np.zeros((1,) * 8))
    np.save(folder / "empty.npy", np.zeros((0, 8)))
    (folder / "nothing.npy").write_bytes(b"")
    for path in sorted(folder.glob("*.npy")):
        status, answer = ask(there.find(), "POST", "/v1/segment", segment_body(path.name))
        about = answer["error"]
        assert answer["status"] == "refused", path
        assert status == 400, (path, answer)
        assert about["code"] in ("array", "axes", "image"), (path, about)
        assert not path.exists()
    assert not sprung.exists()


def _still_well(there: Place) -> None:
    engine = there.engine()
    assert engine.pid == there.processes[0].pid
    assert engine.status()["counters"]["jobs_failed"] == 0
    assert engine.segment(disks(), "YX").n_objects == 1
    assert "Traceback" not in there.log
    assert there.exchanged() == []


def _mutate_json(rng: random.Random, good: dict[str, Any]) -> bytes:
    request = json.loads(json.dumps(good))
    for _ in range(rng.randint(1, 3)):
        place = rng.choice(
            [request] + [value for value in request.values() if isinstance(value, dict)]
        )
        key = rng.choice([*place, "more", "outputs", "title", "client", "channel_names", "model"])
        place[key] = rng.choice(JUNK)
    return json.dumps(request).encode()


def _mutate_bytes(rng: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randint(1, 20)]
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 10))
        if not data:
            return b""
    return bytes(data)


def _mutate_array(rng: random.Random, good: bytes) -> bytes:
    header_end = 128
    if rng.random() < 0.7:
        return _mutate_bytes(rng, good[:header_end]) + good[header_end:]
    if rng.random() < 0.5:
        return good[: rng.randrange(len(good))]
    return good.replace(b"<u2", rng.choice([b">u2", b"<f2", b"<i2", b"|O8", b"<c2", b"<U1"]))
