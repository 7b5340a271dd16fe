"""The nearest point of another cloud: indices, exact, by a k-d tree on the CPU."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree

_PAIRS_AT_A_TIME = 2**24


def nearest_by_tree(points: torch.Tensor, others: torch.Tensor, norm: int = 2) -> torch.Tensor:
    """Index [N] into others [M, D] of the point nearest to each of points [N, D], by a k-d tree: N log M steps."""
    tree = cKDTree(others.detach().cpu().numpy())
    _, index = tree.query(points.detach().cpu().numpy(), p=norm)
    return torch.as_tensor(index, dtype=torch.int64, device=points.device)


def nearest_by_brute_force(points: torch.Tensor, others: torch.Tensor, norm: int = 2) -> torch.Tensor:
    """The same by N M distances, in blocks. For GPUs, and what the tree is measured against.

    Distances come from differences: `torch.cdist` in its matrix-product mode mistakes near neighbours.
    """
    step = max(1, _PAIRS_AT_A_TIME // max(1, len(others)))
    blocks = points.detach().split(step)
    mode = "donot_use_mm_for_euclid_dist"
    distances = (torch.cdist(block, others.detach(), p=float(norm), compute_mode=mode) for block in blocks)
    return torch.cat([distance.argmin(1) for distance in distances])
