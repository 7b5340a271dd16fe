"""Labels of all frames: the tissues at end-diastole, carried by one motion."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clinbundles.motion.displacement_field import warp
from clinbundles.motion.motion_grid import GRID_SPACING_MM, sample_at
from clinbundles.motion.plane_slicing import plane_points, planes_from_poses


def carried_label(
    tissue: torch.Tensor,
    fields: torch.Tensor,
    poses: torch.Tensor,
    size: Sequence[int],
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
) -> torch.Tensor:
    """Label maps of planes at every frame: the tissue at x + Phi_t(x).

    Args:
        tissue: (n, I, J, K) probabilities at end-diastole.
        fields: (T, 3, I, J, K) on the domain t, mm.
        poses: (P, 3, 4) of the planes, exam mm -> (i, j, n); zeros for a plane that is not there.
        size: pixels of the planes.
        spacing_mm: of the motion grid.

    Returns:
        (T, P, H, W) uint8; 0 on planes that are not there.
    """
    planes, present = planes_from_poses(poses.float())
    points = plane_points(planes, size)[0].reshape(1, -1, 3)
    labels = []
    for field in fields:
        places = points + sample_at(field[None], points, spacing_mm).movedim(1, -1)
        values = sample_at(tissue[None], places, spacing_mm, padding_mode="border")
        labels.append(values[0].argmax(dim=0).reshape(len(poses), *size).to(torch.uint8))
    return torch.stack(labels) * present[None, :, None, None]


def tissue_volumes_ml(
    tissue: torch.Tensor, fields: torch.Tensor, spacing_mm: Sequence[float] = GRID_SPACING_MM
) -> torch.Tensor:
    """Volume of each tissue at every frame (T, n): its probability, carried, over the motion grid."""
    voxel_ml = spacing_mm[0] * spacing_mm[1] * spacing_mm[2] / 1000
    carried = warp(tissue[None].expand(len(fields), -1, -1, -1, -1), fields, spacing_mm)
    return carried.sum(dim=(2, 3, 4)) * voxel_ml
