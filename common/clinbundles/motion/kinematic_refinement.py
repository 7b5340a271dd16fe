"""Test-time refinement: an incompressible heart is fitted to a network's motion, then to the exam's own pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from clinbundles.motion.kinematic_model import KinematicModel, spread, zero_motion
from clinbundles.motion.motion_grid import sample_at

Motion = Callable[[torch.Tensor], torch.Tensor]
"""Displacements (T, N, 3) in mm of points (N, 3) that are given at end-diastole."""


@dataclass(frozen=True)
class Refinement:
    """How the motion is refined.

    Attributes:
        steps: optimisation steps on the pictures; 0: the network's motion stays as it is.
        fit_steps: steps that fit the model to the network's motion before.
        learning_rate: of Adam, in units of the usual spread of each parameter.
        prior: weight of staying near the network's motion, against the mean squared difference of pictures in [0, 1].
        smoothness: weight of second differences over the frames of the cycle.
        long_axis_weight: of the long-axis pictures against the short axis.
        outside_mm: how far outside the endocardium pictures count: the wall and what it borders on.
        cavity_core: share of the endocardial radius within which the cavity counts. Nearer to the wall lie papillary
            muscles and trabeculae, which belong to the cavity but darken it as the heart contracts.
        points: pictures are compared at about so many places.
    """

    steps: int = 120
    fit_steps: int = 150
    learning_rate: float = 0.1
    prior: float = 0.05
    smoothness: float = 0.002
    long_axis_weight: float = 4.0
    outside_mm: float = 14.0
    cavity_core: float = 0.35
    points: int = 6000

    def __post_init__(self) -> None:
        if self.steps < 0 or self.fit_steps < 0 or self.points < 100:
            raise ValueError(
                f"refinement: steps={self.steps}, fit_steps={self.fit_steps}, points={self.points}: expected steps of "
                "0 or more and 100 points or more"
            )


def refine_motion(
    motion: Motion,
    model: KinematicModel,
    wall_points: torch.Tensor,
    image: torch.Tensor,
    planes: torch.Tensor,
    planes_pose: torch.Tensor,
    long_axis_planes: int,
    settings: Refinement | None = None,
) -> Motion:
    """Correct a motion by what the pictures of this exam show.

    The model is fitted to the motion of the wall; then its parameters are moved so that each picture at t, seen where
    the points of end-diastole have gone, looks like end-diastole. What the fit changed is added to the motion, so that
    all that the model cannot express is kept. Short-axis pictures are compared in the interpolated stack, since the
    heart moves through the slices; long-axis ones in their own planes.

    Args:
        motion: the network's motion, frame 0 being end-diastole.
        model: the kinematic model of this heart.
        wall_points: (N, 3) mm in the wall at end-diastole, to fit the model at.
        image: (T, I, J, K) short-axis stack on the motion grid, in [0, 1].
        planes: (T, P, H, W) pictures of single slices, in [0, 1].
        planes_pose: (P, 3, 4) mm -> (i, j, n); zeros where there is no picture.
        long_axis_planes: the first so many of the planes are long-axis views.
        settings: weights and steps.

    Returns:
        The corrected motion; frame 0 stays zero.
    """
    settings = settings or Refinement()
    if settings.steps == 0:
        return motion
    with torch.no_grad():
        target = motion(wall_points)[1:]
    start = _fit(model, wall_points, target, settings)
    groups = _comparisons(model, image, planes, planes_pose, long_axis_planes, settings)
    if not groups:
        return motion
    refined = _improve(model, start, groups, settings)

    def corrected(points: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            change = model(refined, points) - model(start, points)
            return motion(points) + torch.cat([torch.zeros_like(change[:1]), change])

    return corrected


def _fit(model: KinematicModel, points: torch.Tensor, target: torch.Tensor, settings: Refinement) -> torch.Tensor:
    """Parameters (T - 1, 20) whose motion of the points is nearest to the displacements (T - 1, N, 3)."""
    scale = spread(points)
    weights = zero_motion(len(target), points).requires_grad_()
    optimiser = torch.optim.Adam([weights], lr=settings.learning_rate)
    for _ in range(settings.fit_steps):
        residual = model(weights * scale, points) - points - target
        loss = residual.square().sum(-1).mean() + 0.01 * weights.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (weights * scale).detach()


@dataclass(frozen=True)
class _Comparison:
    """Places at end-diastole, what is seen there, and how to look at t."""

    points: torch.Tensor
    values: torch.Tensor
    look: Callable[[torch.Tensor], torch.Tensor]
    weight: float


def _comparisons(
    model: KinematicModel,
    image: torch.Tensor,
    planes: torch.Tensor,
    poses: torch.Tensor,
    long_axis_planes: int,
    settings: Refinement,
) -> list[_Comparison]:
    height, width = planes.shape[2:]
    present = [number for number, pose in enumerate(poses) if bool(pose.abs().sum() > 0)]
    chosen = {number: _pixels_of_interest(model, poses[number], height, width, settings) for number in present}
    total = sum(len(points) for points, _ in chosen.values())
    step = max(1, round(total / settings.points))
    groups: list[_Comparison] = []
    for number, (points, pixels) in chosen.items():
        if len(points) < 20:
            continue
        values = planes[0, number].flatten()[pixels][::step]
        pictures, pose = planes[1:, number], poses[number]
        if number < long_axis_planes:

            def look(at: torch.Tensor, pictures: torch.Tensor = pictures, pose: torch.Tensor = pose) -> torch.Tensor:
                return _in_plane(pictures, at @ pose[:2, :3].T + pose[:2, 3])

            groups.append(_Comparison(points[::step], values, look, settings.long_axis_weight))
        else:
            groups.append(_Comparison(points[::step], values, lambda at: sample_at(image[1:, None], at)[:, 0], 1.0))
    return groups


def _pixels_of_interest(
    model: KinematicModel, pose: torch.Tensor, height: int, width: int, settings: Refinement
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places (M, 3) of pixels of a plane in and around the wall and in the core of the cavity, and their numbers."""
    index = torch.arange(height * width, device=pose.device)
    pixel = torch.stack([index // width, index % width, torch.zeros_like(index)], dim=1).to(pose.dtype)
    points = torch.linalg.solve(pose[:, :3], (pixel - pose[:, 3]).T).T
    radius, outline, level = model.endocardial_radius(points)
    wall = (radius >= outline - 1) & (radius < outline + settings.outside_mm)
    core = radius < settings.cavity_core * outline
    kept = (wall | core) & (level < 1.02) & (level > -settings.outside_mm / model.length)
    return points[kept], index[kept]


def _in_plane(pictures: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Bilinear values (T, N) of pictures (T, H, W) at pixel coordinates (T, N, 2)."""
    height, width = pictures.shape[1:]
    size = torch.tensor([height - 1, width - 1], dtype=pixels.dtype, device=pixels.device)
    places = (2 * pixels / size - 1).flip(-1)
    return torch.nn.functional.grid_sample(
        pictures[:, None], places[:, None], padding_mode="border", align_corners=True
    )[:, 0, 0]


def _improve(
    model: KinematicModel, start: torch.Tensor, groups: list[_Comparison], settings: Refinement
) -> torch.Tensor:
    scale = spread(start)
    initial = start / scale
    weights = initial.clone().requires_grad_()
    optimiser = torch.optim.Adam([weights], lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    for _ in range(settings.steps):
        loss = settings.prior * (weights - initial).square().sum(1).mean()
        cycle = torch.cat([torch.zeros_like(weights[:1]), weights, torch.zeros_like(weights[:1])])
        loss = loss + settings.smoothness * cycle.diff(n=2, dim=0).square().sum(1).mean()
        for group in groups:
            seen = group.look(model(weights * scale, group.points))
            loss = loss + group.weight * (seen - group.values).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return (weights * scale).detach()
