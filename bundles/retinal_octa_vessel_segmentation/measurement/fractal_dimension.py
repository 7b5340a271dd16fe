"""Fractal dimension of a vessel mask by box counting."""

from __future__ import annotations

import numpy as np


def box_counts(mask: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Number of occupied square boxes for each box size (pixels); the sides of the mask must be multiples of each."""
    counts = []
    for size in sizes:
        rows, columns = mask.shape[0] // size, mask.shape[1] // size
        counts.append(mask.reshape(rows, size, columns, size).any(axis=(1, 3)).sum())
    return np.array(counts)


def fractal_dimension(mask: np.ndarray) -> float | None:
    """Box-counting dimension: slope of log(occupied boxes) over log(1 / box size).

    Boxes have the sides 2, 4, 8, ... up to a quarter of the smaller image side. So that every box is whole, the
    image is cut to multiples of the largest box, once from each corner, and the four slopes are averaged.

    Args:
        mask: boolean (H, W), square pixels, at least 16 x 16.

    Returns:
        0 to 2 (point 0, line 1, area 2), or None for a mask without a pixel.

    Raises:
        ValueError: when the image is too small for two box sizes.
    """
    if min(mask.shape) < 16:
        raise ValueError(f"mask has shape {mask.shape}, box counting needs at least 16 x 16 pixels")
    largest = 2 ** int(np.log2(min(mask.shape) // 4))
    sizes = [2**power for power in range(1, int(np.log2(largest)) + 1)]
    height, width = (side // largest * largest for side in mask.shape)
    slopes = []
    for rows in _ends(mask.shape[0], height):
        for columns in _ends(mask.shape[1], width):
            counts = box_counts(mask[rows, columns], sizes)
            if counts.all():
                slopes.append(np.polyfit(-np.log(sizes), np.log(counts), 1)[0])
    return float(np.mean(slopes)) if slopes else None


def _ends(side: int, part: int) -> list[slice]:
    """The first and the last ``part`` of ``side`` pixels; one slice when they are the same."""
    return [slice(start, start + part) for start in sorted({0, side - part})]
