"""A loss of a batch taken sample by sample."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["PerSampleLoss"]


class PerSampleLoss(nn.Module):
    """Applies a loss to each sample alone and gives one number for each, as private training needs.

    For losses that give one number for a batch, and for those that mix samples, such as a Dice loss over the whole
    batch. Losses of PyTorch and MONAI with `reduction: none` do not need it and are faster.

    Args:
        loss: of predictions (1, ...) and labels (1, ...); its mean is taken.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, pred: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Losses (B,) of predictions (B, ...) and labels (B, ...)."""
        pairs = zip(pred.split(1), label.split(1), strict=True)
        return torch.stack([self.loss(one_pred, one_label).mean() for one_pred, one_label in pairs])
