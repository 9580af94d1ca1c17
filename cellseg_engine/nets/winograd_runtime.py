"""The network on a CPU in fp32 by Winograd's convolutions, twice as fast as by the usual ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cellseg_engine._version import __version__
from cellseg_engine.errors import DeviceError
from cellseg_engine.nets.runtimes import check_cpu_precision, reuse_freed_memory
from cellseg_engine.nets.unet import WIDTHS
from cellseg_engine.nets.weights import FIRST_LAYER, fold_normalization
from cellseg_engine.nets.winograd_kernels import (
    EVERYWHERE,
    KERNEL_NAME,
    PANEL,
    ROWS,
    SQUARES,
    convolve_squares,
    in_panels,
    multiply_rows,
    n_squares,
    pool_rows,
    transform_kernel,
)

MAX_THREADS = 32
"""A tile has no work for more."""
_LEAST = 8
"""Squares or rows that are worth a thread."""
_PARTS_PER_THREAD = 4
"""So that a thread that was held up does not hold up all."""

OUTPUT = "output"
"""The layer that gives the fields."""

Map = np.ndarray
"""Feature maps, float32 of shape (Y, X, C), C filled up to whole panels with zeros."""


@dataclass(frozen=True)
class _Layer:
    """A batch normalisation and the convolution behind it.

    Attributes
    ----------
    scale, shift
        float32 of shape (C_in,).
    weights
        As of `transform_kernel`, or of `in_panels` for single pixels.
    bias
        float32 of shape (C_out,).
    full, full_bias
        What makes of a style that which is added before the normalisation, of shape (C_in, 256)
        and (C_in,); None where the layer sees no style.
    """

    scale: np.ndarray
    shift: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    full: np.ndarray | None = None
    full_bias: np.ndarray | None = None

    def shifted(self, style: np.ndarray | None) -> np.ndarray:
        """Give the shift with that of a style in it."""
        if self.full is None or self.full_bias is None or style is None:
            return self.shift
        return np.asarray(self.shift + self.scale * (self.full @ style + self.full_bias))


class WinogradRuntime:
    """The CPU, in fp32, without any other library than the engine needs anyway.

    Parameters
    ----------
    weights
        Parameters and statistics of the network, float, under their official names.
    precision
        ``auto`` is fp32, and nothing else is there.

    Raises
    ------
    DeviceError
        Another precision.

    Notes
    -----
    Tiles are calculated one by one, each on all threads that PyTorch is set to. The result depends
    neither on the batch nor on the threads. To be called by one thread at a time, see
    `cellseg_engine.nets.shared_runtime`.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], precision: str = "auto") -> None:
        check_cpu_precision(precision)
        if precision not in ("auto", "fp32"):
            raise DeviceError(
                f"The runtime winograd calculates in fp32, and {precision} was asked for.",
                hint="Use --precision fp32, or the runtime auto.",
            )
        self.device = "cpu"
        self.precision = "fp32"
        self.best_batch = 1
        self.warnings: tuple[str, ...] = ()
        self._layers = dict(_prepare_layers(weights))
        styles = (layer.full for layer in self._layers.values() if layer.full is not None)
        self._style_length = next(styles).shape[1]
        self._n_channels = weights[FIRST_LAYER].shape[0]
        self._map: Callable[..., Iterable[None]] = map
        self._threads = min(torch.get_num_threads(), MAX_THREADS)
        self.about: dict[str, Any] = {
            "name": "winograd",
            "version": __version__,
            "threads": self._threads,
            "kernels": [KERNEL_NAME],
        }
        reuse_freed_memory()

    def run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give fields (N, 3, Y, X) and styles (N, 256), float32, for tiles (N, C, Y, X)."""
        if not len(tiles):
            raise ValueError("run() was given no tiles.")
        if tiles.shape[1] != self._n_channels or any(side % 8 for side in tiles.shape[2:]):
            raise ValueError(
                f"run() was given tiles of shape {tiles.shape[1:]}, and the network wants "
                f"{self._n_channels} channels, and multiples of 8 for Y and X."
            )
        with ThreadPoolExecutor(self._threads, "cellseg-network") as pool:
            self._map = pool.map if self._threads > 1 else map
            results = [self._run(_padded(tile.transpose(1, 2, 0), 2)) for tile in tiles]
        return np.stack([fields for fields, _ in results]), np.stack([s for _, s in results])

    def _run(self, x: Map) -> tuple[np.ndarray, np.ndarray]:
        maps: list[Map] = []
        for n in range(len(WIDTHS)):
            x = self._pool_maps(maps[-1]) if maps else x
            maps.append(self._down_block(f"downsample.down.res_down_{n}", x))
        mean = maps[-1].mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        style = mean[: self._style_length] / np.linalg.norm(mean)
        x = maps[-1]
        for n in reversed(range(len(WIDTHS))):
            halved = int(n < len(WIDTHS) - 1)
            x = self._up_block(f"upsample.up.res_up_{n}", x, maps.pop(), style, halved)
        fields = self._multiply(OUTPUT, x, rectified=True)
        return np.ascontiguousarray(fields.transpose(2, 0, 1)), style

    def _down_block(self, name: str, x: Map) -> Map:
        inner = self._convolve(f"{name}.conv.conv_0", x)
        x = self._convolve(f"{name}.conv.conv_1", inner, added=self._multiply(f"{name}.proj", x))
        inner = self._convolve(f"{name}.conv.conv_2", x)
        return self._convolve(f"{name}.conv.conv_3", inner, added=x)

    def _up_block(self, name: str, x: Map, skip: Map, style: np.ndarray, halved: int) -> Map:
        """Give the maps of an expanding block, of an input halved once or not at all."""
        inner = self._convolve(f"{name}.conv.conv_0", x, added=skip, halved=halved)
        projected = self._multiply(f"{name}.proj", x)
        name = f"{name}.conv.conv"
        x = self._convolve(f"{name}_1", inner, style, added=projected, added_halved=halved)
        inner = self._convolve(f"{name}_2", x, style)
        return self._convolve(f"{name}_3", inner, style, added=x)

    def _convolve(
        self,
        name: str,
        x: Map,
        style: np.ndarray | None = None,
        *,
        added: Map | None = None,
        halved: int = 0,
        added_halved: int = 0,
    ) -> Map:
        """Give the maps behind a layer of 3 x 3 pixels, see `convolve_squares`."""
        layer = self._layer(name, x)
        shift = layer.shifted(style)
        height, width = (side << halved for side in x.shape[:2])
        out = np.empty((height, width, len(layer.bias)), np.float32)
        if added is None:
            added, added_halved = np.zeros((1, 1, out.shape[2]), np.float32), EVERYWHERE
        source = (x, halved, layer.scale, shift)
        target = (layer.bias, added, added_halved, out)
        self._share(
            n_squares(out),
            SQUARES,
            lambda first, last: convolve_squares(source, layer.weights, target, first, last),
        )
        return out

    def _multiply(self, name: str, x: Map, *, rectified: bool = False) -> Map:
        layer = self._layer(name, x)
        out = np.empty((*x.shape[:2], len(layer.bias)), np.float32)
        source = (x.reshape(-1, x.shape[2]), layer.scale, layer.shift)
        target = (rectified, layer.weights, layer.bias, out.reshape(-1, out.shape[2]))
        self._share(
            len(source[0]), ROWS, lambda first, last: multiply_rows(source, *target, first, last)
        )
        return out

    def _layer(self, name: str, x: Map) -> _Layer:
        """Give a layer by the prefix of its weights, if it fits its maps: kernels do not look."""
        layer = self._layers[name]
        if x.shape[2] != layer.weights.shape[2]:
            wanted = layer.weights.shape[2]
            raise ValueError(f"The layer {name} wants {wanted} channels and got {x.shape[2]}.")
        return layer

    def _pool_maps(self, x: Map) -> Map:
        out = np.empty((x.shape[0] // 2, x.shape[1] // 2, x.shape[2]), np.float32)
        self._share(len(out), 8, lambda first, last: pool_rows(x, out, first, last))
        return out

    def _share(self, n: int, together: int, work: Callable[[int, int], None]) -> None:
        """Do all of 0 to n by threads, at least ``together`` at a time where there is enough."""
        few = min(self._threads, -(-n // _LEAST))
        parts = max(few, min(_PARTS_PER_THREAD * self._threads, n // together))
        limits = [n * part // parts // _LEAST * _LEAST for part in range(parts)] + [n]
        for _ in self._map(work, limits[:-1], limits[1:]):
            pass


def _prepare_layers(weights: Mapping[str, np.ndarray]) -> Iterator[tuple[str, _Layer]]:
    """Give all layers by the prefix of their names."""
    suffix = ".0.running_var"
    for key in weights:
        if key.endswith(suffix):
            inner = key.removesuffix(suffix)
            outer = inner.removesuffix(".conv")
            name = outer if f"{outer}.full.weight" in weights else inner
            yield name, _prepare_layer(weights, inner, name)


def _prepare_layer(weights: Mapping[str, np.ndarray], inner: str, outer: str) -> _Layer:
    """Give a layer whose parts have the prefix ``inner``; ``outer``: that of what a style needs."""
    scale, shift = fold_normalization(weights, f"{inner}.0")
    convolution = f"{inner}.2" if f"{inner}.2.weight" in weights else f"{inner}.1"
    kernel, bias = (weights[f"{convolution}.{part}"] for part in ("weight", "bias"))
    single = kernel.shape[2:] == (1, 1)
    styled = inner != outer
    return _Layer(
        _padded(scale, 0),
        _padded(shift, 0),
        in_panels(kernel[:, :, 0, 0].T[np.newaxis]) if single else transform_kernel(kernel),
        bias.astype(np.float32) if outer == OUTPUT else _padded(bias, 0),
        _padded(weights[f"{outer}.full.weight"], 0) if styled else None,
        _padded(weights[f"{outer}.full.bias"], 0) if styled else None,
    )


def _padded(array: np.ndarray, axis: int) -> np.ndarray:
    """Give float32, C-contiguous, with zeros for the channels that lack to whole panels."""
    widths = [(0, -side % PANEL if n == axis else 0) for n, side in enumerate(array.shape)]
    return np.ascontiguousarray(np.pad(array, widths), np.float32)
