"""The left ventricle at end-diastole, from its tissues: points of the wall, long axis, right ventricular insertion."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from clinbundles.motion.motion_grid import GRID_SPACING_MM, grid_points, sample_at
from clinbundles.rasterizer.long_axis import LongAxis

CAVITY, MYOCARDIUM, RIGHT_CAVITY = 1, 2, 3
_FEWEST = 50  # voxels of the finer grid


def wall_points(tissue: torch.Tensor, step_mm: float = 2.0) -> torch.Tensor:
    """Places (N, 3) in mm of the myocardium at end-diastole, on a cubic lattice.

    Raises:
        ValueError: there is hardly any myocardium.
    """
    labels, points = fine_labels(tissue, step_mm)
    wall = points[labels == MYOCARDIUM]
    if len(wall) < _FEWEST or int((labels == CAVITY).sum()) < _FEWEST:
        raise ValueError(
            f"the label at end-diastole has {len(wall) * step_mm**3 / 1000:.1f} mL of myocardium and "
            f"{int((labels == CAVITY).sum()) * step_mm**3 / 1000:.1f} mL of cavity: no left ventricle was found; check "
            "the images, or give a label map of end-diastole"
        )
    return wall


def fine_labels(tissue: torch.Tensor, step_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Label (X, Y, Z) of each place of a cubic lattice over the motion grid, and the places (X, Y, Z, 3) in mm."""
    size = [
        round((count - 1) * spacing / step_mm) + 1
        for count, spacing in zip(tissue.shape[1:], GRID_SPACING_MM, strict=True)
    ]
    points = grid_points(size, (step_mm,) * 3)
    values = sample_at(tissue[None], points[None], GRID_SPACING_MM)[0]
    return values.argmax(dim=0), points


def long_axis_at_ed(tissue: torch.Tensor, step_mm: float = 2.0) -> LongAxis:
    """The long axis along z of the exam frame, from the cavity's apex to its base, and the anterior insertion.

    The base is where half of the cavity's largest area of a slice is left; the insertion is the anterior end of the
    right cavity's sector, or 60 degrees before the septum where there is no right cavity.
    """
    labels, points = fine_labels(tissue, step_mm)
    cavity = points[labels == CAVITY].double().numpy()
    levels, counts = np.unique(cavity[:, 2], return_counts=True)
    wide = levels[counts >= 0.5 * counts.max()]
    low, high = float(levels[0]), float(wide[-1])
    middle = cavity[cavity[:, 2] <= high]
    # centre of the slices as a line in z
    slope = np.polyfit(middle[:, 2], middle[:, :2], 1)
    apex, base = (np.array([*(slope[0] * z + slope[1]), z]) for z in (low, high))
    right = points[labels == RIGHT_CAVITY].double().numpy()
    return LongAxis(apex, base, _insertion(right, apex, base))


def _insertion(right: NDArray[np.float64], apex: NDArray[np.float64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    septum = np.pi  # -x of the exam frame
    half = np.pi / 3
    centre = (apex + base) / 2
    near = right[np.abs(right[:, 2] - centre[2]) < 0.25 * (base[2] - apex[2])] if len(right) else right
    if len(near) >= _FEWEST:
        # counted about -z, the way in which the segments are counted
        angles = np.arctan2(-(near[:, 1] - centre[1]), near[:, 0] - centre[0])
        septum = float(np.angle(np.exp(1j * angles).mean()))
        spread = np.angle(np.exp(1j * (angles - septum)))
        half = float(-np.quantile(spread, 0.05))
    start = septum - half
    return base + np.array([np.cos(start), -np.sin(start), 0.0])
