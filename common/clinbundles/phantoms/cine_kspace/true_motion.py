"""True in-plane motion between the frames of a slice: what the heart's exact map does to the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.cine_kspace.carried_chest import CarriedChest
from clinbundles.phantoms.cine_kspace.fine_picture import HEART_REACH_MM
from clinbundles.phantoms.cine_kspace.slice_plan import SlicePlan
from clinbundles.phantoms.heart.heart import Heart


def heart_tissues(heart: Heart, points: NDArray[np.float64], time: float) -> NDArray[np.uint8]:
    """`Tissue` (P,) of the heart at world points (P, 3); 0 where the chest is seen."""
    pose = heart.pose(time)
    own = (points - pose[:3, 3]) @ pose[:3, :3]
    near = (own[:, 2] < heart.anatomy.atrium_height) & ((own[:, :2] ** 2).sum(-1) < HEART_REACH_MM**2)
    tissues = np.zeros(len(points), np.uint8)
    tissues[near] = heart.tissues(points[near], time)
    return tissues


def true_flow(
    chest: CarriedChest,
    plan: SlicePlan,
    times: NDArray[np.float64],
    targets: Sequence[int] | None = None,
    sources: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Flow (T, S, 2, X, Y) of target frames (rows of the result) on the grids of source frames.

    Pull convention, pixels, component 0 = row (X), 1 = column (Y): the tissue that is at pixel p in frame s was or will
    be at p + flow[t, s, :, p] in frame t, so bilinear(x_t, p + flow) predicts frame s. It is the exact motion of the
    tissue in the middle of the slab, projected onto the slice: through-plane motion is left out of the flow and stays
    in the picture. The heart moves by its own map, what frame s shows of the chest by that of `CarriedChest`.

    Args:
        chest: what moves, with its heart.
        plan: the slice.
        times: of all frames, fractions of the cycle.
        targets, sources: indices of frames; all when None.
    """
    chosen = range(len(times)) if targets is None else targets
    owners = range(len(times)) if sources is None else sources
    points = plan.centres()
    flow = np.zeros((len(chosen), len(owners), 2, len(points)), np.float32)
    for column, source in enumerate(owners):
        time = float(times[source])
        own = heart_tissues(chest.heart, points, time) > 0
        material = chest.heart.to_material(points[own], time)
        around = chest.pull_back(points[~own], time)
        for row, target in enumerate(chosen):
            if target != source:
                there = np.empty_like(points)
                there[own] = chest.heart.to_spatial(material, float(times[target]))
                there[~own] = chest.push(around, float(times[target]))
                flow[row, column] = plan.in_pixels(there - points).T
    return flow.reshape(len(chosen), len(owners), 2, *plan.size)
