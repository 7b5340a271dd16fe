"""ETDRS grid: rings and quadrants around the fovea in which retinal measurements are reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retinal_octa_vessel_segmentation.measurement.pixel_spacing import checked_spacing

SMALL_FIELD_RADII_MM = (0.5, 1.25)  # 3 x 3 mm scans
LARGE_FIELD_RADII_MM = (0.5, 1.5, 3.0)  # the grid of the ETDRS: diameters of 1, 3 and 6 mm
SMALL_FIELD_MM = 4.5
RING_NAMES = ("inner", "outer")


@dataclass(frozen=True)
class EtdrsGrid:
    """Disjoint regions that cover the image.

    Attributes:
        index: int (H, W), number of the region of each pixel.
        names: name of each region: ``centre``, ``inner_superior``, ..., ``outside``.
        radii_mm: outer radius of the centre and of each ring.
        centre_mm: (row, column) of the centre from the image's upper left corner.
    """

    index: np.ndarray
    names: tuple[str, ...]
    radii_mm: tuple[float, ...]
    centre_mm: tuple[float, float]

    def mask(self, name: str) -> np.ndarray:
        """Boolean (H, W) of a region, of a whole ring (``inner``, ``outer``), or of the image (``whole``)."""
        return np.isin(self.index, self.members(name))

    def members(self, name: str) -> list[int]:
        """Numbers of the regions that make up a region, a ring or the whole image."""
        if name == "whole":
            return list(range(len(self.names)))
        found = [i for i, own in enumerate(self.names) if own == name or own.startswith(name + "_")]
        if not found:
            raise ValueError(f"no region '{name}' in this grid; it has {', '.join(self.all_names())}")
        return found

    def all_names(self) -> tuple[str, ...]:
        """``whole``, the rings, and the disjoint regions."""
        return ("whole", *RING_NAMES[: len(self.radii_mm) - 1], *self.names)


def etdrs_grid(
    shape: tuple[int, int],
    spacing_mm: float | Sequence[float],
    centre_mm: tuple[float, float] | None = None,
    eye: str | None = None,
    radii_mm: Sequence[float] | None = None,
) -> EtdrsGrid:
    """The grid of an en-face image whose first row is superior, seen as in a fundus photograph.

    So nasal is to the right in a right eye (OD) and to the left in a left eye (OS). The diagonals bound the quadrants.

    Args:
        shape: (H, W) of the image.
        spacing_mm: mm per pixel, one number or (row, column).
        centre_mm: (row, column) of the fovea from the upper left corner, best the centroid of the FAZ; default: the
            middle of the image.
        eye: "OD", "OS" (or "R", "L"); None names the side quadrants left and right.
        radii_mm: rising radii of the centre and one or two rings; default 0.5 and 1.25 mm for fields up to 4.5 mm,
            otherwise 0.5, 1.5 and 3 mm.

    Raises:
        ValueError: unknown eye, radii that do not rise, or a centre outside the image.
    """
    spacing = checked_spacing(spacing_mm)
    height_mm, width_mm = shape[0] * spacing[0], shape[1] * spacing[1]
    if radii_mm is None:
        radii_mm = SMALL_FIELD_RADII_MM if min(height_mm, width_mm) <= SMALL_FIELD_MM else LARGE_FIELD_RADII_MM
    radii = tuple(float(radius) for radius in radii_mm)
    if len(radii) not in (2, 3) or radii[0] <= 0 or min(np.diff(radii)) <= 0:
        raise ValueError(f"radii_mm is {tuple(radii_mm)}, expected two or three rising positive radii in mm")
    centre = (height_mm / 2, width_mm / 2) if centre_mm is None else (float(centre_mm[0]), float(centre_mm[1]))
    if not (0 <= centre[0] <= height_mm and 0 <= centre[1] <= width_mm):
        raise ValueError(f"centre_mm is {centre}, outside the image of {height_mm:.2f} x {width_mm:.2f} mm")
    left, right = side_names(eye)

    down = ((np.arange(shape[0]) + 0.5) * spacing[0] - centre[0])[:, None]
    across = ((np.arange(shape[1]) + 0.5) * spacing[1] - centre[1])[None, :]
    ring = np.digitize(np.hypot(down, across), radii)
    vertical = np.abs(down) >= np.abs(across)
    quadrant = np.where(vertical, np.where(down < 0, 0, 1), np.where(across < 0, 2, 3))
    outside = 4 * (len(radii) - 1) + 1
    index = np.where(ring == 0, 0, np.where(ring == len(radii), outside, 4 * (ring - 1) + 1 + quadrant))
    quadrants = ("superior", "inferior", left, right)
    rings = RING_NAMES[: len(radii) - 1]
    names = ("centre", *(f"{name}_{side}" for name in rings for side in quadrants), "outside")
    return EtdrsGrid(index, names, radii, centre)


def side_names(eye: str | None) -> tuple[str, str]:
    """Names of the (left, right) quadrants of an image of that eye.

    Raises:
        ValueError: when the eye is neither OD, OS, R, L nor None.
    """
    if eye is None or eye == "":
        return "left", "right"
    laterality = {"OD": "R", "R": "R", "OS": "L", "L": "L"}.get(str(eye).upper())
    if laterality is None:
        raise ValueError(f"eye is '{eye}', expected 'OD' (right), 'OS' (left) or none")
    return ("temporal", "nasal") if laterality == "R" else ("nasal", "temporal")
