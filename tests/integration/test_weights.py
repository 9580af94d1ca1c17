"""Weights files: official ones load as they are, damaged and dangerous ones are refused."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from cellseg_engine.errors import ModelNotFoundError, WeightsError
from cellseg_engine.io.plain_pickle import RefusedError, load_plain_npy
from cellseg_engine.nets import card as card_module
from cellseg_engine.nets.card import (
    ModelCard,
    WeightsFile,
    read_card,
    read_weights,
    write_weights,
)
from cellseg_engine.nets.size_model import (
    SizeModel,
    read_official_size_model,
    write_official_size_model,
)
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.nets.weights import (
    FIRST_LAYER,
    build_network,
    export_official,
    load_weights,
)
from cellseg_engine.train.prepare import is_chain
from cellseg_engine.zoo.store import read_model

OFFICIAL_KEYS = 313


def random_state(n_channels: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return ResidualUNet(n_channels).state_dict()


def save(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


def outputs(net: ResidualUNet) -> np.ndarray:
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        fields, _ = net(torch.randn(1, net.n_channels, 64, 64, generator=generator))
    return np.asarray(fields.numpy())


def test_the_layout_is_the_official_one(shared: Path) -> None:
    listing = (shared / "reference/cellpose-state-dict.txt").read_text().splitlines()
    ours = [f"{name} {tuple(value.shape)}" for name, value in random_state().items()]
    # torch lists parameters before sub-modules; only the two diameters move
    assert sorted(ours) == sorted(listing)
    assert len(ours) == OFFICIAL_KEYS


def test_a_real_official_file_loads_as_it_is(shared: Path) -> None:
    path = shared / "weights/nuclei_official_layout.pth"
    weights = load_weights(path)
    assert weights.card.diam_mean_px == 17
    assert weights.card.diam_labels_px == pytest.approx(22.33, abs=0.01)
    assert weights.card.flow_variant == "v3"
    assert weights.size_model is not None
    expected = torch.load(path, weights_only=True)
    for name, value in build_network(weights).state_dict().items():
        if not name.startswith("diam_"):
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_shipped_half_precision_weights_are_close_to_the_official_file(shared: Path) -> None:
    official = outputs(build_network(load_weights(shared / "weights/nuclei_official_layout.pth")))
    shipped = outputs(build_network(read_model("nuclei-provisional")[0]))
    assert np.sqrt(((shipped - official) ** 2).mean() / (official**2).mean()) < 3e-3


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_other_channel_counts_are_honoured(tmp_path: Path, n_channels: int) -> None:
    weights = load_weights(save(tmp_path / "mine.pth", random_state(n_channels)))
    assert weights.card.n_channels == n_channels
    assert build_network(weights).n_channels == n_channels


def test_files_older_than_version_2_get_their_diameter_from_the_name(tmp_path: Path) -> None:
    state = {k: v for k, v in random_state().items() if not k.startswith("diam_")}
    nuclei = load_weights(save(tmp_path / "nucleitorch_0", state)).card
    cyto = load_weights(save(tmp_path / "cytotorch_0", state)).card
    assert (nuclei.diam_mean_px, nuclei.flow_variant) == (17, "v2")
    assert (cyto.diam_mean_px, cyto.flow_variant) == (30, "v2")


def test_export_and_own_format_round_trip(tmp_path: Path) -> None:
    weights = load_weights(save(tmp_path / "a.pth", random_state()))
    export_official(tmp_path / "b.pth", weights)
    again = load_weights(tmp_path / "b.pth")
    size = SizeModel(np.arange(256.0), np.ones(256), 30.0, 0.25, (5.0, 60.0))
    card = weights.card.with_changes(name="c", diameter_range_px=(5.0, 60.0))
    write_weights(tmp_path / "c.safetensors", card, weights.arrays, size)
    own = load_weights(tmp_path / "c.safetensors")
    assert read_card(tmp_path / "c.safetensors") == own.card == card
    assert own.size_model is not None
    np.testing.assert_array_equal(own.size_model.coefficients, size.coefficients)
    assert own.size_model.range_px == (5.0, 60.0)
    for file in (again, own):
        assert file.arrays.keys() == weights.arrays.keys()
        np.testing.assert_array_equal(outputs(build_network(file)), outputs(build_network(weights)))


def test_weights_in_eight_bits_are_those_of_a_quarter_of_the_file(tmp_path: Path) -> None:
    weights = read_model("nuclei-provisional")[0]
    files = {}
    for storage in ("float32", "int8"):
        path = tmp_path / f"{storage}.safetensors"
        write_weights(path, weights.card, weights.arrays, weights.size_model, storage=storage)
        files[storage] = load_weights(path)
    exact, small = files["float32"], files["int8"]
    numbers = sum(array.size for array in weights.arrays.values())
    assert (tmp_path / "int8.safetensors").stat().st_size < 0.27 * 4 * numbers
    assert small.card == exact.card
    assert small.size_model is not None
    assert small.arrays.keys() == exact.arrays.keys()
    for name, array in small.arrays.items():
        weight = exact.arrays[name].astype(np.float32)
        assert array.dtype == np.float32 or array.ndim < 2
        largest = np.abs(weight).reshape(len(weight), -1).max(1) if weight.ndim > 1 else 0
        error = np.abs(array - weight).reshape(*weight.shape[:1], -1).max(-1)
        assert (error <= np.asarray(largest) * 0.5001 / 127).all(), name
    mine, theirs = (outputs(build_network(files[name])) for name in ("int8", "float32"))
    assert np.sqrt(((mine - theirs) ** 2).mean() / (theirs**2).mean()) < 0.03


def test_weights_that_come_with_the_program_are_bases() -> None:
    nuclei = read_model("nuclei")[0]
    went_on = nuclei.card.with_changes(start_name="nuclei-provisional", start_sha256="8c73")
    assert not is_chain(WeightsFile(went_on, {}, None, nuclei.sha256))
    assert is_chain(WeightsFile(went_on, {}, None, "0" * 64))
    assert not is_chain(WeightsFile(ModelCard("mine", 2, 17.0, 17.0), {}, None, "0" * 64))
    assert not is_chain(None)


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are refused, with words of the message."""
    state = random_state()
    text = folder / "text.pth"
    text.write_text("these are not weights")
    whole = save(folder / "whole.pth", state).read_bytes()
    cut = folder / "cut.pth"
    cut.write_bytes(whole[: len(whole) // 2])
    empty = folder / "empty.pth"
    empty.write_bytes(b"")
    gone = {k: v for k, v in state.items() if k != "output.2.bias"}
    more = {**state, "extra.weight": torch.zeros(1)}
    four = {**state, "output.2.weight": torch.zeros(4, 32, 1, 1), "output.2.bias": torch.zeros(4)}
    nan = {**state, "output.2.bias": torch.full((3,), float("nan"))}
    scalar = {**state, "output.2.weight": torch.tensor(1.0)}
    no_data = {**state, "output.2.bias": torch.zeros(3, device="meta")}
    imaginary = {**state, "output.2.bias": torch.zeros(3, dtype=torch.cfloat)}
    variance = {**state, FIRST_LAYER.replace("weight", "running_var"): -torch.ones(2)}
    channels = {**state, FIRST_LAYER: torch.zeros(1).expand(10**9)}
    shape = {**state, "output.0.weight": torch.zeros(33)}
    own = folder / "own.safetensors"
    own.write_bytes(b"\x10\0\0\0\0\0\0\0{broken json...}")
    foreign = folder / "foreign.safetensors"
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, foreign)
    return {
        "text": (text, "damaged or not a weights file"),
        "cut": (cut, "damaged or not a weights file"),
        "empty": (empty, "damaged or not a weights file"),
        "missing": (save(folder / "m.pth", gone), "missing output.2.bias"),
        "unexpected": (save(folder / "u.pth", more), "unexpected extra.weight"),
        "v4": (save(folder / "sam", {"W2": torch.zeros(1)}), "Cellpose 4 (Cellpose-SAM) file"),
        "v4 encoder": (
            save(folder / "sam2", {"encoder.pos_embed": torch.zeros(1)}),
            "another network than the residual U-Net",
        ),
        "classes": (save(folder / "f.pth", four), "has 4 outputs"),
        "nan": (save(folder / "n.pth", nan), "output.2.bias holds NaN"),
        "shape": (save(folder / "s.pth", shape), "output.0.weight has shape (33,), expected (32,)"),
        "scalar": (save(folder / "0.pth", scalar), "output.2.weight has shape ()"),
        "no data": (save(folder / "meta.pth", no_data), "holds something else than numbers"),
        "complex": (save(folder / "c.pth", imaginary), "holds complex64 and not numbers"),
        "variance": (save(folder / "var.pth", variance), "running_var holds negative variances"),
        "channels": (save(folder / "ch.pth", channels), "networks with 1 to 64 channels"),
        **{
            f"diameter {number}": (
                save(folder / f"d{number}.pth", {**state, "diam_mean": torch.tensor(values)}),
                "diam_mean must be one positive number of pixels",
            )
            for number, values in enumerate(([float("nan")], [0.0], [-3.0], [], [1e9]))
        },
        "list": (save(folder / "l.pth", [1, 2]), "holds no named weights"),
        "own": (own, "damaged or not a safetensors file"),
        "foreign": (foreign, "without a CellSeg model card"),
    }


def test_files_that_do_not_fit_are_refused_with_the_reason(tmp_path: Path) -> None:
    for name, (path, words) in broken_files(tmp_path).items():
        with pytest.raises(WeightsError) as caught:
            load_weights(path)
        assert words in str(caught.value), name
        assert str(path) in str(caught.value), name
    with pytest.raises(ModelNotFoundError, match="There is no weights file"):
        load_weights(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("name", ["size_mine.npy", "mine.pth_size.npy", "mine_size.npy"])
def test_size_models_are_found_by_all_official_names(tmp_path: Path, name: str) -> None:
    write_official_size_model(tmp_path / name, SizeModel(np.zeros(256), np.ones(256), 30.0, 0.25))
    size_model = load_weights(save(tmp_path / "mine.pth", random_state())).size_model
    assert size_model is not None
    assert size_model.log_offset == 0.25


class Attack:
    """Runs a program when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch '{self.marker}'",)


def test_malicious_weights_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "evil.pth", {"a": Attack(tmp_path / "ran")})
    with pytest.raises(WeightsError, match="holds more than plain weights"):
        load_weights(path)
    assert not (tmp_path / "ran").exists()


def test_malicious_size_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "size_evil.npy"
    attack = {"A": Attack(tmp_path / "ran"), "smean": 0, "diam_mean": 1.0, "ymean": 0.0}
    with path.open("wb") as file:
        np.save(file, np.array(attack, dtype=object), allow_pickle=True)
    with pytest.raises(WeightsError, match=r"asks for (posix|nt)\.system"):
        read_official_size_model(path)
    assert not (tmp_path / "ran").exists()


class Pointers:
    """An array of objects whose bytes are taken for their addresses, where NumPy unpickles it."""

    def __init__(self, flags: int) -> None:
        self.flags = flags

    def __reduce__(self) -> tuple[object, ...]:
        plain = np.zeros(1).__reduce__()
        return *plain[:2], (1, (1,), RecordDtype(self.flags), False, b"A" * 8)


class RecordDtype(Pointers):
    """A dtype with an object as its field, and flags that say otherwise."""

    def __reduce__(self) -> tuple[object, ...]:
        fields = {"a": (np.dtype("O"), 0)}
        state = (4, "|", None, ("a",), fields, 8, 1, self.flags)
        return np.dtype, ("V8", False, True), state


class NamedDtype(RecordDtype):
    """The same, under a plain name."""

    def __reduce__(self) -> tuple[object, ...]:
        return np.dtype, ("S8", False, True), super().__reduce__()[2]


@pytest.mark.parametrize("flags", [0, 1, 16])
@pytest.mark.parametrize("kind", [Pointers, RecordDtype, NamedDtype])
def test_bytes_in_a_pickle_never_become_addresses(flags: int, kind: type[Pointers]) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array({"masks": kind(flags)}, dtype=object), allow_pickle=True)
    with pytest.raises(RefusedError, match="dtype"):
        load_plain_npy(stream.getvalue())


def test_damaged_size_models_are_refused(tmp_path: Path) -> None:
    good = SizeModel(np.arange(256.0), np.ones(256), 17.0, 0.25)
    path = tmp_path / "size.npy"
    write_official_size_model(path, good)
    np.testing.assert_array_equal(read_official_size_model(path).coefficients, good.coefficients)
    data = path.read_bytes()
    cases = [b"", b"text", data[: len(data) // 2], pickle.dumps({"A": 1}), b"\x93NUMPY" * 9]
    rng = np.random.default_rng(0)
    for _ in range(200):
        spoilt = bytearray(data)
        for position in rng.integers(0, 300, 3):
            spoilt[position] = rng.integers(256)
        cases.append(bytes(spoilt))
    for case in cases:
        path.write_bytes(case)
        with contextlib.suppress(WeightsError):
            assert np.isfinite(read_official_size_model(path).coefficients).all()


def test_size_models_say_what_they_cover() -> None:
    model = SizeModel(np.zeros(256), np.zeros(256), 17.0, 0.5, (8.0, 60.0))
    assert model.predict(np.zeros(256)) == pytest.approx(17 * np.exp(0.5))
    assert model.covers(30)
    assert not model.covers(100)
    assert SizeModel(np.zeros(256), np.zeros(256), 17.0, 0.5).covers(1000)
    tiny = SizeModel(np.zeros(256), np.zeros(256), 17.0, -9.0)
    assert tiny.predict(np.zeros(256)) == 5


def test_cards_of_newer_versions_are_refused(tmp_path: Path) -> None:
    card = ModelCard("x", 2, 17.0, 17.0)
    path = tmp_path / "x.safetensors"
    write_weights(path, card, {"a": np.zeros((2, 2), np.float32)})
    data = path.read_bytes()
    path.write_bytes(data.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    with pytest.raises(WeightsError, match="newer CellSeg"):
        read_weights(path)


def test_a_full_disk_is_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space (os error 28)")

    monkeypatch.setattr(card_module, "save_file", fail)
    with pytest.raises(OSError, match=r"No space left on device.*a\.safetensors") as caught:
        write_weights(tmp_path / "a.safetensors", ModelCard("a", 1, 30, 30), {"a": np.zeros(1)})
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.skipif(os.name == "nt", reason="files have no such rights on Windows")
def test_others_may_read_weights_as_far_as_other_new_files(tmp_path: Path) -> None:
    write_weights(tmp_path / "a.safetensors", ModelCard("a", 1, 30, 30), {"a": np.zeros(1)})
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
