"""The fine grid that a slice is drawn on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.cine_kspace.kspace_sampling import FINE, OVERSAMPLING, fine_coordinates
from clinbundles.phantoms.cine_kspace.slice_plan import EDGE_MM, SlicePlan


@dataclass(frozen=True)
class FineGrid:
    """Fine samples of a slice: FINE per pixel, OVERSAMPLING fields of view along the readout.

    Attributes:
        affine: (4, 4) RAS mm of fine sample (i, j, 0); a step along the third axis is the slab.
        rows, columns: coordinates of the samples in pixels of the reconstruction grid.
    """

    affine: NDArray[np.float64]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]

    @classmethod
    def of(cls, plan: SlicePlan) -> FineGrid:
        """The fine grid of a slice."""
        rows, columns = fine_coordinates(plan.size[0], OVERSAMPLING), fine_coordinates(plan.size[1])
        affine = plan.affine.copy()
        affine[:3, :2] /= FINE
        affine[:3, 3] += plan.affine[:3, :2] @ [rows[0], columns[0]]
        return cls(affine, rows, columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.columns)

    def points(self) -> NDArray[np.float64]:
        """World position (rows, columns, 3) of the samples in the middle of the slab."""
        i, j = np.arange(len(self.rows)), np.arange(len(self.columns))
        step = self.affine[:3, :3]
        return np.asarray(self.affine[:3, 3] + i[:, None, None] * step[:, 0] + j[None, :, None] * step[:, 1])

    def saturation(self, spacing_mm: float) -> NDArray[np.float64]:
        """Signal (columns,) that the bands beside the field of view leave: from 1 to 0 towards both of its ends."""
        low, high = self.columns[0] - 0.5 / FINE, self.columns[-1] + 0.5 / FINE
        inside = np.minimum(self.columns - low, high - self.columns) * spacing_mm / EDGE_MM
        return np.asarray(np.sin(0.5 * np.pi * np.clip(inside, 0.0, 1.0)) ** 2)
