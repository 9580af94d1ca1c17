"""A running average of a network's weights, which a constant learning rate leaves restless."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

Weights = dict[str, torch.Tensor]


class RunningAverage:
    """The exponential average of weights and batch-normalisation values over the steps.

    Parameters
    ----------
    decay
        Share of the average that stays in a step: 0.97 averages over about 33 steps. In the
        first steps it is smaller, so that the weights of the beginning do not count for long.

    Notes
    -----
    Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"; with the
    exponential weights of most programs.
    """

    def __init__(self, decay: float) -> None:
        self._decay, self._steps = decay, 0
        self._values: Weights = {}

    def add(self, net: torch.nn.Module) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        share = 1 - min(self._decay, self._steps / (self._steps + 9))
        with torch.no_grad():
            for name, value in net.state_dict().items():
                if name not in self._values or not value.is_floating_point():
                    self._values[name] = value.detach().clone()
                else:
                    self._values[name].lerp_(value, share)

    def weights(self) -> Weights:
        """Give a copy of the average; nothing before the first step."""
        return {name: value.clone() for name, value in self._values.items()}

    @contextlib.contextmanager
    def shown_by(self, net: torch.nn.Module) -> Iterator[None]:
        """Let a network have the average as its weights for a while."""
        own = {name: value.detach().clone() for name, value in net.state_dict().items()}
        net.load_state_dict(self._values)
        try:
            yield
        finally:
            net.load_state_dict(own)

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint has to keep."""
        return {"steps": self._steps, "values": self._values}

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from a checkpoint."""
        self._steps = state["steps"]
        self._values = {name: value.to(device) for name, value in state["values"].items()}
