"""Penalties of displacement fields (B, 3, I, J, K) in mm: smoothness and incompressibility.

MONAI's ``DiffusionLoss`` and ``BendingEnergyLoss`` count in voxels; on the anisotropic motion grid these penalties
count in mm, which gives the three axes the same weight per mm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clinbundles.motion.displacement_field import (
    deformation_gradient_at,
    determinant,
    jacobian_determinant,
)
from clinbundles.motion.motion_grid import GRID_SPACING_MM


class HuberSmoothness(torch.nn.Module):
    """Approximate Huber penalty of the field's differences: sqrt(epsilon + ...) (Meng et al. 2022, eq. 6).

    ``paper``: sqrt(epsilon + (sum dx^2 / I + sum dy^2 / J + sum dz^2 / K) / B) with sums over all voxels and channels
    of forward differences in normalised units (-1 to 1 over the grid), as in the published code; its size depends on
    that of the grid. Else sqrt(epsilon + mean of the squared gradient), in mm per mm, which does not.
    """

    def __init__(
        self, epsilon: float = 0.01, paper: bool = False, spacing_mm: Sequence[float] = GRID_SPACING_MM
    ) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.paper = paper
        self.spacing_mm = tuple(spacing_mm)

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        """Scalar penalty of a field (B, 3, I, J, K) in mm."""
        if self.paper:
            steps = [(count - 1) / 2 * step for count, step in zip(field.shape[2:], self.spacing_mm, strict=True)]
            extent = torch.tensor(steps, dtype=field.dtype, device=field.device)
            field = field / extent[None, :, None, None, None]
            total = field.new_zeros(())
            for axis in (2, 3, 4):
                total = total + field.diff(dim=axis).square().sum() / field.shape[axis]
            return torch.sqrt(self.epsilon + total / field.shape[0])
        total = field.new_zeros(())
        for axis, step in zip((2, 3, 4), self.spacing_mm, strict=True):
            total = total + (field.diff(dim=axis) / step).square().sum(dim=1).mean()
        return torch.sqrt(self.epsilon + total)


def diffusion_energy(field: torch.Tensor, spacing_mm: Sequence[float] = GRID_SPACING_MM) -> torch.Tensor:
    """Mean over voxels of the squared gradient |grad Phi|^2 (mm per mm)."""
    total = field.new_zeros(())
    for axis, step in zip((2, 3, 4), spacing_mm, strict=True):
        total = total + (field.diff(dim=axis) / step).square().sum(dim=1).mean()
    return total


def bending_energy(
    field: torch.Tensor,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over voxels of the squared second derivatives, mixed ones twice (Rueckert et al. 1999), in 1/mm^2.

    Affine motion costs nothing. ``weight`` (B, 1, I, J, K) in [0, 1] says where it counts; None: everywhere.
    """
    total = field.new_zeros(())
    steps = dict(zip((2, 3, 4), spacing_mm, strict=True))
    for axis in (2, 3, 4):
        bent = field.diff(n=2, dim=axis) / steps[axis] ** 2
        middle = None if weight is None else weight.narrow(axis, 1, weight.shape[axis] - 2)
        total = total + _weighted_mean(bent.square().sum(dim=1), middle)
        for other in range(axis + 1, 5):
            mixed = field.diff(dim=axis).diff(dim=other) / (steps[axis] * steps[other])
            corner = None
            if weight is not None:
                corner = weight.narrow(axis, 0, weight.shape[axis] - 1).narrow(other, 0, weight.shape[other] - 1)
            total = total + 2 * _weighted_mean(mixed.square().sum(dim=1), corner)
    return total


def _weighted_mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    if weight is None:
        return values.mean()
    return (values * weight[:, 0]).sum() / weight.sum().clamp(min=1e-6)


def incompressibility(
    field: torch.Tensor, weight: torch.Tensor | None = None, spacing_mm: Sequence[float] = GRID_SPACING_MM
) -> torch.Tensor:
    """Mean of (det(I + grad Phi) - 1)^2 over the voxels, or weighted by ``weight`` (B, 1, I, J, K) in [0, 1]."""
    change = (jacobian_determinant(field, spacing_mm) - 1).square()
    return _weighted_mean(change, weight)


def incompressibility_at(
    field: torch.Tensor,
    points: torch.Tensor,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
    step_mm: float = 2.0,
) -> torch.Tensor:
    """Mean of (det(I + grad Phi) - 1)^2 over places (B, N, 3) in mm, for example points of the wall."""
    gradient = deformation_gradient_at(field, points, spacing_mm, step_mm)
    return (determinant(gradient, 2, 3) - 1).square().mean()
