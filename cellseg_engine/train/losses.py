"""The losses of the flow field and of the object probability."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cellseg_engine.nets.unet import FLOW_SCALE


def flow_loss(fields: Tensor, targets: Tensor, annotated: Tensor | None = None) -> Tensor:
    """Give half the mean squared difference of the flows, both times 5.

    Parameters
    ----------
    fields
        Output of the network, shape (N, 3, Y, X): flow y and x times 5, logit.
    targets
        float32 of shape (N, 3, Y, X): flow y and x of unit length, 1 inside objects.
    annotated
        float32 of shape (N, Y, X), 1 where the targets are known, else 0; None for everywhere.

    Notes
    -----
    Stringer et al. 2021, Methods: the L2 loss of the flows; the factor 5 brings it to the size
    of the other loss. The half is Cellpose's.
    """
    found, wanted = fields[:, :2].float(), FLOW_SCALE * targets[:, :2]
    if annotated is None:
        return 0.5 * functional.mse_loss(found, wanted)
    squares = functional.mse_loss(found, wanted, reduction="none").mean(dim=1)
    return 0.5 * _mean_where(squares, annotated)


def probability_loss(fields: Tensor, targets: Tensor, annotated: Tensor | None = None) -> Tensor:
    """Give the mean binary cross-entropy of the object probability; parameters as `flow_loss`."""
    cross_entropy = functional.binary_cross_entropy_with_logits
    found, wanted = fields[:, 2].float(), targets[:, 2]
    if annotated is None:
        return cross_entropy(found, wanted)
    return _mean_where(cross_entropy(found, wanted, reduction="none"), annotated)


def losses(fields: Tensor, targets: Tensor, annotated: Tensor | None = None) -> Tensor:
    """Give both losses, float32 of shape (2,): flows, probability; their sum is minimised."""
    return torch.stack(
        [flow_loss(fields, targets, annotated), probability_loss(fields, targets, annotated)]
    )


def _mean_where(values: Tensor, annotated: Tensor) -> Tensor:
    """Give the mean over what is annotated; 0 where nothing is."""
    return (values * annotated).sum() / annotated.sum().clamp(min=1)
