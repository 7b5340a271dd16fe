"""The mesh bundle's loss with the reference's projected vertices in place of exact sections, to be beaten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cardiac_mri_mesh_motion.losses import MYOCARDIUM, MeshMotionLoss
from clinbundles.motion.displacement_field import sample_field
from clinbundles.motion.plane_slicing import planes_from_poses
from clinbundles.rasterizer.vertex_projection import vertex_projection_loss


def inner_outline(wall: torch.Tensor) -> torch.Tensor:
    """Pixels (..., H, W) of masks that have a 4-neighbour outside: the contour of the paper."""
    padded = torch.nn.functional.pad(wall, (1, 1, 1, 1))
    inside = padded[..., :-2, 1:-1] & padded[..., 2:, 1:-1] & padded[..., 1:-1, :-2] & padded[..., 1:-1, 2:]
    return wall & ~inside


class VertexProjectionLoss(MeshMotionLoss):
    """``coverage`` and ``template_coverage`` weigh the weighted Hausdorff distance in pixels; all else is the bundle's.

    The reference has 22 thousand vertices 1.4 mm apart. The template's 2 thousand are too few to be met by planes: the
    middles of the edges count as vertices too.

    Args:
        coverage, template_coverage: weights of the distance at t and at end-diastole.
        step_mm: distance from a plane at which vertices still count (reference: a slice step, 2 mm).
        rest: of ``MeshMotionLoss``.
    """

    def __init__(
        self, coverage: float = 1.0, template_coverage: float = 1.0, step_mm: float = 2.0, **rest: Any
    ) -> None:
        super().__init__(coverage=0.0, template_coverage=0.0, **rest)
        self.weights |= {"projection": coverage, "template_projection": template_coverage}
        self.step_mm = step_mm
        corners = torch.cat([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        self.register_buffer("edges", torch.unique(corners.sort(dim=1).values, dim=0), persistent=False)

    def terms(self, fields: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The terms of the bundle without its sections, and the projections."""
        terms = super().terms(fields, targets)
        meshes = {
            "projection": (targets["ed_vertices"], fields[:, :3], 1),
            "template_projection": (self.vertices.expand(len(fields), -1, -1), fields[:, 3:6], 0),
        }
        for name, (start, field, frame) in meshes.items():
            if self.weights[name]:
                moved = start + sample_field(field, start, self.spacing_mm)
                terms[name] = self.projection(moved, targets["planes_label"][:, frame], targets["planes_pose"])
        return terms

    def projection(self, vertices: torch.Tensor, labels: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
        """Mean distance in pixels of projected vertices (B, V, 3) to the outlines of labels (B, P, H, W)."""
        planes, present = planes_from_poses(poses)
        planes = torch.cat([planes[..., :2], planes[..., 2:3] * self.step_mm, planes[..., 3:]], dim=-1)
        dense = torch.cat([vertices, vertices[:, self.edges].mean(dim=2)], dim=1)
        known = present & (labels == MYOCARDIUM).flatten(2).any(dim=2)  # nothing is wanted of others: no gradient
        contours = inner_outline(labels == MYOCARDIUM)
        losses = [
            vertex_projection_loss(dense[case], planes[case, known[case]], contours[case, known[case]])
            for case in range(len(vertices))
            if bool(known[case].any())
        ]
        return torch.stack(losses).mean()
