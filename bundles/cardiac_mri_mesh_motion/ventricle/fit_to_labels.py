"""The mesh at end-diastole from labels: a template, moved until its sections cover the labelled myocardium."""

from __future__ import annotations

import torch

from cardiac_mri_mesh_motion.losses import coverage_loss
from cardiac_mri_mesh_motion.ventricle.lv_mesh import LvMesh
from clinbundles.motion.displacement_field import sample_field
from clinbundles.motion.field_losses import bending_energy, incompressibility_at
from clinbundles.motion.plane_slicing import plane_points, planes_from_poses

MYOCARDIUM, UNKNOWN = 2, 255
_KNOTS = (7, 7, 7)
_KNOT_MM = 24.0


def fit_to_labels(
    template: LvMesh,
    labels: torch.Tensor,
    poses: torch.Tensor,
    steps: int = 60,
    smoothness: float = 30.0,
) -> LvMesh:
    """Move a template onto labels at end-diastole: first translation and scale per axis, then a smooth field.

    The field has 7 x 7 x 7 knots 24 mm apart, trilinear between them, so that the mesh between the planes follows its
    neighbours. Minimised are the coverage loss of the planes and the field's bending, by Adam.

    Args:
        template: where to start: the template itself, or what stage 1 made of it.
        labels: (P, H, W) at end-diastole; 255 where unknown, 2 is myocardium.
        poses: (P, 3, 4), exam mm -> (i, j, n); zeros for planes that are not there.
        steps: of each of the two parts.
        smoothness: weight of the bending energy (per cm^2).

    Raises:
        ValueError: labels without myocardium.
    """
    poses = poses.float()
    spots = _labelled_points(labels, poses)
    if len(spots) < 20:
        raise ValueError(
            f"the labels at end-diastole have {len(spots)} pixels of myocardium (value 2) on all planes together: "
            "expected a labelled left ventricle; check values and frame"
        )
    start = template.vertices
    middle = start.mean(dim=0)
    shift = (spots.mean(dim=0) - middle).clone().requires_grad_()
    stretch = torch.zeros(3, requires_grad=True)
    target = labels[None], poses[None]

    def affine() -> torch.Tensor:
        return middle + (start - middle) * stretch.exp() + shift

    # a plain start can miss the labels altogether: coverage then has no gradient, the mean position has
    _minimise([shift, stretch], lambda: coverage_loss(affine()[None], template.faces, *target), steps, (0.8, 0.02))
    placed = affine().detach()
    knots = torch.zeros(1, 3, *_KNOTS, requires_grad=True)
    spacing = (_KNOT_MM,) * 3

    def bent() -> torch.Tensor:
        return placed[None] + sample_field(knots, placed[None], spacing)

    def loss() -> torch.Tensor:
        value = coverage_loss(bent(), template.faces, *target)
        return (
            value
            + smoothness * 100 * bending_energy(knots, spacing)
            + 0.02 * incompressibility_at(knots, placed[None, ::7], spacing)
        )

    _minimise([knots], loss, steps, (0.5,))
    return template.at(bent().detach()[0], "labels")


def _minimise(parameters: list[torch.Tensor], loss, steps: int, rates: tuple[float, ...]) -> None:  # type: ignore[no-untyped-def]
    groups = [{"params": [value], "lr": rate} for value, rate in zip(parameters, rates, strict=True)]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 - 0.9 * step / steps)
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()
            schedule.step()


def _labelled_points(labels: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
    planes, present = planes_from_poses(poses)
    points = plane_points(planes, (labels.shape[-2], labels.shape[-1]))[0][:, 0]
    return points[(labels == MYOCARDIUM) & present[:, None, None]]
