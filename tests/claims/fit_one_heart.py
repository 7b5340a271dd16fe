"""Claims without a network: the exact mesh of one heart, moved so that it fits the labels at end-systole.

What labels of the planes say about motion, whatever a network has time to learn (card of the method, claims 1, 3, 5):
an affine map, then a trilinear control grid as well, optimised for each heart and each loss from no motion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from cine_motion_baselines import Tracker, exact_mesh
from vertex_projection_loss import VertexProjectionLoss

from cardiac_mri_mesh_motion.losses import coverage_loss, mid_wall
from clinbundles.motion.displacement_field import sample_field
from clinbundles.motion.field_losses import diffusion_energy

GRID, SPACING_MM = (8, 8, 9), (16.0, 16.0, 16.0)
LONG_AXIS_PLANES = 3  # the first ones
STEPS = (60, 100)  # affine alone, then with the control grid
_LENGTH_MM = 40.0  # a change of the affine map by 1 / _LENGTH_MM moves the wall about as far as a shift of 1 mm


@dataclass(frozen=True)
class Fit:
    """What is fitted, and how.

    Attributes:
        long_axis: whether labels of the long-axis planes count.
        projection: projected vertices instead of exact sections.
        weight: of the labels, against ``smoothness`` 1.
        incompressibility: weight of (det F - 1)^2 in the middle of the wall.
    """

    long_axis: bool = True
    projection: bool = False
    weight: float = 1.0
    incompressibility: float = 0.0


def fit_at_end_systole(exam: Mapping[str, Any], fit: Fit) -> Callable[[torch.Tensor], torch.Tensor]:
    """The fitted motion: points (N, 3) at end-diastole to their displacements (N, 3), mm."""
    vertices, faces = exact_mesh(exam)
    centre = vertices.mean(dim=0)
    first = 0 if fit.long_axis else LONG_AXIS_PLANES
    labels = torch.as_tensor(exam["planes_label"])[int(exam["es_frame"]), first:][None]
    poses = torch.as_tensor(exam["planes_pose"]).float()[first:][None]
    projected = VertexProjectionLoss().projection if fit.projection else None
    affine = torch.zeros(3, 4, requires_grad=True)
    grid = torch.zeros(1, 3, *GRID, requires_grad=True)

    def motion(points: torch.Tensor) -> torch.Tensor:
        relative = (points - centre) / _LENGTH_MM
        moved = relative @ affine[:, :3].T + affine[:, 3]
        return moved + sample_field(grid, points[None], SPACING_MM)[0]

    wall = mid_wall(vertices[None])
    for steps, parameters in zip(STEPS, ([affine], [affine, grid]), strict=True):
        optimizer = torch.optim.Adam(parameters, 0.5)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            moved = (vertices + motion(vertices))[None]
            misfit = (
                coverage_loss(moved, faces, labels, poses) if projected is None else projected(moved, labels, poses)
            )
            loss = fit.weight * misfit + diffusion_energy(grid, SPACING_MM)
            if fit.incompressibility:
                loss = loss + fit.incompressibility * _incompressibility(motion, wall)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return lambda points: motion(points).detach()


def fitted(**settings: Any) -> Tracker:
    """A fit (arguments of :class:`Fit`) as a tracker: displacements (T, N, 3), NaN but at end-systole and 0."""

    def track(exam: Mapping[str, Any], points: torch.Tensor) -> torch.Tensor:
        found = torch.full((len(exam["image"]), len(points), 3), torch.nan)
        found[0] = 0
        found[int(exam["es_frame"])] = fit_at_end_systole(exam, Fit(**settings))(points)
        return found

    return track


def _incompressibility(motion: Callable[[torch.Tensor], torch.Tensor], wall: torch.Tensor) -> torch.Tensor:
    step = 2.0
    points = wall[0]
    columns = [(motion(points + step * axis) - motion(points - step * axis)) / (2 * step) for axis in torch.eye(3)]
    gradient = torch.stack(columns, dim=-1) + torch.eye(3)
    return (torch.linalg.det(gradient) - 1).square().mean()
