"""Loss of the vessel network: soft Dice and binary cross-entropy per channel, optionally soft clDice."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss, SoftclDiceLoss
from torch import nn


class VesselLoss(nn.Module):
    """``dice * (1 - Dice) + bce * BCE + cldice * (1 - soft clDice)``, averaged over the two output channels.

    Kreitner et al. 2024 use 0.5 and 0.5. Logits and labels are (B, 2, H, W). A channel of an image that is negative
    throughout is unknown (a mask says nothing about the other class of vessels) and has no loss.

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
        known = label.amin(dim=(2, 3)) >= 0  # (B, 2)
        if known.all():
            return self._loss(logits, label)
        channels = [index for index in range(label.shape[1]) if known[:, index].any()]
        losses = [self._loss(logits[known[:, c], c : c + 1], label[known[:, c], c : c + 1]) for c in channels]
        return torch.stack(losses).mean() if losses else logits.sum() * 0.0

    def _loss(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        dice, bce, cldice = self.weights
        loss = dice * self.dice(logits, label) + bce * self.bce(logits, label)
        if cldice > 0:
            loss = loss + cldice * self.cldice(label[:, :1], logits[:, :1].sigmoid())
        return loss
