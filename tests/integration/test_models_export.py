"""Models written for other programs: the files are run, and give what the model gives."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from cellseg_engine.errors import SettingsError, WeightsError
from cellseg_engine.export import onnx_file
from cellseg_engine.export.bioimageio import choose_citations
from cellseg_engine.export.example import make_example, scale_range
from cellseg_engine.export.joined import join_networks, relative_rms, run_network
from cellseg_engine.export.packages import NO_TELEMETRY, need
from cellseg_engine.nets.card import ModelCard
from cellseg_engine.nets.weights import build_network, load_weights
from cellseg_engine.zoo.citations import DATA, METHOD, TRAINING
from cellseg_engine.zoo.store import read_model
from tests.conftest import require
from tests.integration.cli import Cli, disks, draw, listing, official

MODEL = "nuclei-provisional"
PACKAGES = ("onnx", "onnxruntime", "onnxscript", "bioimageio.spec")


def need_packages() -> None:
    def is_there(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            return False

    missing = [name for name in PACKAGES if not is_there(name)]
    require(not missing, f"needs the packages of the extra export: {', '.join(missing)}")


def onnx_outputs(content: bytes, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (onnxruntime,) = need("onnxruntime")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    fields, styles = session.run(["fields", "style"], {"image": image})
    return fields, styles


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the cache is not in XDG_CACHE_HOME")
def test_onnxruntime_keeps_no_notes_about_the_user(tmp_path: Path) -> None:
    need_packages()
    code = 'from cellseg_engine.export.packages import need; need("onnxruntime")'
    known = {name: value for name, value in os.environ.items() if name != NO_TELEMETRY}
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**known, "XDG_CACHE_HOME": str(tmp_path)}
    )
    assert list(tmp_path.iterdir()) == []


def test_papers_about_our_images_are_cited_for_our_weights_only() -> None:
    (ours,) = read_model("nuclei")
    assert choose_citations("nuclei", [ours]) == (METHOD, TRAINING, *DATA["nuclei"])
    assert choose_citations("nuclei", [replace(ours, sha256="0" * 64)]) == (METHOD, TRAINING)


@pytest.mark.slow
def test_onnx_gives_the_fields_of_an_ensemble_in_any_shape(tmp_path: Path) -> None:
    need_packages()
    files = [load_weights(official(tmp_path / f"net_{seed}", seed, 1)) for seed in range(2)]
    target = tmp_path / "pair.onnx"
    assert onnx_file.export_onnx(target, files) < onnx_file.MAX_RELATIVE_RMS
    networks = [join_networks([file]) for file in files]
    for shape in ((1, 1, 8, 8), (3, 1, 48, 120), (1, 1, 136, 64)):
        image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        fields, styles = onnx_outputs(target.read_bytes(), image)
        singles = [run_network(net, image) for net in networks]
        assert fields.shape == (shape[0], 3, *shape[2:])
        assert relative_rms(fields, np.mean([one[0] for one in singles], axis=0)) < 1e-4
        assert relative_rms(styles, singles[0][1]) < 1e-4
    # The exporter notes the code and the paths of this computer beside every node.
    assert str(Path(onnx_file.__file__).parent).encode() not in target.read_bytes()


@pytest.mark.slow
def test_a_package_gives_the_fields_of_the_model(cli: Cli, tmp_path: Path) -> None:
    need_packages()
    target = tmp_path / "mine.zip"
    outcome = cli("models", "export", MODEL, target, "--format", "bioimageio")
    assert outcome.code == 0, outcome.err
    assert "relative rms" in outcome.out
    assert list(listing(tmp_path)) == ["mine.zip"]

    spec: Any = importlib.import_module("bioimageio.spec")
    with zipfile.ZipFile(target) as archive:
        description = spec.load_description(archive)
    assert not isinstance(description, spec.InvalidDescr), description.validation_summary
    assert str(description.format_version).startswith("0.5.")
    assert str(description.license) == "CC0-1.0"
    assert [author.name for author in description.authors] == ["CellSeg Bridges developers"]
    assert description.cite[0].doi == "10.1038/s41592-020-01018-x"

    with zipfile.ZipFile(target) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert parts["cover.png"].startswith(b"\x89PNG")
    raw = np.load(io.BytesIO(parts["test_input.npy"]))
    expected = np.load(io.BytesIO(parts["test_fields.npy"]))
    fields, styles = onnx_outputs(parts["weights.onnx"], scale_range(raw))
    assert relative_rms(fields, expected) < 1e-4
    assert relative_rms(styles, np.load(io.BytesIO(parts["test_style.npy"]))) < 1e-4

    network = source_module(parts["network.py"].decode()).ResidualUNet(n_channels=2)
    network.load_state_dict(torch.load(io.BytesIO(parts["weights.pt"]), weights_only=True))
    again, _ = run_network(network.eval(), scale_range(raw))
    assert relative_rms(again, expected) < 1e-6
    own, _ = run_network(build_network(read_model(MODEL)[0]).eval(), scale_range(raw))
    assert relative_rms(again, own) < 1e-6

    coefficients = np.load(io.BytesIO(parts["size_model.npz"]))["coefficients"]
    size_model = read_model(MODEL)[0].size_model
    assert size_model is not None
    np.testing.assert_array_equal(coefficients, size_model.coefficients)


def source_module(text: str) -> ModuleType:
    """Give a module made from its source alone, as a program does that reads the package."""
    module = ModuleType("network")
    exec(compile(text, "network.py", "exec"), module.__dict__)
    return module


@pytest.mark.slow
def test_a_file_that_gives_other_fields_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_packages()
    right = onnx_file.run_onnx

    def wrong(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fields, styles = right(path, image)
        return fields * np.float32(1.001), styles

    monkeypatch.setattr(onnx_file, "run_onnx", wrong)
    with pytest.raises(WeightsError, match=r"gives other fields than the model: .* 0\.001"):
        onnx_file.export_onnx(tmp_path / "x.onnx", read_model(MODEL))
    assert listing(tmp_path) == {}


@pytest.mark.parametrize(
    ("file_format", "name", "missing"),
    [("onnx", "x.onnx", "onnx"), ("bioimageio", "x.zip", "bioimageio.spec")],
)
def test_a_missing_package_is_named(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file_format: str,
    name: str,
    missing: str,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    outcome = cli("models", "export", MODEL, tmp_path / name, "--format", file_format)
    assert outcome.code == 2
    assert f"needs {missing}, which is not installed" in outcome.err
    assert 'pip install "cellseg-engine[export]"' in outcome.err
    assert listing(tmp_path) == {}


@pytest.mark.parametrize(
    ("file_format", "name"),
    [("onnx", "x.pth"), ("onnx", ".onnx"), ("bioimageio", "x"), ("official", "x.onnx")],
)
def test_targets_that_do_not_fit_the_format(
    cli: Cli, tmp_path: Path, file_format: str, name: str
) -> None:
    outcome = cli("models", "export", MODEL, tmp_path / name, "--format", file_format)
    assert outcome.code == 2
    assert "must be the name of a file" in outcome.err
    assert listing(tmp_path) == {}


def test_existing_files_stay(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("mine")
    outcome = cli("models", "export", MODEL, tmp_path / "x.onnx", "--format", "onnx")
    assert (outcome.code, "is there already" in outcome.err) == (2, True)
    assert (tmp_path / "x.onnx").read_text() == "mine"


def test_a_sample_becomes_the_test_input_at_the_scale_of_the_model(tmp_path: Path) -> None:
    card = ModelCard("x", 2, 30.0, 30.0)
    path = draw(tmp_path / "a.tif")
    example = make_example(card, path, 24)
    assert example.raw.shape == (1, 2, 120, 144)
    assert not example.raw[0, 1].any()
    assert example.raw.max() > 3000
    low, high = np.percentile(example.normalized[0, 0], (1, 99))
    np.testing.assert_allclose((low, high), (0, 1), atol=1e-5)
    colours = tmp_path / "b.tif"
    tifffile.imwrite(colours, np.full((200, 200, 3), (30, 60, 90), np.uint8), photometric="rgb")
    assert np.unique(make_example(card, colours, 30).raw[0, 0]) == 60
    with pytest.raises(SettingsError, match="diameter of the objects"):
        make_example(card, path)
    with pytest.raises(SettingsError, match="sample would be"):
        make_example(card, path, 300)


def test_a_sample_with_a_bright_background_is_inverted(tmp_path: Path) -> None:
    card = ModelCard("x", 2, 30.0, 30.0)
    pixels = np.stack([disks(), disks(seed=1) // 2])
    dark, bright = tmp_path / "dark.tif", tmp_path / "bright.tif"
    tifffile.imwrite(dark, pixels, metadata={"axes": "CYX"})
    tifffile.imwrite(bright, 9000 - pixels, metadata={"axes": "CYX"})
    expected, found = make_example(card, dark, 24), make_example(card, bright, 24)
    assert np.median(expected.normalized) < 0.2
    np.testing.assert_allclose(found.normalized, expected.normalized, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "bioimageio"), "give it with --sample"),
        (("--format", "onnx"), "--sample-diameter-px is only for packages"),
        (("--format", "official"), "--sample-diameter-px is only for packages"),
    ],
)
def test_a_diameter_without_a_sample_is_refused(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    name = {"bioimageio": "x.zip", "onnx": "x.onnx", "official": "x"}[arguments[1]]
    target = tmp_path / name
    outcome = cli("models", "export", MODEL, target, *arguments, "--sample-diameter-px", 0)
    assert outcome.code == 2
    assert words in outcome.err
    assert listing(tmp_path) == {}


def test_networks_that_were_trained_differently_are_not_averaged(tmp_path: Path) -> None:
    files = [load_weights(official(tmp_path / f"net_{n}", n_channels=n)) for n in (1, 2)]
    with pytest.raises(WeightsError, match="differ in channels: 1 and 2"):
        join_networks(files)
