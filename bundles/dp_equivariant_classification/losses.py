"""Cross-entropy that no private label has weighted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class ClassificationLoss(nn.Module):
    """Cross-entropy of logits (B, classes) and labels int64 (B,), reduced as the trainer needs it.

    Frequencies of the classes among private images are a release that the privacy statement does not count: weights
    are numbers that were chosen without them, or there are none.

    Args:
        class_weights: a number per class, from public knowledge; None weighs all alike.
        reduction: "none" (one number per image, which private training needs), "sum" or "mean".

    Raises:
        ValueError: a word such as "balanced" instead of numbers.
    """

    def __init__(self, class_weights: Sequence[float] | None = None, reduction: str = "none") -> None:
        super().__init__()
        if isinstance(class_weights, str):
            raise ValueError(
                f"class_weights is {class_weights!r}, expected None or one number per class: weights that are computed "
                "from the private labels reveal how many patients have which disease, which the privacy statement does "
                "not cover. Take frequencies from public statistics, or leave them out"
            )
        weights = None if class_weights is None else torch.tensor([float(weight) for weight in class_weights])
        self.register_buffer("weights", weights, persistent=False)
        self.reduction = reduction

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The loss: (B,) for "none", else a scalar."""
        weights = self.weights if isinstance(self.weights, torch.Tensor) else None
        return nn.functional.cross_entropy(logits, label.long(), weight=weights, reduction=self.reduction)
