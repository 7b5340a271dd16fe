"""Maximum over the group: from regular fields to channels that only turn with the image."""

from __future__ import annotations

import torch
from torch import nn

from clinbundles.privacy.steerable.symmetry_group import group_order


class GroupPooling(nn.Module):
    """Largest of the G channels of each regular field.

    Shape: (B, F * G, H, W) to (B, F, H, W).
    """

    def __init__(self, group: str = "D4") -> None:
        super().__init__()
        self.group_order = group_order(group)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maximum of `x` (B, F * G, H, W) over the channels of each field."""
        return x.unflatten(1, (-1, self.group_order)).amax(2)
