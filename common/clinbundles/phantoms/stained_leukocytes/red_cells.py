"""Red blood cells around a leukocyte."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.stained_leukocytes.soft_edge import coverage

MEAN_COUNT = 2.5
PALLOR = 0.65  # share of the thickness that is missing in the middle of the biconcave disc
PALLOR_RADIUS = 0.45  # of the pale middle, in radii of the cell


def red_cell_thickness(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    centre: tuple[float, float],
    cell_radius_um: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Thickness (n, n) of the red cells around a leukocyte, in rims of one cell; where cells overlap it adds up.

    Args:
        x, y: fine samples (n, n), um.
        centre: of the leukocyte, um.
        cell_radius_um: of the leukocyte.
        rng: of number, places and sizes.
    """
    thickness = np.zeros_like(x)
    for _ in range(rng.poisson(MEAN_COUNT)):
        direction, gap = rng.uniform(0.0, 2 * math.pi), rng.uniform(2.8, 6.5)
        radius = rng.uniform(3.4, 4.0)
        away = cell_radius_um + gap
        distance = np.hypot(x - centre[0] - away * math.cos(direction), y - centre[1] - away * math.sin(direction))
        pallor = PALLOR * np.exp(-((distance / (PALLOR_RADIUS * radius)) ** 2))
        thickness += coverage(distance - radius) * (1.0 - pallor)
    return thickness
