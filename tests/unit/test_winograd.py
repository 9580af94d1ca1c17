"""Winograd's convolutions are those of PyTorch; a tile's result depends on nothing but the tile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from llvmlite.binding import get_host_cpu_features
from numba import njit
from torch.nn import functional

from cellseg_engine.errors import DeviceError
from cellseg_engine.nets import unet, winograd_kernels
from cellseg_engine.nets.lanes import N_LANES, on_rows, on_three, product_of
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.nets.winograd_kernels import (
    EVERYWHERE,
    convolve_squares,
    in_panels,
    multiply_rows,
    n_squares,
    pool_rows,
    transform_input,
    transform_kernel,
    transform_output,
)
from cellseg_engine.nets.winograd_runtime import WinogradRuntime


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def network(n_channels: int = 2) -> ResidualUNet:
    """A network of random weights whose normalisations do something."""
    torch.manual_seed(3)
    net = ResidualUNet(n_channels).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return net


def runtime_of(net: ResidualUNet) -> WinogradRuntime:
    return WinogradRuntime({name: value.numpy() for name, value in net.state_dict().items()})


def relative_rms(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def test_the_transforms_make_a_convolution_of_six_numbers_with_three() -> None:
    numbers, kernel = rng().normal(size=6), rng().normal(size=3)
    products = np.array(transform_input(*numbers)) * (winograd_kernels._KERNEL_TRANSFORM @ kernel)
    np.testing.assert_allclose(transform_output(*products), np.correlate(numbers, kernel))


@pytest.mark.parametrize("halved", [0, 1])
@pytest.mark.parametrize(("n_in", "n_out"), [(32, 32), (96, 64)])
@pytest.mark.parametrize("shape", [(8, 8), (6, 22), (2, 2), (40, 50)])
def test_squares_are_the_convolution_of_pytorch(
    shape: tuple[int, int], n_in: int, n_out: int, halved: int
) -> None:
    height, width = shape
    pixels = rng().normal(size=(height >> halved, width >> halved, n_in)).astype(np.float32)
    scale, shift = rng().normal(size=(2, n_in)).astype(np.float32)
    weights = rng().normal(size=(n_out, n_in, 3, 3)).astype(np.float32)
    bias = rng().normal(size=n_out).astype(np.float32)
    added = rng().normal(size=(height, width, n_out)).astype(np.float32)
    out = np.full((height, width, n_out), np.nan, np.float32)
    source, target = (pixels, halved, scale, shift), (bias, added, 0, out)
    total, middle = n_squares(out), n_squares(out) // 2
    for first, last in ((0, middle), (middle, total)):
        convolve_squares(source, transform_kernel(weights), target, first, last)

    whole = pixels.repeat(1 << halved, axis=0).repeat(1 << halved, axis=1)
    seen = np.maximum(0, whole.astype(np.float64) * scale + shift).transpose(2, 0, 1)
    expected = functional.conv2d(
        torch.from_numpy(seen)[None], torch.from_numpy(weights.astype(np.float64)), padding=1
    )[0].numpy()
    assert relative_rms(out, expected.transpose(1, 2, 0) + bias + added) < 2e-6


def test_one_pixel_can_be_added_everywhere() -> None:
    zeros, ones = np.zeros((8, 8, 32), "f4"), np.ones(32, "f4")
    added = np.arange(32, dtype=np.float32).reshape(1, 1, 32)
    out = np.empty((8, 8, 32), np.float32)
    kernel = transform_kernel(np.ones((32, 32, 3, 3)))
    convolve_squares((zeros, 0, ones, 0 * ones), kernel, (ones, added, EVERYWHERE, out), 0, 4)
    np.testing.assert_array_equal(out, np.broadcast_to(1 + added, out.shape))


def test_what_is_not_a_number_stays_it() -> None:
    pixels, ones = np.zeros((8, 8, 32), "f4"), np.ones(32, "f4")
    pixels[4, 4, 3] = np.nan
    out = np.empty((8, 8, 32), np.float32)
    source, nothing = (pixels, 0, ones, ones), np.zeros((1, 1, 32), np.float32)
    kernel = transform_kernel(np.ones((32, 32, 3, 3)))
    convolve_squares(source, kernel, (ones, nothing, EVERYWHERE, out), 0, 4)
    assert np.isnan(out[3:6, 3:6]).all()
    rows, weights = np.empty((64, 32), np.float32), in_panels(np.ones((1, 32, 32)))
    multiply_rows((pixels.reshape(-1, 32), ones, ones), True, weights, ones, rows, 0, 64)
    assert np.isnan(rows).any(axis=1).sum() == 1


def test_rows_are_products_of_matrices_and_pools_the_largest() -> None:
    pixels = rng().normal(size=(600, 32)).astype(np.float32)
    scale, shift = rng().normal(size=(2, 32)).astype(np.float32)
    weights, bias = rng().normal(size=(32, 3)).astype(np.float32), np.ones(3, np.float32)
    for rectified in (True, False):
        out = np.zeros((600, 3), np.float32)
        panels = in_panels(weights[np.newaxis])
        multiply_rows((pixels, scale, shift), rectified, panels, bias, out, 10, 595)
        seen = pixels * scale + shift
        expected = (np.maximum(seen, 0) if rectified else seen) @ weights + 1
        np.testing.assert_allclose(out[10:595], expected[10:595], rtol=1e-4, atol=1e-5)
        assert not out[:10].any()
        assert not out[595:].any()
    maps = rng().normal(size=(8, 12, 5)).astype(np.float32)
    pooled = np.empty((4, 6, 5), np.float32)
    pool_rows(maps, pooled, 0, 4)
    np.testing.assert_array_equal(pooled, maps.reshape(4, 2, 6, 2, 5).max(axis=(1, 3)))


@pytest.mark.parametrize("widths", [unet.WIDTHS, (4, 8, 40, 12)])
@pytest.mark.parametrize("n_channels", [1, 2, 5])
def test_the_network_is_that_of_pytorch(
    n_channels: int, widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unet, "WIDTHS", widths)
    net = network(n_channels)
    tiles = rng().normal(size=(2, n_channels, 72, 104)).astype(np.float32)
    fields, styles = runtime_of(net).run(tiles)
    with torch.inference_mode():
        expected = net.double()(torch.from_numpy(tiles).double())
    assert fields.dtype == styles.dtype == np.float32
    for found, wanted in zip((fields, styles), expected, strict=True):
        assert relative_rms(found, wanted.numpy()) < 5e-6


def test_the_result_depends_neither_on_the_threads_nor_on_the_batch() -> None:
    net = network()
    tiles = rng().normal(size=(3, 2, 80, 64)).astype(np.float32)
    fields, styles = runtime_of(net).run(tiles)
    for threads in (1, 3, 7):
        runtime = runtime_of(net)
        runtime._threads = threads
        for n in range(3):
            alone, style = runtime.run(tiles[n : n + 1])
            np.testing.assert_array_equal(alone[0], fields[n])
            np.testing.assert_array_equal(style[0], styles[n])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 49, 50, 1000])
def test_all_of_the_work_is_shared_once(threads: int, n: int) -> None:
    runtime = runtime_of(network())
    runtime._threads = threads
    done: list[int] = []
    runtime._share(n, 48, lambda first, last: done.extend(range(first, last)))
    assert done == list(range(n))


@pytest.mark.parametrize("name", ["haswell", "skylake-avx512"])
def test_other_processors_give_the_same(name: str, tmp_path: Path) -> None:
    """What fits fewer registers is compiled and run on this one, if it can."""
    code = (
        "import sys, numpy as np\n"
        "from tests.unit.test_winograd import network, runtime_of, rng\n"
        "runtime = runtime_of(network())\n"
        "print(*runtime.about['kernels'])\n"
        "tiles = rng().normal(size=(1, 2, 72, 64)).astype(np.float32)\n"
        "np.save(sys.argv[1], runtime.run(tiles)[0])\n"
    )
    has = {"haswell": "avx2", "skylake-avx512": "avx512f"}[name]
    if not get_host_cpu_features().get(has, False):
        pytest.skip(f"this processor has no {has}")
    asked = {"NUMBA_CPU_NAME": name, "NUMBA_CACHE_DIR": str(tmp_path)}
    target = tmp_path / "fields.npy"
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        check=True,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.split() == ["winograd_4x4_f32_6x16"]
    tiles = rng().normal(size=(1, 2, 72, 64)).astype(np.float32)
    assert relative_rms(np.load(target), runtime_of(network()).run(tiles)[0]) < 1e-6


def test_it_calculates_in_fp32_only() -> None:
    with pytest.raises(DeviceError, match="winograd calculates in fp32, and bf16 was asked for"):
        WinogradRuntime({}, "bf16")
    with pytest.raises(DeviceError, match="fp16 needs a GPU"):
        WinogradRuntime({}, "fp16")


def test_kernels_get_only_what_fits() -> None:
    runtime = runtime_of(network())
    with pytest.raises(ValueError, match="no tiles"):
        runtime.run(np.empty((0, 2, 8, 8), np.float32))
    for shape in ((1, 3, 8, 8), (1, 2, 8, 12), (1, 2, 20, 8)):
        with pytest.raises(ValueError, match="wants 2 channels, and multiples of 8 for Y and X"):
            runtime.run(np.empty(shape, np.float32))
    with pytest.raises(ValueError, match="wants 32 channels and got 64"):
        runtime._multiply("output", np.empty((8, 8, 64), np.float32))


def test_formulas_become_kernels() -> None:
    swap = on_rows(lambda a, b: (b - 2 * a, a + b), 2)
    rest = on_three(lambda a, b, c: (a * b - c).rectified())
    product = product_of(2, 1)

    @njit
    def run(source: np.ndarray, target: np.ndarray) -> None:
        swap(source, 1, 20, target, 0, 16)
        rest(source, 0, source, 3, source, 5, target, 32)
        product(source, 2, 7, source, 1, target, 48, 16, 2)

    source, target = rng().normal(size=40).astype(np.float32), np.zeros(80, np.float32)
    run(source, target)
    a, b = source[1 : 1 + N_LANES], source[21 : 21 + N_LANES]
    positive = np.maximum(source[:16] * source[3:19] - source[5:21], 0)
    pairs, rows = source[[[2, 3], [9, 10]]], source[1:33].reshape(2, 16)
    expected = np.r_[b - 2 * a, a + b, positive, (pairs @ rows).ravel()]
    np.testing.assert_allclose(target, expected, rtol=1e-5, atol=1e-6)


def test_what_is_calculated_together_fills_the_registers() -> None:
    assert winograd_kernels.SQUARES % winograd_kernels._ROWS == 0
    assert winograd_kernels.ROWS % winograd_kernels._ROWS == 0
    assert all(width % winograd_kernels.PANEL == 0 for width in unet.WIDTHS)
