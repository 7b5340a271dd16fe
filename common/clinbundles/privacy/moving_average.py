"""Average of the weights over the last steps, which takes noise out of them without costing privacy."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

__all__ = ["MovingAverage"]


class MovingAverage:
    """Exponential moving average of a network's weights, one update per logical step.

    It is a function of weights that are private already, so it spends nothing. In step t (from 1) the old average
    has the weight min(decay, (1 + t) / (10 + t)), so that early weights are forgotten in short trainings too (De et
    al., "Unlocking High-Accuracy Differentially Private Image Classification through Scale", 2022).

    Args:
        network: to be averaged; the averaged network is a copy, in eval mode, without gradients.
        decay: in [0, 1); 0 follows the network.

    Raises:
        ValueError: a decay outside that range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the moving average is {decay}, expected in [0, 1)")
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        """The averaged network: to validate and to release."""
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the weights of `network`; buffers are copied."""
        self.steps += 1
        old = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, weight in zip(self.network.parameters(), network.parameters(), strict=True):
            average.lerp_(weight, 1 - old)
        for average, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights and number of steps."""
        return {"network": self.network.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.steps = int(state["steps"])
