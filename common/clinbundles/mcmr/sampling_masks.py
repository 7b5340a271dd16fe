"""Masks of phase-encoding lines for a cine: variable density, other lines in every frame."""

from __future__ import annotations

import numpy as np
import torch

WIDTH = 0.35  # half width of the density, relative to the largest spatial frequency


def variable_density_lines(frames: int, lines: int, acceleration: float, seed: int) -> torch.Tensor:
    """Exactly round(lines / acceleration) of the lines in every frame, densest in the middle of k-space.

    One line per stratum: frame n takes the quantiles (stratum + offset) / count of the density
    1 / (1 + (k / (0.35 k_max))^2), where the offset is the bit-reversed n plus a random one; bit reversal spreads the
    offsets of neighbouring frames evenly over the stratum. A line that is taken already moves to the nearest free one.

    Args:
        frames: T.
        lines: Y.
        acceleration: between 1 and `lines`.
        seed: draws the offset and the order in which frames take the strata's parts.

    Returns:
        (T, Y) float32, 1 where a line is sampled.
    """
    if frames < 1 or lines < 2 or not 1 <= acceleration <= lines:
        raise ValueError(
            f"frames {frames}, lines {lines}, acceleration {acceleration:g}: expected at least one frame, two lines "
            "and an acceleration between 1 and the number of lines"
        )
    count = max(1, round(lines / acceleration))
    generator = np.random.default_rng(seed)
    shift, direction = generator.random(), generator.choice([-1, 1])
    edges = np.arctan((np.arange(lines + 1) - (lines // 2 + 0.5)) / (WIDTH * lines / 2))  # integral of the density
    quantiles = (edges - edges[0]) / (edges[-1] - edges[0])
    mask = np.zeros((frames, lines), np.float32)
    for frame in range(frames):
        offset = (shift + direction * _bit_reversed(frame)) % 1.0
        wanted = np.searchsorted(quantiles, (np.arange(count) + offset) / count, side="right") - 1
        for line in generator.permutation(wanted):
            free = np.flatnonzero(mask[frame] == 0)
            mask[frame, free[np.argmin(np.abs(free - line))]] = 1
    return torch.from_numpy(mask)


def _bit_reversed(number: int) -> float:
    """The van der Corput sequence to base 2, in [0, 1)."""
    result, place = 0.0, 0.5
    while number:
        number, bit = divmod(number, 2)
        result += place * bit
        place /= 2
    return result
