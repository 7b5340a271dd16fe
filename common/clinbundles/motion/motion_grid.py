"""The grid on which motion is estimated: centred at the origin of the exam frame, its axes those of the frame.

Index (i, j, k) lies at mm = (index - (N - 1) / 2) * spacing; tensors are [..., I, J, K].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

GRID_SIZE = (64, 64, 16)
GRID_SPACING_MM = (2.0, 2.0, 8.0)


def grid_affine(size: Sequence[int] = GRID_SIZE, spacing_mm: Sequence[float] = GRID_SPACING_MM) -> torch.Tensor:
    """(4, 4) float64: voxel index -> mm of the exam frame."""
    affine = torch.eye(4, dtype=torch.float64)
    for axis, (count, step) in enumerate(zip(size, spacing_mm, strict=True)):
        affine[axis, axis] = step
        affine[axis, 3] = -step * (count - 1) / 2
    return affine


def grid_points(
    size: Sequence[int] = GRID_SIZE,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Places of all voxels: (I, J, K, 3) in mm of the exam frame."""
    axes = [
        (torch.arange(count, dtype=dtype, device=device) - (count - 1) / 2) * step
        for count, step in zip(size, spacing_mm, strict=True)
    ]
    return torch.stack(torch.meshgrid(axes[0], axes[1], axes[2], indexing="ij"), dim=-1)


def mm_to_normalised(points: torch.Tensor, size: Sequence[int], spacing_mm: Sequence[float]) -> torch.Tensor:
    """Places (..., 3) in mm to the coordinates of ``grid_sample`` with ``align_corners=True``.

    n = 2 mm / (spacing (N - 1)): the centres of the first and last voxel are -1 and 1. The order of the axes stays
    (I, J, K); ``grid_sample`` itself wants them reversed.
    """
    extent = [step * max(count - 1, 1) / 2 for count, step in zip(size, spacing_mm, strict=True)]
    return points / torch.tensor(extent, dtype=points.dtype, device=points.device)


def normalised_to_mm(points: torch.Tensor, size: Sequence[int], spacing_mm: Sequence[float]) -> torch.Tensor:
    """The inverse of :func:`mm_to_normalised`."""
    extent = [step * max(count - 1, 1) / 2 for count, step in zip(size, spacing_mm, strict=True)]
    return points * torch.tensor(extent, dtype=points.dtype, device=points.device)


def sample_at(
    values: torch.Tensor,
    points: torch.Tensor,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
    padding_mode: str = "border",
    mode: str = "bilinear",
) -> torch.Tensor:
    """Trilinear values of a volume at places given in mm.

    Args:
        values: (B, C, I, J, K) on the centred grid.
        points: (B, ..., 3) in mm of the exam frame.
        spacing_mm: of the grid, per axis.
        padding_mode: "border" repeats the outermost voxels, "zeros" fades to zero.
        mode: "bilinear" (that is trilinear) or "nearest".

    Returns:
        (B, C, ...): one value per channel and place.
    """
    places = mm_to_normalised(points, values.shape[2:], spacing_mm).flip(-1)
    batch = places.shape[0]
    sampled = torch.nn.functional.grid_sample(
        values, places.reshape(batch, -1, 1, 1, 3), mode=mode, padding_mode=padding_mode, align_corners=True
    )
    return sampled.reshape(batch, values.shape[1], *points.shape[1:-1])
