"""A model as one torch module, an ensemble too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from cellseg_engine.nets.card import WeightsFile, check_ensemble
from cellseg_engine.nets.unet import NetworkAverage
from cellseg_engine.nets.weights import build_network


def join_networks(files: Sequence[WeightsFile]) -> nn.Module:
    """Give one module for a model, in evaluation mode, on the CPU.

    Parameters
    ----------
    files
        The weights of its networks; of several the outputs are averaged.

    Returns
    -------
    Module that takes float32 (N, C, Y, X), Y and X multiples of 8, and gives the fields
    (N, 3, Y, X) and the style (N, 256), as `cellseg_engine.nets.unet.ResidualUNet`.

    Raises
    ------
    WeightsError
        The networks of an ensemble do not go together.
    """
    cards = [file.card for file in files]
    check_ensemble(cards[0].name, files)
    networks = [build_network(file) for file in files]
    for net, card in zip(networks, cards, strict=True):
        with torch.no_grad():
            net.diam_mean.fill_(card.diam_mean_px)
            net.diam_labels.fill_(card.diam_labels_px)
    if len(networks) == 1:
        return networks[0]
    joined = NetworkAverage(len(networks), cards[0].n_channels)
    joined.networks = nn.ModuleList(networks)
    return joined.eval().requires_grad_(False)


def run_network(net: nn.Module, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give fields (N, 3, Y, X) and styles (N, 256) of a batch (N, C, Y, X); all float32."""
    with torch.inference_mode():
        fields, styles = net(torch.from_numpy(np.ascontiguousarray(image, np.float32)))
    return fields.numpy(), styles.numpy()


def relative_rms(found: np.ndarray, expected: np.ndarray) -> float:
    """Give the root mean square of the difference, relative to that of what is expected."""
    difference = found.astype(np.float64) - expected
    return float(np.sqrt((difference**2).mean() / (expected.astype(np.float64) ** 2).mean()))
