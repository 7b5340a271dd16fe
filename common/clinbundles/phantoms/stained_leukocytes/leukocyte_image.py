"""The image of one leukocyte among red cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from clinbundles.phantoms.stained_leukocytes.field_of_view import FieldOfView
from clinbundles.phantoms.stained_leukocytes.leukocyte import Leukocyte
from clinbundles.phantoms.stained_leukocytes.microscope import Microscope, photograph
from clinbundles.phantoms.stained_leukocytes.nucleus import nucleus_coverage
from clinbundles.phantoms.stained_leukocytes.red_cells import red_cell_thickness
from clinbundles.phantoms.stained_leukocytes.soft_edge import coverage, ellipse_distance
from clinbundles.phantoms.stained_leukocytes.stain import RED_CELL_DENSITY, Stain, transmission

CHROMATIN_GRAIN_UM = 0.5
"""Standard deviation of the Gaussian that turns white noise into the texture of chromatin."""


def leukocyte_image(
    cell: Leukocyte,
    stain: Stain,
    microscope: Microscope,
    rng: np.random.Generator,
    field: FieldOfView | None = None,
) -> NDArray[np.uint8]:
    """Photograph (pixels, pixels, 3), RGB, of a cell; `rng` draws chromatin, red cells and noise."""
    field = field or FieldOfView()
    x, y = field.samples()
    cytoplasm, nucleus = cell_coverage(cell, x, y, field.sample_um)
    chromatin = _texture(x.shape, CHROMATIN_GRAIN_UM / field.sample_um, rng)
    grain = rng.uniform(0.05, 0.3)
    haematoxylin = stain.nucleus * nucleus * np.maximum(1.0 + grain * chromatin, 0.0)
    red_cells = (1.0 - cytoplasm) * red_cell_thickness(x, y, cell.centre, cell.radius_um, rng)  # the leukocyte hides
    eosin = stain.cytoplasm * cytoplasm + RED_CELL_DENSITY * red_cells
    return photograph(transmission(haematoxylin, eosin), field, microscope, rng)


def cell_coverage(
    cell: Leukocyte, x: NDArray[np.float64], y: NDArray[np.float64], sample_um: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coverage (n, n) of the whole cell and of its nucleus at samples x and y (n, n), um."""
    u, v = cell.in_axes_of_cell(x, y)
    whole = coverage(ellipse_distance(u, v, cell.radius_um, cell.ratio))
    return whole, nucleus_coverage(cell.nucleus, cell.nucleus_area_um2, u, v, whole, sample_um)


def _texture(shape: tuple[int, ...], grain: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Smooth noise of mean 0 and standard deviation 1."""
    noise = gaussian_filter(rng.standard_normal(shape), grain, mode="wrap", truncate=3.0)
    texture: NDArray[np.float64] = (noise - noise.mean()) / noise.std()
    return texture
