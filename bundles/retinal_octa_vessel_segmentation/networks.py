"""The vessel network: a small U-Net with two sigmoid outputs, all vessels and larger vessels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNet
from torch import nn

TRAINING_PIXEL_MM = 3.0 / 304.0
"""Pixel size that the network expects: 304 pixels on 3 mm."""


class VesselUNet(nn.Module):
    """U-Net with 0.5 M parameters (2 MB) for z-scored en-face OCT angiographs at 9.87 um per pixel.

    Input (B, 1, H, W) with H and W multiples of 16 and at least 32; output logits (B, 2, upscale H, upscale W):
    channel 0 any vessel, channel 1 larger vessel (radius of at least 9.9 um).

    Args:
        features: channels of the five levels and of the last feature map.
        upscale: 1, or 4 for a sub-pixel head (pixel shuffle) that gives four times the resolution of the input.
    """

    def __init__(self, features: Sequence[int] = (16, 16, 32, 64, 128, 16), upscale: int = 1) -> None:
        super().__init__()
        if upscale not in (1, 4):
            raise ValueError(f"upscale is {upscale}; expected 1 (grid of the image) or 4 (four times finer)")
        self.unet = BasicUNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=2 * upscale**2,
            features=tuple(features),
            norm=("instance", {"affine": True}),
            upsample="nontrainable",
        )
        self.head = nn.PixelShuffle(upscale) if upscale > 1 else nn.Identity()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, 2, upscale H, upscale W) of images (B, 1, H, W)."""
        return self.head(self.unet(image))
