"""The residual U-Net with a style vector (Stringer et al. 2021, "Deep neural network").

Names and shapes of the parameters are exactly those of the official weights files, so that
these load without a translation table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (32, 64, 128, 256)
"""Feature maps at each of the four scales."""

N_OUTPUTS = 3
"""Flow y, flow x (both times 5), and the logit of the object probability."""

FLOW_SCALE = 5.0
"""The network gives flows times 5, to balance the losses (Stringer et al. 2021)."""


def _bn_relu_conv(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(n_in), nn.ReLU(), nn.Conv2d(n_in, n_out, 3, padding=1))


def _projection(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(n_in), nn.Conv2d(n_in, n_out, 1))


class DownBlock(nn.Module):
    """Two residual blocks of two convolutions each."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.ModuleDict(
            {f"conv_{t}": _bn_relu_conv(n_in if t == 0 else n_out, n_out) for t in range(4)}
        )
        self.proj = _projection(n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x) + self.conv["conv_1"](self.conv["conv_0"](x))
        out: Tensor = x + self.conv["conv_3"](self.conv["conv_2"](x))
        return out


class StyleConv(nn.Module):
    """A convolution whose input gets the style, and the skip connection if there is one."""

    def __init__(self, n_in: int, n_out: int, n_style: int) -> None:
        super().__init__()
        self.conv = _bn_relu_conv(n_in, n_out)
        self.full = nn.Linear(n_style, n_out)

    def forward(self, style: Tensor, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            x = x + skip
        out: Tensor = self.conv(x + self.full(style)[:, :, None, None])
        return out


class UpBlock(nn.Module):
    """Two residual blocks; the skip connection enters at the second convolution of four."""

    def __init__(self, n_in: int, n_out: int, n_style: int) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {"conv_0": _bn_relu_conv(n_in, n_out)}
        layers.update({f"conv_{t}": StyleConv(n_out, n_out, n_style) for t in (1, 2, 3)})
        self.conv = nn.ModuleDict(layers)
        self.proj = _projection(n_in, n_out)

    def forward(self, x: Tensor, skip: Tensor, style: Tensor) -> Tensor:
        x = self.proj(x) + self.conv["conv_1"](style, self.conv["conv_0"](x), skip)
        out: Tensor = x + self.conv["conv_3"](style, self.conv["conv_2"](style, x))
        return out


class Downsample(nn.Module):
    """The contracting path; gives the feature maps of every scale."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        sizes = (n_channels, *WIDTHS)
        self.down = nn.ModuleDict(
            {f"res_down_{n}": DownBlock(sizes[n], sizes[n + 1]) for n in range(len(WIDTHS))}
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for n, block in enumerate(self.down.values()):
            maps.append(block(x if n == 0 else functional.max_pool2d(maps[-1], 2)))
        return maps


class Upsample(nn.Module):
    """The expanding path, with nearest-neighbour upsampling between scales."""

    def __init__(self) -> None:
        super().__init__()
        outputs = WIDTHS
        inputs = (*WIDTHS[1:], WIDTHS[-1])
        self.up = nn.ModuleDict(
            {f"res_up_{n}": UpBlock(inputs[n], outputs[n], WIDTHS[-1]) for n in range(len(WIDTHS))}
        )

    def forward(self, maps: list[Tensor], style: Tensor) -> Tensor:
        x = maps[-1]
        for n in reversed(range(len(WIDTHS))):
            if n < len(WIDTHS) - 1:
                x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.up[f"res_up_{n}"](x, maps[n], style)
        return x


class ResidualUNet(nn.Module):
    """The network.

    Parameters
    ----------
    n_channels
        Channels of the input, 2 in the official models (objects, nuclei).

    Notes
    -----
    Input: float32 of shape (N, n_channels, Y, X), Y and X multiples of 8. Output: the fields,
    shape (N, 3, Y, X) (flow y and x times 5, logit), and the style, shape (N, 256), of unit
    length.
    """

    diam_mean: Tensor
    diam_labels: Tensor

    def __init__(self, n_channels: int = 2) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.downsample = Downsample(n_channels)
        self.upsample = Upsample()
        self.output = nn.Sequential(
            nn.BatchNorm2d(WIDTHS[0]), nn.ReLU(), nn.Conv2d(WIDTHS[0], N_OUTPUTS, 1)
        )
        self.diam_mean = nn.Parameter(torch.tensor([30.0]), requires_grad=False)
        self.diam_labels = nn.Parameter(torch.tensor([30.0]), requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.downsample(x)
        style = maps[-1].mean(dim=(-2, -1))
        style = style / style.norm(dim=1, keepdim=True)
        return self.output(self.upsample(maps, style)), style


class NetworkAverage(nn.Module):
    """Networks of one ensemble: the mean of their fields, and the style of the first.

    Parameters
    ----------
    n_networks
        How many.
    n_channels
        Channels of the input, the same for all.

    Notes
    -----
    Input and output as of `ResidualUNet`.
    """

    def __init__(self, n_networks: int, n_channels: int = 2) -> None:
        super().__init__()
        self.networks = nn.ModuleList(ResidualUNet(n_channels) for _ in range(n_networks))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fields, style = self.networks[0](x)
        for net in list(self.networks)[1:]:
            fields = fields + net(x)[0]
        return fields / len(self.networks), style
