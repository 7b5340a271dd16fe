"""The stain of a smear: how much dye each part of a cell has taken up, and which light the dyes absorb.

Haematoxylin and eosin vectors of Ruifrok and Johnston (Analytical and Quantitative Cytology and Histology 23, 2001)
stand in for the blue and red dyes of Wright and Giemsa.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])
"""Optical densities of the dyes in red, green, blue; unit vectors."""

RED_CELL_DENSITY = 0.30
DENSITY_UNIT = 0.75
"""Optical density (base 10) of one unit of dye."""


@dataclass(frozen=True)
class Stain:
    """Amounts of dye, the same in all cells of a smear.

    Attributes:
        nucleus: haematoxylin of the nucleus.
        cytoplasm: eosin of the cytoplasm.
    """

    nucleus: float
    cytoplasm: float


def draw_stain(rng: np.random.Generator) -> Stain:
    """The stain of a smear."""
    return Stain(nucleus=float(rng.uniform(0.5, 1.3)), cytoplasm=float(rng.uniform(0.15, 0.35)))


def transmission(haematoxylin: NDArray[np.float64], eosin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light (3, n, n) that passes amounts of dye (n, n), by the law of Beer and Lambert; 1 without dye."""
    vectors = np.stack([HAEMATOXYLIN, EOSIN], axis=1)  # colour, dye
    density = DENSITY_UNIT * np.einsum("cd,dxy->cxy", vectors, np.stack([haematoxylin, eosin]))
    light: NDArray[np.float64] = 10.0**-density
    return light
