"""The square that an image shows, sampled finer than its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SUPERSAMPLING = 3
"""Fine samples per pixel along each axis; light is averaged over them, as a camera's pixel does."""


@dataclass(frozen=True)
class FieldOfView:
    """A square of pixels; coordinates in um from its centre, x to the right along columns, y down along rows.

    Attributes:
        pixels: of a side.
        pixel_um: side of a pixel.
    """

    pixels: int = 28
    pixel_um: float = 0.75

    @property
    def sample_um(self) -> float:
        """Distance of the fine samples."""
        return self.pixel_um / SUPERSAMPLING

    def samples(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The fine samples: x and y, um, each (n, n) with n = pixels * SUPERSAMPLING."""
        count = self.pixels * SUPERSAMPLING
        line = (np.arange(count) - (count - 1) / 2) * self.sample_um
        x, y = np.meshgrid(line, line)
        return x, y

    def pixel_means(self, fine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means (C, pixels, pixels) of fine samples (C, n, n)."""
        shape = (len(fine), self.pixels, SUPERSAMPLING, self.pixels, SUPERSAMPLING)
        means: NDArray[np.float64] = fine.reshape(shape).mean(axis=(2, 4))
        return means
