"""Group normalisation over whole fields, without trainable scale: it commutes with the group."""

from __future__ import annotations

import torch
from torch import nn

from clinbundles.privacy.steerable.symmetry_group import group_order

_WANTED_GROUPS, _FEWEST_FIELDS = 8, 3


def norm_groups(fields: int) -> int:
    """Number of groups for a number of fields: 8 if it divides them, otherwise the nearest divisor.

    A divisor that leaves at most 3 fields in a group gives way to the next nearest; if that does so too, to 1
    (Hoelzl, Rueckert and Kaissis 2023, public code).
    """
    if fields % _WANTED_GROUPS == 0:
        return _WANTED_GROUPS
    divisors = [groups for groups in range(1, fields + 1) if fields % groups == 0]
    nearest = sorted(divisors, key=lambda groups: (abs(groups - _WANTED_GROUPS), groups))[:2]
    return next((groups for groups in nearest if fields // groups > _FEWEST_FIELDS), 1)


class FieldNorm(nn.Module):
    """Affine-free group normalisation of regular fields: statistics over (fields of a group, G, H, W) of each sample.

    Args:
        fields: number of fields.
        group: a name in `symmetry_group.GROUPS`, with G elements.
        groups: number of groups of fields; None: `norm_groups(fields)`.

    Shape: (B, fields * G, H, W), unchanged.

    Raises:
        ValueError: groups that do not divide the fields.
    """

    def __init__(self, fields: int, group: str = "D4", groups: int | None = None) -> None:
        super().__init__()
        self.groups = norm_groups(fields) if groups is None else groups
        if self.groups < 1 or fields % self.groups:
            raise ValueError(f"{fields} fields cannot be split into {self.groups} groups: choose a divisor of {fields}")
        self.channels = fields * group_order(group)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x` (B, fields * G, H, W)."""
        if x.shape[1] != self.channels:
            raise ValueError(f"input has {x.shape[1]} channels: this layer expects {self.channels}")
        # the channels of a field lie together, so groups of channels are groups of fields
        return nn.functional.group_norm(x, self.groups)

    def extra_repr(self) -> str:
        """Arguments, for the printed network."""
        return f"{self.channels} channels, groups={self.groups}"
