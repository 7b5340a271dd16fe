"""Coverage of a shape from the distance to its edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

EDGE_WIDTH_UM = 0.35
"""Width of the logistic edge of every structure of a cell."""


def coverage(distance_um: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a sample that a shape covers: 0 to 1, 1/2 at the edge. Distances are negative inside, um."""
    covered: NDArray[np.float64] = expit(-distance_um / EDGE_WIDTH_UM)
    return covered


def ellipse_distance(
    x: NDArray[np.float64], y: NDArray[np.float64], radius_um: float, ratio: float
) -> NDArray[np.float64]:
    """Signed distance to an ellipse around 0, um; exact for a circle, first order in the ratio otherwise.

    Args:
        x, y: um, along the first and second axis.
        radius_um: of the circle of the same area.
        ratio: of the first axis to the second.
    """
    stretch = np.sqrt(ratio)
    distance: NDArray[np.float64] = np.hypot(x / stretch, y * stretch) - radius_um
    return distance
