"""Loss of the vessel network: soft Dice and binary cross-entropy per channel, optionally soft clDice."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss, SoftclDiceLoss
from torch import nn


class VesselLoss(nn.Module):
    """``dice * (1 - Dice) + bce * BCE + cldice * (1 - soft clDice)``, averaged over the two output channels.

    Kreitner et al. 2024 use 0.5 and 0.5. Logits and labels are (B, 2, H, W).

    Args:
        dice: weight of the soft Dice loss, pooled over the batch.
        bce: weight of the binary cross-entropy.
        cldice: weight of the soft centreline Dice loss (Shit et al., CVPR 2021) on the channel of all vessels.
    """

    def __init__(self, dice: float = 0.5, bce: float = 0.5, cldice: float = 0.0) -> None:
        super().__init__()
        self.weights = (dice, bce, cldice)
        self.dice = DiceLoss(sigmoid=True, batch=True)
        self.bce = nn.BCEWithLogitsLoss()
        self.cldice = SoftclDiceLoss(iter_=3)

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Scalar loss."""
        if logits.shape != label.shape:
            raise ValueError(f"logits are {tuple(logits.shape)} but label is {tuple(label.shape)}: they must agree")
        dice, bce, cldice = self.weights
        loss = dice * self.dice(logits, label) + bce * self.bce(logits, label)
        if cldice > 0:
            loss = loss + cldice * self.cldice(label[:, :1], logits[:, :1].sigmoid())
        return loss
