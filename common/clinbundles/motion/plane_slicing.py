"""Slicing of volumes by imaging planes: the operator S and its adjoint.

Planes are given as H2's coverage takes them: (..., P, 3 or 4, 4) affines from (i, j, n, 1) of the plane's pixels to mm
of the exam frame: columns are the step of i, the step of j, the unit normal and the centre of pixel (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clinbundles.motion.motion_grid import GRID_SPACING_MM, mm_to_normalised, sample_at


def planes_from_poses(poses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Planes of poses (..., P, 3, 4), which take mm to (i, j, n), and whether each view is there.

    Returns:
        planes: (..., P, 3, 4), pixel -> mm; those of missing views (all zeros) are zeros.
        present: (..., P) bool.
    """
    present = poses.abs().sum(dim=(-2, -1)) > 0
    square = poses.new_zeros(*poses.shape[:-2], 4, 4)
    square[..., :3, :] = poses
    square[..., 3, 3] = 1
    identity = torch.eye(4, dtype=poses.dtype, device=poses.device)
    square = torch.where(present[..., None, None], square, identity)
    planes = torch.linalg.inv(square)[..., :3, :]
    return planes * present[..., None, None], present


def plane_points(
    planes: torch.Tensor, size: Sequence[int], slab_mm: float = 0.0, sub_planes: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the pixels of planes.

    Args:
        planes: (..., P, 3 or 4, 4), pixel -> mm.
        size: (I', J') pixels.
        slab_mm: slice thickness; sub-planes lie in its middle fractions.
        sub_planes: how many parallel planes share the thickness.

    Returns:
        points: (..., P, Q, I', J', 3) in mm; Q sub-planes.
        weights: (Q,), their sum is 1.
    """
    if sub_planes < 1:
        raise ValueError(f"a slab needs at least one plane, not {sub_planes}")
    options = {"dtype": planes.dtype, "device": planes.device}
    rows = torch.arange(size[0], **options)
    columns = torch.arange(size[1], **options)
    depths = ((torch.arange(sub_planes, **options) + 0.5) / sub_planes - 0.5) * slab_mm
    step_i, step_j, normal, origin = (planes[..., :3, column] for column in range(4))
    points = (
        origin[..., None, None, None, :]
        + depths[:, None, None, None] * normal[..., None, None, None, :]
        + rows[:, None, None] * step_i[..., None, None, None, :]
        + columns[:, None] * step_j[..., None, None, None, :]
    )
    return points, torch.full([sub_planes], 1 / sub_planes, **options)


def slice_volume(
    volume: torch.Tensor,
    planes: torch.Tensor,
    size: Sequence[int],
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
    slab_mm: float = 0.0,
    sub_planes: int = 1,
    padding_mode: str = "zeros",
) -> torch.Tensor:
    """Images of planes through a volume, S v: trilinear at the pixels, mean over the slab.

    Args:
        volume: (B, C, I, J, K) on the centred grid.
        planes: (B, P, 3 or 4, 4), pixel -> mm.
        size: (I', J') pixels of a plane.
        spacing_mm: of the grid.
        slab_mm: slice thickness in mm.
        sub_planes: planes that sample the thickness.
        padding_mode: what lies outside the volume: "zeros" or "border".

    Returns:
        (B, C, P, I', J').
    """
    points, weights = plane_points(planes, size, slab_mm, sub_planes)
    values = sample_at(volume, points, spacing_mm, padding_mode)  # (B, C, P, Q, I', J')
    return torch.einsum("bcpqij,q->bcpij", values, weights)


def slice_volume_adjoint(
    images: torch.Tensor,
    planes: torch.Tensor,
    volume_size: Sequence[int],
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
    slab_mm: float = 0.0,
    sub_planes: int = 1,
) -> torch.Tensor:
    """S^T w: puts images (B, C, P, I', J') back into a volume (B, C, I, J, K), so that <S v, w> = <v, S^T w>.

    The adjoint of :func:`slice_volume` with zeros outside.
    """
    points, weights = plane_points(planes, images.shape[-2:], slab_mm, sub_planes)
    batch, channels = images.shape[:2]
    half = torch.tensor([(count - 1) / 2 for count in volume_size], dtype=points.dtype, device=points.device)
    index = (mm_to_normalised(points, volume_size, spacing_mm) + 1) * half  # (B, P, Q, I', J', 3)
    index = index.reshape(batch, -1, 3)
    values = torch.einsum("bcpij,q->bcpqij", images, weights).reshape(batch, channels, -1)
    lower = index.floor()
    fraction = index - lower
    voxels = volume_size[0] * volume_size[1] * volume_size[2]
    volume = images.new_zeros(batch, channels, voxels)
    limits = torch.tensor(list(volume_size), device=points.device)
    for corner in range(8):
        offset = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=points.device)
        place = lower.long() + offset
        weight = torch.where(offset.bool(), fraction, 1 - fraction).prod(dim=-1)
        inside = ((place >= 0) & (place < limits)).all(dim=-1)
        place = torch.minimum(place.clamp(min=0), limits - 1)
        flat = (place[..., 0] * volume_size[1] + place[..., 1]) * volume_size[2] + place[..., 2]
        volume.scatter_add_(2, flat[:, None].expand(-1, channels, -1), values * (weight * inside)[:, None])
    return volume.reshape(batch, channels, *volume_size)
