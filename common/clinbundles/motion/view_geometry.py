"""Where long-axis pictures lie in the exam frame: upright pictures, and their features lifted into the motion grid."""

from __future__ import annotations

import torch


def plane_frame(pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Upright frames of planes given by poses (B, P, 3, 4), mm of the exam frame -> (i, j, n).

    Returns:
        horizontal: (B, P, 3) unit vectors in the planes, perpendicular to the long axis, their x never negative.
        upright: (B, P, 3) unit vectors in the planes, as near to the long axis as can be.
        normal: (B, P, 3) unit normals.
        distance: (B, P) of the origin, mm.
        present: (B, P) 1.0 where there is a view, 0.0 where the pose is all zeros.
    """
    normal = pose[:, :, 2, :3]
    length = torch.sqrt((normal * normal).sum(-1))
    present = (length > 1e-3).to(pose.dtype)
    length = length.clamp(min=1e-3)
    normal = normal / length.unsqueeze(-1)
    distance = pose[:, :, 2, 3] / length
    axis = torch.zeros_like(normal)
    axis[:, :, 2] = 1.0
    upright = axis - normal[:, :, 2:3] * normal
    upright = upright / torch.sqrt((upright * upright).sum(-1, keepdim=True)).clamp(min=1e-3)
    horizontal = torch.linalg.cross(upright, normal, dim=-1)
    horizontal = horizontal * (1.0 - 2.0 * (horizontal[:, :, 0:1] < 0).to(pose.dtype))
    return horizontal, upright, normal, distance, present


def upright_pictures(pictures: torch.Tensor, pose: torch.Tensor, pixel_mm: float) -> torch.Tensor:
    """Pictures (B, F, P, H, W) of P planes turned upright: (B, F, P, H, W).

    Row index grows along the plane's horizontal, column index along its upright, both from the projection of the
    origin of the exam frame at the centre of the picture; ``pixel_mm`` apart.
    """
    batch, frames, views, height, width = pictures.shape
    horizontal, upright, normal, distance, present = plane_frame(pose)
    origin = -distance.unsqueeze(-1) * normal
    rows = (torch.arange(height, dtype=pose.dtype, device=pose.device) - (height - 1) / 2.0) * pixel_mm
    columns = (torch.arange(width, dtype=pose.dtype, device=pose.device) - (width - 1) / 2.0) * pixel_mm
    points = (
        origin.reshape(batch, views, 1, 1, 3)
        + rows.reshape(1, 1, height, 1, 1) * horizontal.reshape(batch, views, 1, 1, 3)
        + columns.reshape(1, 1, 1, width, 1) * upright.reshape(batch, views, 1, 1, 3)
    ).reshape(batch, views, height * width, 3)
    pixels = torch.matmul(points, pose[:, :, :2, :3].transpose(2, 3)) + pose[:, :, :2, 3].unsqueeze(2)
    grid = torch.stack(
        [pixels[..., 1] * (2.0 / max(width - 1, 1)) - 1.0, pixels[..., 0] * (2.0 / max(height - 1, 1)) - 1.0], dim=-1
    ).reshape(batch * views, height, width, 2)
    stacked = pictures.permute(0, 2, 1, 3, 4).reshape(batch * views, frames, height, width)
    turned = torch.nn.functional.grid_sample(stacked, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    turned = turned * present.reshape(batch * views, 1, 1, 1)
    return turned.reshape(batch, views, frames, height, width).permute(0, 2, 1, 3, 4)


def lift(
    scalars: torch.Tensor,
    vectors: torch.Tensor,
    pose: torch.Tensor,
    points: torch.Tensor,
    extent_mm: float,
    reach_mm: float,
) -> torch.Tensor:
    """Features of upright pictures at their places in the exam frame, weighted by exp(-n^2 / (2 reach^2)).

    Args:
        scalars: (B, P, S, h, w) features that keep their value whatever the plane's angle.
        vectors: (B, P, V, h, w) features that count along the plane's horizontal; they come out along x and y.
        pose: (B, P, 3, 4), mm -> (i, j, n).
        points: (I, J, K, 3) places in mm of the exam frame.
        extent_mm: distance of the outermost pixel centres from the centre of the upright pictures.
        reach_mm: standard deviation of the weight of the distance n to the plane.

    Returns:
        (B, S + 2 V + 1, I, J, K): means over the views there are, and the sum of their weights, at most 1.
    """
    batch, views, count, height, width = scalars.shape
    horizontal, upright, normal, distance, present = plane_frame(pose)
    flat = points.reshape(1, 1, -1, 3)
    across = (flat * horizontal.unsqueeze(2)).sum(-1)  # (B, P, N)
    along = (flat * upright.unsqueeze(2)).sum(-1)
    off = (flat * normal.unsqueeze(2)).sum(-1) + distance.unsqueeze(-1)
    weight = torch.exp(-0.5 * (off / reach_mm) ** 2) * present.unsqueeze(-1)
    inside = ((across.abs() <= extent_mm) & (along.abs() <= extent_mm)).to(weight.dtype)
    weight = weight * inside
    size = points.shape[0], points.shape[1], points.shape[2]
    grid = torch.stack([along, across], dim=-1) / extent_mm
    grid = grid.reshape(batch * views, size[0] * size[1], size[2], 2)
    features = torch.cat([scalars, vectors], dim=2).reshape(batch * views, -1, height, width)
    sampled = torch.nn.functional.grid_sample(
        features, grid, mode="bilinear", padding_mode="border", align_corners=True
    ).reshape(batch, views, features.shape[1], -1)
    total = weight.sum(1)
    share = weight / (total.unsqueeze(1) + 0.05)
    plain = (sampled[:, :, :count] * share.unsqueeze(2)).sum(1)
    directed = sampled[:, :, count:] * share.unsqueeze(2)
    along_x = (directed * horizontal[:, :, 0].reshape(batch, views, 1, 1)).sum(1)
    along_y = (directed * horizontal[:, :, 1].reshape(batch, views, 1, 1)).sum(1)
    lifted = torch.cat([plain, along_x, along_y, total.clamp(max=1.0).unsqueeze(1)], dim=1)
    return lifted.reshape(batch, -1, size[0], size[1], size[2])
