"""How far a classifier is from treating an image and its turned or mirrored copy alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def equivariance_errors(
    network: nn.Module, images: torch.Tensor, angles: Sequence[float], *, mirrored: bool = False
) -> dict[float, float]:
    """Largest change of any logit when the images turn, for each angle.

    Multiples of 90 degrees move pixels onto pixels. Other angles are interpolated bilinearly, and each image is first
    set to 0 outside its inscribed disc, turned or not, so that no corner enters or leaves the picture.

    Args:
        network: gives logits (B, classes); used in evaluation mode, its mode is restored.
        images: (B, C, S, S).
        angles: counter-clockwise, in degrees.
        mirrored: mirror the images left to right before they turn.

    Returns:
        For each angle, the largest absolute difference over images and classes.

    Raises:
        ValueError: images that are not square.
    """
    height, width = images.shape[-2:]
    if height != width:
        raise ValueError(f"images are {height} x {width}: a turned image has the same size only when it is square")
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        return {float(angle): _largest_change(network, images, float(angle), mirrored) for angle in angles}
    finally:
        for module, training in modes:
            module.training = training


def turned(images: torch.Tensor, angle: float) -> torch.Tensor:
    """Images (B, C, S, S) turned counter-clockwise by `angle` degrees about their centre, bilinear, 0 outside."""
    if angle % 90 == 0:
        return images.rot90(int(angle // 90), (-2, -1))
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # where each pixel comes from; the second axis of the grid points down
    source = images.new_tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(images), 2, 3)
    grid = nn.functional.affine_grid(source, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def _largest_change(network: nn.Module, images: torch.Tensor, angle: float, mirrored: bool) -> float:
    if angle % 90:
        images = images * _disc(images)
    moved = turned(images.flip(-1) if mirrored else images, angle)
    return float((network(moved) - network(images)).abs().max())


def _disc(images: torch.Tensor) -> torch.Tensor:
    size = images.shape[-1]
    offset = (torch.arange(size, device=images.device, dtype=images.dtype) + 0.5) / size - 0.5
    return (offset[:, None] ** 2 + offset**2 <= 0.25).to(images.dtype)
