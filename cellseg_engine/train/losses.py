"""The losses of the flow field and of the object probability."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cellseg_engine.nets.unet import FLOW_SCALE


def flow_loss(fields: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Give half the mean squared difference of the flows, both times 5.

    Parameters
    ----------
    fields
        Output of the network, shape (N, 3, Y, X): flow y and x times 5, logit.
    targets
        float32 of shape (N, 3, Y, X): flow y and x of unit length, 1 inside objects.
    weights
        float32 of shape (N, Y, X), how much each pixel counts, 0 where the targets are not known;
        None for all alike.

    Notes
    -----
    Stringer et al. 2021, Methods: the L2 loss of the flows; the factor 5 brings it to the size
    of the other loss. The half is Cellpose's.
    """
    found, wanted = fields[:, :2].float(), FLOW_SCALE * targets[:, :2]
    if weights is None:
        return 0.5 * functional.mse_loss(found, wanted)
    squares = functional.mse_loss(found, wanted, reduction="none").mean(dim=1)
    return 0.5 * _weighted_mean(squares, weights)


def probability_loss(fields: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Give the mean binary cross-entropy of the object probability; parameters as `flow_loss`."""
    cross_entropy = functional.binary_cross_entropy_with_logits
    found, wanted = fields[:, 2].float(), targets[:, 2]
    if weights is None:
        return cross_entropy(found, wanted)
    return _weighted_mean(cross_entropy(found, wanted, reduction="none"), weights)


def losses(fields: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Give both losses, float32 of shape (2,): flows, probability; their sum is minimised."""
    return torch.stack(
        [flow_loss(fields, targets, weights), probability_loss(fields, targets, weights)]
    )


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Give the mean; 0 where all weights are 0."""
    return (values * weights).sum() / weights.sum().clamp(min=1)
