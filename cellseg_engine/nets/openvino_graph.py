"""The residual U-Net of `cellseg_engine.nets.unet` as a graph of OpenVINO.

It is built operation by operation from the named weights. OpenVINO's own converter is not used:
it needs a trace of the PyTorch module and reports each conversion to a server of its makers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cellseg_engine.nets.unet import WIDTHS
from cellseg_engine.nets.weights import fold_normalization

Node = Any
"""A node of a graph; OpenVINO has no types of its own."""


def build_graph(weights: Mapping[str, np.ndarray], n_channels: int) -> Any:
    """Give the network as an ``openvino.Model``.

    Parameters
    ----------
    weights
        Parameters and running statistics under the names of `ResidualUNet.state_dict`, float.
    n_channels
        Channels of the input.

    Returns
    -------
    ``openvino.Model`` with the input ``tiles`` of shape (1, n_channels, Y, X), Y and X any
    multiples of 8, and the outputs ``fields``, shape (1, 3, Y, X), and ``style``, shape (1, 256);
    all float32.
    """
    return _Builder(weights).build(n_channels)


class _Builder:
    """Turns layers into nodes; a layer is named by the prefix of its weights."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        from openvino import opset13

        self._ops: Any = opset13
        self._weights = weights

    def build(self, n_channels: int) -> Any:
        """Give the whole network."""
        import openvino

        tiles = self._ops.parameter([1, n_channels, -1, -1], np.float32, name="tiles")
        maps: list[Node] = []
        for n in range(len(WIDTHS)):
            x = self._max_pool(maps[-1]) if maps else tiles
            maps.append(self._down_block(f"downsample.down.res_down_{n}", x))
        mean = self._ops.reduce_mean(maps[-1], self._integers(2, 3), keep_dims=False)
        length = self._ops.reduce_l2(mean, self._integers(1), keep_dims=True)
        style = self._ops.divide(mean, length)
        x = maps[-1]
        for n in reversed(range(len(WIDTHS))):
            if n < len(WIDTHS) - 1:
                x = self._double(x)
            x = self._up_block(f"upsample.up.res_up_{n}", x, maps[n], style)
        fields = self._convolve("output.2", self._ops.relu(self._normalize("output.0", x)))
        results = []
        for name, node in (("fields", fields), ("style", style)):
            node.output(0).get_tensor().set_names({name})
            results.append(self._ops.result(node))
        tiles.output(0).get_tensor().set_names({"tiles"})
        return openvino.Model(results, [tiles], "residual-unet")

    def _down_block(self, name: str, x: Node) -> Node:
        inner = self._bn_relu_conv(f"{name}.conv.conv_0", x)
        inner = self._bn_relu_conv(f"{name}.conv.conv_1", inner)
        x = self._ops.add(self._projection(f"{name}.proj", x), inner)
        inner = self._bn_relu_conv(f"{name}.conv.conv_2", x)
        return self._ops.add(x, self._bn_relu_conv(f"{name}.conv.conv_3", inner))

    def _up_block(self, name: str, x: Node, skip: Node, style: Node) -> Node:
        inner = self._ops.add(self._bn_relu_conv(f"{name}.conv.conv_0", x), skip)
        inner = self._style_conv(f"{name}.conv.conv_1", inner, style)
        x = self._ops.add(self._projection(f"{name}.proj", x), inner)
        inner = self._style_conv(f"{name}.conv.conv_2", x, style)
        return self._ops.add(x, self._style_conv(f"{name}.conv.conv_3", inner, style))

    def _style_conv(self, name: str, x: Node, style: Node) -> Node:
        full = self._ops.matmul(
            style, self._constant(self._weights[f"{name}.full.weight"]), False, True
        )
        full = self._ops.add(full, self._constant(self._weights[f"{name}.full.bias"][None]))
        full = self._ops.unsqueeze(full, self._integers(2, 3))
        return self._bn_relu_conv(f"{name}.conv", self._ops.add(x, full))

    def _projection(self, name: str, x: Node) -> Node:
        return self._convolve(f"{name}.1", self._normalize(f"{name}.0", x))

    def _bn_relu_conv(self, name: str, x: Node) -> Node:
        return self._convolve(f"{name}.2", self._ops.relu(self._normalize(f"{name}.0", x)))

    def _normalize(self, name: str, x: Node) -> Node:
        """Batch normalisation with fixed statistics, as one factor and one summand a channel."""
        factor, summand = fold_normalization(self._weights, name)
        scaled = self._ops.multiply(x, self._constant(factor[None, :, None, None]))
        return self._ops.add(scaled, self._constant(summand[None, :, None, None]))

    def _convolve(self, name: str, x: Node) -> Node:
        kernel = self._weights[f"{name}.weight"]
        pad = [n // 2 for n in kernel.shape[2:]]
        out = self._ops.convolution(x, self._constant(kernel), [1, 1], pad, pad, [1, 1])
        bias = self._weights[f"{name}.bias"]
        return self._ops.add(out, self._constant(bias[None, :, None, None]))

    def _max_pool(self, x: Node) -> Node:
        return self._ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)

    def _double(self, x: Node) -> Node:
        return self._ops.interpolate(
            x,
            self._constant(np.array([2, 2])),
            "nearest",
            "scales",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
            axes=self._integers(2, 3),
        )

    def _constant(self, array: np.ndarray) -> Node:
        return self._ops.constant(np.ascontiguousarray(array, np.float32))

    def _integers(self, *values: int) -> Node:
        return self._ops.constant(np.array(values, np.int64))
