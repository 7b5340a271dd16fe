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
