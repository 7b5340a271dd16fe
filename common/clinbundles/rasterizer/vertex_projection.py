"""The contour loss of DeepMesh: vertices near a plane, projected onto it, against contour pixels.

A baseline for the exact section (`plane_coverage`), restated from the method: no face is used, vertices count by their
distance to the plane, and the distance is a weighted Hausdorff distance.

Source: Meng et al., IEEE TMI 43(4), 2024, doi 10.1109/TMI.2023.3340118; Ribera et al., CVPR 2019, eq. 8.
"""

from __future__ import annotations

import torch

_EPSILON = 1e-6
_POWER = -7.0


def projected_vertices(
    vertices: torch.Tensor, plane: torch.Tensor, size: tuple[int, int], tau: float = 3.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel coordinates [N, 2] and weights [N] of the vertices less than one slice step from a plane.

    Args:
        vertices: [V, 3] in mm.
        plane: [3 or 4, 4] pixel-to-mm affine, whose third column is the slice step.
        size: (I, J): coordinates are clamped to the image, as in the original.
        tau: weights are exp(-tau z^2), z in slice steps.
    """
    axes, origin = plane[:3, :3], plane[:3, 3]
    voxel = torch.linalg.solve(axes, (vertices - origin).t()).t()
    weight = torch.exp(-tau * voxel[:, 2] ** 2)
    kept = voxel[:, 2].abs() < 1
    limits = voxel.new_tensor([size[0] - 1.0, size[1] - 1.0])
    return torch.minimum(voxel[kept, :2].clamp(min=0), limits), weight[kept]


def weighted_hausdorff(
    points: torch.Tensor, weights: torch.Tensor, contour: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Weighted Hausdorff distance in pixels of points [N, 2] with weights [N] to contour pixels [G, 2].

    Without a contour it is 0, without points the diagonal of the image: both are constants without a gradient.
    """
    diagonal = float(size[0] ** 2 + size[1] ** 2) ** 0.5
    if len(contour) == 0 or len(points) == 0:
        return points.sum() * 0 + (diagonal if len(contour) else 0.0)
    difference = points[:, None] - contour.to(points)[None]
    distance = ((difference**2).sum(-1) + _EPSILON**2).sqrt()  # [N, G]
    to_contour = (weights * distance.amin(1)).sum() / (weights.sum() + _EPSILON)
    cost = (1 - weights[:, None]) * diagonal + weights[:, None] * distance
    # the generalised mean of power -7, by logarithms: in float32 the power itself overflows
    mean = torch.logsumexp(_POWER * torch.log(cost + _EPSILON), dim=0) - torch.log(cost.new_tensor(float(len(cost))))
    return to_contour + torch.exp(mean / _POWER).mean()


def vertex_projection_loss(
    vertices: torch.Tensor, planes: torch.Tensor, contours: torch.Tensor, tau: float = 3.0
) -> torch.Tensor:
    """Mean over the planes of the weighted Hausdorff distance of projected vertices to contour pixels.

    Args:
        vertices: [V, 3] in mm.
        planes: [P, 3 or 4, 4] pixel-to-mm affines, third columns being slice steps in mm (2 mm SAX in the original).
        contours: [P, I, J] bool.
        tau: see `projected_vertices`.
    """
    size = (contours.shape[1], contours.shape[2])
    losses = []
    for plane, contour in zip(planes, contours, strict=True):
        points, weights = projected_vertices(vertices, plane, size, tau)
        losses.append(weighted_hausdorff(points, weights, contour.nonzero(), size))
    return torch.stack(losses).mean()
