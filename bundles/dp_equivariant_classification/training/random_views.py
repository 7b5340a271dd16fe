"""Views of training images: each image turned and mirrored at random, for networks that do not do so by themselves."""

from __future__ import annotations

import torch


class RandomSymmetryViews:
    """``views`` copies of each image, the first as it is, the others turned by a random multiple of 90 degrees and
    mirrored with probability 1/2: exact, without interpolation.

    Also called: augmentation multiplicity (De et al. 2022). The gradients of all views of an image are averaged before
    clipping, so the guarantee is the one of a single view; the time is ``views`` times as long.

    Args:
        views: copies of each image, K.

    Raises:
        ValueError: fewer than one view.
    """

    def __init__(self, views: int = 4) -> None:
        if views < 1:
            raise ValueError(f"views is {views}, expected at least 1 (1: the image as it is)")
        self.views = views

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Views (K, B, C, S, S) of images (B, C, S, S)."""
        copies = [images]
        for _ in range(self.views - 1):
            turns = torch.randint(8, (len(images),), device=images.device)
            copy = images.clone()
            for element in range(1, 8):
                chosen = turns == element
                turned = torch.rot90(images[chosen], element % 4, (-2, -1))
                copy[chosen] = turned.flip(-1) if element >= 4 else turned
            copies.append(copy)
        return torch.stack(copies)
