"""The losses of the flow field and of the object probability."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cellseg_engine.nets.unet import FLOW_SCALE


def flow_loss(fields: Tensor, targets: Tensor) -> Tensor:
    """Give half the mean squared difference of the flows, both times 5.

    Parameters
    ----------
    fields
        Output of the network, shape (N, 3, Y, X): flow y and x times 5, logit.
    targets
        float32 of shape (N, 3, Y, X): flow y and x of unit length, 1 inside objects.

    Notes
    -----
    Stringer et al. 2021, Methods: the L2 loss of the flows; the factor 5 brings it to the size
    of the other loss. The half is Cellpose's.
    """
    return 0.5 * functional.mse_loss(fields[:, :2].float(), FLOW_SCALE * targets[:, :2])


def probability_loss(fields: Tensor, targets: Tensor) -> Tensor:
    """Give the mean binary cross-entropy of the object probability; parameters as `flow_loss`."""
    return functional.binary_cross_entropy_with_logits(fields[:, 2].float(), targets[:, 2])


def losses(fields: Tensor, targets: Tensor) -> Tensor:
    """Give both losses, float32 of shape (2,): flows, probability; their sum is minimised."""
    return torch.stack([flow_loss(fields, targets), probability_loss(fields, targets)])
