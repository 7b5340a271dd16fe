"""Fewer symmetries from here on: a regular field of a group is several regular fields of a subgroup."""

from __future__ import annotations

import torch
from torch import nn

from clinbundles.privacy.steerable.symmetry_group import symmetry_group


class GroupRestriction(nn.Module):
    """Regular fields of `group`, sorted into regular fields of `subgroup`; no number changes, only their order.

    Args:
        fields: number of fields of the input.
        group: a name in `symmetry_group.GROUPS`, with G elements.
        subgroup: another one, with fewer turns or without mirroring, S elements.

    Shape: (B, fields * G, H, W) to the same, read as fields * G / S fields (`out_fields`).

    Raises:
        ValueError: `subgroup` is no part of `group`.
    """

    def __init__(self, fields: int, group: str, subgroup: str) -> None:
        super().__init__()
        whole, part = symmetry_group(group), symmetry_group(subgroup)
        if whole.rotations % part.rotations or (part.mirrored and not whole.mirrored):
            raise ValueError(f"{subgroup} is no subgroup of {group}: its turns or mirroring are not all in {group}")
        step = whole.rotations // part.rotations
        inside = [whole.element(mirrored, step * turns) for mirrored, turns in map(part.split, range(part.order))]
        order: list[int] = []  # coset after coset: the elements h g of one, h in the order of the subgroup's elements
        for g in range(whole.order):
            if g not in order:
                order += [whole.product(h, g) for h in inside]
        self.out_fields = fields * whole.order // part.order
        channels = torch.arange(fields)[:, None] * whole.order + torch.tensor(order)
        self.order: torch.Tensor
        self.register_buffer("order", channels.flatten(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sort the channels of `x` (B, fields * G, H, W)."""
        return x.index_select(1, self.order)
