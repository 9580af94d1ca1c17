"""All runtimes give the same; which one runs, in which arithmetic, is known."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cellseg_engine import Segmenter, make_settings
from cellseg_engine.core.metrics import score_image
from cellseg_engine.errors import DeviceError, MissingDependencyError, SettingsError
from cellseg_engine.nets import choose_runtime, compiled_cache, openvino_runtime
from cellseg_engine.nets.choose_runtime import VARIABLE, is_installed, make_runtime
from cellseg_engine.nets.openvino_runtime import OpenVinoRuntime
from cellseg_engine.nets.runtimes import Runtime
from cellseg_engine.nets.weights import build_network
from cellseg_engine.zoo.store import list_models, load_model, read_model
from tests.conftest import require
from tests.integration.cli import disks

MODEL = "nuclei-provisional"
RUNTIMES = ("torch", "openvino", "winograd")


@pytest.fixture(autouse=True)
def _own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def openvino() -> None:
    require_openvino()


@pytest.fixture(params=["openvino", "winograd"])
def fast(request: pytest.FixtureRequest) -> Runtime:
    """Each runtime that is not PyTorch's."""
    if request.param == "openvino":
        require_openvino()
    return runtime(request.param)


def require_openvino() -> None:
    require(is_installed(), "needs OpenVINO: pip install 'cellseg-engine[openvino]'")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compiled_cache, "cache_folder", lambda: tmp_path / "a" / "cache")
    return tmp_path / "a" / "cache"


def runtime(name: str, precision: str = "auto") -> Runtime:
    net = build_network(read_model(MODEL)[0])
    return make_runtime(net, device="cpu", precision=precision, runtime=name)


def compiled(sha256: str) -> OpenVinoRuntime:
    net = build_network(read_model(MODEL)[0])
    arrays = {key: np.ascontiguousarray(value) for key, value in net.state_dict().items()}
    return OpenVinoRuntime(arrays, net.n_channels, sha256)


def tiles(shape: tuple[int, int] = (224, 224), n: int = 1) -> np.ndarray:
    """Pictures of disks, which the network sees something in."""
    pictures = [disks(shape, n=6, seed=seed) for seed in range(n)]
    batch = np.zeros((n, 2, *shape), np.float32)
    batch[:, 0] = (np.stack(pictures) - 200.0) / 3000
    return batch


def relative_rms(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def test_all_give_the_same_fields_and_styles_for_tiles_of_any_size(fast: Runtime) -> None:
    torch_runtime = runtime("torch")
    for shape, n in (((224, 224), 2), ((128, 208), 1), ((32, 32), 1), ((224, 224), 1)):
        fields, styles = fast.run(tiles(shape, n))
        expected_fields, expected_styles = torch_runtime.run(tiles(shape, n))
        assert fields.shape == expected_fields.shape
        assert relative_rms(fields, expected_fields) < 1e-5
        assert relative_rms(styles, expected_styles) < 1e-5
        assert fields.dtype == styles.dtype == np.float32
    assert torch_runtime.precision == fast.precision == "fp32"


def test_a_result_stays_when_the_next_is_calculated(fast: Runtime) -> None:
    first, _ = fast.run(tiles((64, 64)))
    kept = first.copy()
    fast.run(1 - tiles((64, 64)))
    np.testing.assert_array_equal(first, kept)


def test_threads_of_the_caller_take_turns(fast: Runtime) -> None:
    inputs = [tiles((64, 64)) * (n + 1) for n in range(4)]
    expected = [fast.run(each)[0] for each in inputs]
    with ThreadPoolExecutor(4) as pool:
        for found, known in zip(pool.map(fast.run, inputs * 3), expected * 3, strict=True):
            np.testing.assert_array_equal(found[0], known)


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize("augmentation", ["none", "flips"])
def test_all_find_the_same_objects(augmentation: str) -> None:
    settings = make_settings(
        device="cpu",
        precision="fp32",
        diameter_px=0 if augmentation == "none" else 24,
        test_time_augmentation=augmentation,
    )
    image = disks((240, 260), n=6)
    results = {name: Segmenter(settings, runtime=name).segment(image) for name in RUNTIMES}
    slow = results["torch"]
    assert slow.n_objects == 6
    for name, result in results.items():
        assert result.n_objects == 6
        score = score_image(slow.labels, result.labels, thresholds=(0.9,))
        assert score.average_precision[0] >= 0.99
        assert result.diameter_px == pytest.approx(slow.diameter_px, rel=1e-3)
        about = result.provenance["runtime"]
        assert about["name"] == name
        assert about["version"]
        assert about["threads"] == torch.get_num_threads()
        assert result.provenance["precision"] == "fp32"
        assert result.warnings == ()


@pytest.mark.usefixtures("openvino")
def test_bf16_runs_only_when_asked_for_and_where_the_cpu_has_it() -> None:
    import openvino

    if not openvino_runtime.can_bf16(openvino.Core()):
        with pytest.raises(DeviceError, match="no instructions for bf16"):
            runtime("openvino", "bf16")
        assert runtime("auto", "bf16").about["name"] == "torch"
        return
    half, full = runtime("openvino", "bf16"), runtime("openvino")
    assert (half.precision, full.precision) == ("bf16", "fp32")
    assert half.about["kernels"] != full.about["kernels"]
    error = relative_rms(half.run(tiles())[0], full.run(tiles())[0])
    assert 1e-4 < error < 0.1


@pytest.mark.parametrize("name", ["auto", *RUNTIMES])
def test_fp16_needs_a_gpu(name: str) -> None:
    if name == "openvino":
        require_openvino()
    with pytest.raises(DeviceError, match="fp16 needs a GPU"):
        runtime(name, "fp16")


@pytest.mark.usefixtures("openvino")
def test_auto_takes_winograd_and_the_environment_and_arguments_choose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def chosen(name: str = "") -> Any:
        return load_model(MODEL, "cpu", runtime=name).runtime["name"]

    assert chosen() == chosen("auto") == "winograd"
    monkeypatch.setenv(VARIABLE, "torch")
    assert chosen() == "torch"
    assert chosen("openvino") == "openvino"
    monkeypatch.setenv(VARIABLE, "")
    assert chosen() == "winograd"


def test_unknown_runtimes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SettingsError, match=r"^runtime = 'onnx' is not allowed: .* auto, winograd, torch, openvino"
    ):
        runtime("onnx")
    monkeypatch.setenv(VARIABLE, "Torch")
    with pytest.raises(SettingsError, match=f"^{VARIABLE} = 'Torch' is not allowed"):
        load_model(MODEL, "cpu")


@pytest.mark.parametrize("name", ["openvino", "winograd"])
def test_runtimes_of_cpus_have_no_other_device(name: str) -> None:
    net = build_network(read_model(MODEL)[0])
    with pytest.raises(DeviceError, match=f"{name} calculates on the CPU, and the device cuda was"):
        make_runtime(net, device="cuda", runtime=name)


def test_winograd_is_fp32_only_and_says_so() -> None:
    with pytest.raises(DeviceError, match="winograd calculates in fp32, and bf16 was asked") as it:
        runtime("winograd", "bf16")
    assert it.value.hint == "Use --precision fp32, or the runtime auto."


def test_without_openvino_the_install_line_is_given_and_auto_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match="is not installed") as caught:
        runtime("openvino")
    assert caught.value.hint == "pip install 'cellseg-engine[openvino]'"
    for precision, name in (("auto", "winograd"), ("fp32", "winograd"), ("bf16", "torch")):
        plain = runtime("auto", precision)
        assert (plain.about["name"], plain.warnings) == (name, ())


@pytest.mark.usefixtures("openvino")
def test_auto_does_without_a_broken_openvino_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no such plugin\nat line 5")

    monkeypatch.setattr(choose_runtime, "is_installed", lambda: True)
    monkeypatch.setattr(choose_runtime, "OpenVinoRuntime", fails)
    monkeypatch.setattr(choose_runtime, "can_bf16", lambda _: True)
    settings = make_settings(device="cpu", precision="bf16", diameter_px=24)
    result = Segmenter(settings).segment(disks())
    assert result.provenance["runtime"]["name"] == "torch"
    (warning,) = result.warnings
    assert "OpenVINO could not be used" in warning
    assert "no such plugin" in warning
    assert "line 5" not in warning


@pytest.mark.usefixtures("openvino")
def test_auto_is_bf16_only_with_units_for_it_and_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    def chosen(device: str = "cpu", *, units: bool, evidence: bool) -> str:
        monkeypatch.setattr(choose_runtime, "has_bf16_units", lambda: units)
        net = build_network(read_model(MODEL)[0])
        return make_runtime(net, device=device, allow_bf16=evidence).precision

    assert chosen(units=True, evidence=False) == "fp32"
    assert chosen(units=False, evidence=True) == "fp32"
    if openvino_runtime.can_bf16(openvino.Core()):
        assert chosen(units=True, evidence=True) == "bf16"
    asked = make_runtime(
        build_network(read_model(MODEL)[0]), device="cpu", precision="fp32", allow_bf16=True
    )
    assert asked.precision == "fp32"


def test_the_engines_own_kernels_stay_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_runtime, "has_bf16_units", lambda: True)
    net = build_network(read_model(MODEL)[0])
    own = make_runtime(net, device="cpu", runtime="winograd", allow_bf16=True)
    assert own.precision == "fp32"


def test_only_models_with_evidence_may_run_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    make = choose_runtime.make_runtime

    def spy(*arguments: Any, allow_bf16: bool, **options: Any) -> Runtime:
        given.append(allow_bf16)
        return make(*arguments, **options)

    monkeypatch.setattr(choose_runtime, "make_runtime", spy)
    for entry in list_models():
        load_model(entry.name, "cpu")
        load_model(str(entry.files[0]), "cpu")
        assert given[-2:] == [entry.bf16_agreement >= 0.99, False]


# -- compiled models on disk ---------------------------------------------------------------


@pytest.mark.usefixtures("openvino")
def test_the_compiled_model_is_kept_by_weights_and_precision(cache: Path) -> None:
    first, second = compiled("a"), compiled("a")
    assert (first.from_cache, second.from_cache) == (False, True)
    assert (first.precision, first.about) == (second.precision, second.about)
    np.testing.assert_array_equal(first.run(tiles())[0], second.run(tiles())[0])
    other = compiled("b")
    assert not other.from_cache
    assert len(list(cache.iterdir())) == 2


@pytest.mark.usefixtures("openvino")
def test_a_damaged_compiled_model_is_made_anew(cache: Path) -> None:
    first = compiled("a")
    (path,) = cache.iterdir()
    for content in (b"", path.read_bytes()[:-1000], b"x" * 5000):
        path.write_bytes(content)
        again = compiled("a")
        assert not again.from_cache
        np.testing.assert_array_equal(again.run(tiles())[0], first.run(tiles())[0])
    compiled_cache.store(path.stem, b"well kept, but no model")
    again = compiled("a")
    assert not again.from_cache


@pytest.mark.usefixtures("openvino")
def test_a_folder_that_cannot_be_written_means_no_cache(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file in its place")
    for _ in range(2):
        plain = compiled("a")
        assert not plain.from_cache


def test_old_compiled_models_go_and_writers_do_not_meet(cache: Path) -> None:
    names = [f"{n:03d}" for n in range(compiled_cache.MAX_FILES + 3)]
    for n, name in enumerate(names):
        compiled_cache.store(name, b"model")
        os.utime(cache / f"{name}.model", (n, n))
    compiled_cache.load(names[3])
    compiled_cache.store("last", b"model")
    kept = {path.stem for path in cache.iterdir()}
    assert len(kept) == compiled_cache.MAX_FILES
    assert {"last", names[3], names[-1]} <= kept
    assert names[4] not in kept
    blobs = [bytes([n]) * 100_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda blob: compiled_cache.store("shared", blob), blobs))
    assert compiled_cache.load("shared") in blobs


# -- processors ----------------------------------------------------------------------------


def test_torch_gives_the_same_without_avx512(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from cellseg_engine import Segmenter, make_settings\n"
        "from tests.integration.cli import disks\n"
        "settings = make_settings(device='cpu', precision='fp32', diameter_px=24)\n"
        "result = Segmenter(settings, runtime='torch').segment(disks((240, 260), n=6))\n"
        "np.savez(sys.argv[1], labels=result.labels, logits=result.logits)\n"
    )
    found, spoken = [], []
    for isa in ("DEFAULT", "AVX2"):
        env = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa, "ONEDNN_VERBOSE": "1"}
        target = tmp_path / f"{isa}.npz"
        process = subprocess.run(
            [sys.executable, "-c", code, str(target)],
            check=True,
            env=env,
            timeout=300,
            capture_output=True,
            text=True,
        )
        found.append(np.load(target))
        spoken.append(process.stdout)
    # oneDNN names the instructions of every convolution that it calculated
    if "onednn_verbose" in spoken[0]:
        assert "convolution" in spoken[1]
        assert "avx512" not in spoken[1]
        assert ("avx512" in spoken[0]) == (torch.backends.cpu.get_cpu_capability() == "AVX512")
    assert relative_rms(found[1]["logits"], found[0]["logits"]) < 1e-5
    np.testing.assert_array_equal(found[0]["labels"], found[1]["labels"])
