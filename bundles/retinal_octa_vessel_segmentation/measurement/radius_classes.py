"""Classes of vessel radius that measurements are reported for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from retinal_octa_vessel_segmentation.measurement.half_width import half_width_map
from retinal_octa_vessel_segmentation.measurement.skeleton_graph import vessel_skeleton

ALL_RADII = "all"
RADIUS_BOUNDS_MM = (0.010, 0.020)
RADIUS_CLASSES = ("radius < 10 um", "radius 10-20 um", "radius > 20 um")


def radius_class_index(radius_mm: np.ndarray) -> np.ndarray:
    """Number of the radius class of each radius: 0 below 10 um, 1 from 10 to 20 um, 2 above."""
    low, high = RADIUS_BOUNDS_MM
    radius_mm = np.asarray(radius_mm)
    # a nanometre of tolerance, so that 2 pixels of 10 um are 20 um whatever the rounding
    return (radius_mm >= low - 1e-6).astype(int) + (radius_mm > high + 1e-6).astype(int)


def local_radius_map(vessel_mask: np.ndarray, spacing_mm: float | Sequence[float]) -> np.ndarray:
    """Radius of the vessel that each pixel belongs to, in mm: half width at the nearest centreline pixel.

    Args:
        vessel_mask: boolean (H, W).
        spacing_mm: mm per pixel, one number or (row, column).

    Returns:
        float64 (H, W), 0 outside the vessels.
    """
    if not vessel_mask.any():
        return np.zeros(vessel_mask.shape)
    half = half_width_map(vessel_mask, spacing_mm)
    nearest = distance_transform_edt(~vessel_skeleton(vessel_mask), return_distances=False, return_indices=True)
    return np.where(vessel_mask, half[nearest[0], nearest[1]], 0.0)
