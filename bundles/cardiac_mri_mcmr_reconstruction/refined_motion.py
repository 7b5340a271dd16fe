"""The motion of one case over the outer iterations: fitted to its first images, then a little further each time."""

from __future__ import annotations

import torch

from cardiac_mri_mcmr_reconstruction.instance_optimised_motion import InstanceOptimisedMotion
from cardiac_mri_mcmr_reconstruction.unrolled_reconstruction import MotionNet


class RefinedMotion:
    """Fitted motion that remembers where it was; called like a motion network, with the images of each iteration.

    The first images are registered from coarse to fine, from where a network puts them or from rest
    (:class:`InstanceOptimisedMotion`). Later images differ little from those before: their motion begins where it was
    and takes a quarter of the steps, at the finest scale alone. For one case; another one needs an object of its own.

    Args:
        start: gives motion to begin with, such as a network; None: rest.
        steps: for the first images.
        cyclic: the last frame comes before the first.
    """

    def __init__(self, start: MotionNet | None, steps: int = 90, cyclic: bool = True) -> None:
        self.first = InstanceOptimisedMotion(start, steps, cyclic=cyclic)
        finest = self.first.scales[-1:]
        self.later = InstanceOptimisedMotion(lambda _: self.found, max(steps // 4, 1), finest, cyclic=cyclic)
        self.found: torch.Tensor | None = None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(1, T, X, Y) magnitudes in [0, 1] to (1, 2 T, X, Y) pixels, template -> frame."""
        self.found = (self.first if self.found is None else self.later)(images)
        return self.found
