"""The nucleus: lobes on an arc, a bite, bridges; sized so that its area is the one asked for.

Area, like position and colour, has the same distribution in every class. Otherwise overlapping lobes make segmented
nuclei small, and a classifier needs no shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.stained_leukocytes.leukocyte_class import LeukocyteClass
from clinbundles.phantoms.stained_leukocytes.soft_edge import coverage, ellipse_distance

BRIDGE_HALF_WIDTH_UM = 0.5
BITE_DISTANCE = 0.95  # of the bite's centre from the disc's, in radii of the disc
AREA_ITERATIONS = 4


@dataclass(frozen=True)
class Nucleus:
    """Shape of a nucleus in the axes of its cell, before its lobes have a size.

    Attributes:
        centres: (L, 2) of the lobes, um from the cell's centre.
        directions: (L,) of the lobes' first axes, radians.
        ratios: (L,) of their first axes to their second.
        bite: radius of the disc that is cut out, in radii of the lobe; 0 for none.
    """

    centres: NDArray[np.float64]
    directions: NDArray[np.float64]
    ratios: NDArray[np.float64]
    bite: float = 0.0

    def distance(self, x: NDArray[np.float64], y: NDArray[np.float64], radius_um: float) -> NDArray[np.float64]:
        """Signed distance to the edge, um, with lobes of this radius at x and y (um, axes of the cell)."""
        nearest = np.full_like(x, np.inf)
        for (cx, cy), direction, ratio in zip(self.centres, self.directions, self.ratios, strict=True):
            along, across = math.cos(direction), math.sin(direction)
            u, v = along * (x - cx) + across * (y - cy), along * (y - cy) - across * (x - cx)
            lobe = ellipse_distance(u, v, radius_um, ratio)
            if self.bite:
                hole = np.hypot(u - BITE_DISTANCE * radius_um, v) - self.bite * radius_um
                lobe = np.maximum(lobe, -hole)
            np.minimum(nearest, lobe, out=nearest)
        for start, end in zip(self.centres[:-1], self.centres[1:], strict=True):
            np.minimum(nearest, _segment_distance(x, y, start, end) - BRIDGE_HALF_WIDTH_UM, out=nearest)
        return nearest


def draw_nucleus(label: LeukocyteClass, cell_radius_um: float, rng: np.random.Generator) -> Nucleus:
    """A nucleus of a class in a cell of this radius; the arc of lobes opens along the cell's first axis."""
    if label in (LeukocyteClass.ROUND, LeukocyteClass.KIDNEY):
        kidney = label == LeukocyteClass.KIDNEY
        centre = np.zeros((1, 2)) if kidney else rng.normal(0.0, 0.4, (1, 2))
        ratio = np.ones(1) if kidney else rng.uniform(0.85, 1.18, 1)
        return Nucleus(centre, np.zeros(1), ratio, float(rng.uniform(0.45, 0.7)) if kidney else 0.0)
    bilobed = label == LeukocyteClass.BILOBED
    lobes = 2 if bilobed else int(rng.integers(3, 5))
    span = math.pi * (rng.uniform(0.75, 1.0) if bilobed else rng.uniform(1.1, 1.5))
    angles = np.linspace(-span / 2, span / 2, lobes, dtype=np.float64)
    arc_um = rng.uniform(0.42, 0.55) * cell_radius_um
    centres = arc_um * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return Nucleus(centres, angles, rng.uniform(0.85, 1.15, lobes))


def nucleus_coverage(
    nucleus: Nucleus,
    area_um2: float,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    cell: NDArray[np.float64],
    sample_um: float,
) -> NDArray[np.float64]:
    """Coverage (n, n) of the nucleus within its cell, its lobes sized so that it covers an area.

    The area is that of the drawn nucleus: overlaps of lobes, bridges and what the cell's edge cuts off are in it.

    Args:
        nucleus: shape.
        area_um2: area to cover.
        x, y: fine samples (n, n) in the axes of the cell, um.
        cell: coverage (n, n) of the cell.
        sample_um: distance of the samples.
    """
    radius = math.sqrt(area_um2 / (math.pi * len(nucleus.centres)))
    drawn = cell * coverage(nucleus.distance(x, y, radius))
    for _ in range(AREA_ITERATIONS):
        radius *= math.sqrt(area_um2 / (float(drawn.sum()) * sample_um**2))
        drawn = cell * coverage(nucleus.distance(x, y, radius))
    return drawn


def _segment_distance(
    x: NDArray[np.float64], y: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    step = end - start
    share = ((x - start[0]) * step[0] + (y - start[1]) * step[1]) / float(step @ step)
    share = np.clip(share, 0.0, 1.0)
    distance: NDArray[np.float64] = np.hypot(x - start[0] - share * step[0], y - start[1] - share * step[1])
    return distance
