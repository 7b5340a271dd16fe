"""Tortuosity of vessel branches: arc length over chord length."""

from __future__ import annotations

import numpy as np

from retinal_octa_vessel_segmentation.measurement.skeleton_graph import SkeletonGraph

SHORTEST_BRANCH_PX = 10  # below that the ratio tells of pixels, not of vessels


def branch_tortuosity(skeleton: SkeletonGraph, shortest_px: int = SHORTEST_BRANCH_PX) -> np.ndarray:
    """Arc / chord of each branch, >= 1 (1 for a straight branch, pi / 2 for a semicircle).

    NaN where it is not defined: branches of fewer than ``shortest_px`` pixels and closed rings, whose chord is zero.
    """
    size = np.array([len(branch) for branch in skeleton.branches], dtype=int)
    defined = (size >= shortest_px) & (skeleton.chord_mm > 0)
    ratio = np.full(len(size), np.nan)
    ratio[defined] = np.maximum(skeleton.arc_mm[defined] / skeleton.chord_mm[defined], 1.0)
    return ratio


def mean_tortuosity(skeleton: SkeletonGraph, of: np.ndarray | None = None) -> float | None:
    """Mean arc / chord, weighted by arc length so that a cut branch counts as its pieces do; None without a branch.

    Args:
        skeleton: the traced centreline.
        of: boolean (branches,), which branches; default: all.
    """
    ratio = branch_tortuosity(skeleton)
    use = np.isfinite(ratio) if of is None else np.isfinite(ratio) & of
    return float(np.average(ratio[use], weights=skeleton.arc_mm[use])) if use.any() else None
