"""Quality of objects: how well their own flows explain the network's."""

from __future__ import annotations

import numpy as np

from cellseg_engine.core.flow_variants import FlowVariant
from cellseg_engine.core.flows import compare_flows


def flow_errors(labels: np.ndarray, flows: np.ndarray, variant: FlowVariant = "v3") -> np.ndarray:
    """Give for every object the mean squared difference between its own and the given flows.

    Parameters
    ----------
    labels
        int32 of shape (Y, X).
    flows
        float32 of shape (2, Y, X), unit length by convention.
    variant
        The flow targets the network was trained on.

    Returns
    -------
    float64 of shape (largest id + 1,); NaN for ids that do not occur, entry 0 is NaN.

    Raises
    ------
    ImageError
        The shapes do not fit.

    Notes
    -----
    Stringer et al. 2021, "Mask quality threshold": objects above 0.4 are discarded.
    """
    return compare_flows(labels, flows, variant)
