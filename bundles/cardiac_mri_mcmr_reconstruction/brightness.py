"""The scale of a cine: what its bright parts have."""

from __future__ import annotations

import torch


def brightness(images: torch.Tensor) -> torch.Tensor:
    """The magnitude that 0.5 % of the pixels exceed; of every so many pixels where there are over a million."""
    magnitude = images.detach().abs().flatten()
    return torch.quantile(magnitude[:: max(1, magnitude.numel() // 500_000)], 0.995)
