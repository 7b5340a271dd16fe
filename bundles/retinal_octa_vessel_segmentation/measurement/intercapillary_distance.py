"""Intercapillary distance: the width of the gaps between vessels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import maximum_filter

from retinal_octa_vessel_segmentation.measurement.half_width import half_width_map
from retinal_octa_vessel_segmentation.measurement.pixel_spacing import checked_spacing


def intercapillary_gaps(
    vessel_mask: np.ndarray, spacing_mm: float | Sequence[float], exclude: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Twice the local maxima of the distance to the nearest vessel.

    Maxima nearer to the image border than to a vessel are left out: the vessel that ends their gap may lie outside.

    Args:
        vessel_mask: boolean (H, W).
        spacing_mm: mm per pixel, one number or (row, column).
        exclude: boolean (H, W), where gaps are not counted, above all the foveal avascular zone.

    Returns:
        pixels int (n, 2) of the maxima and their gap widths float (n,) in mm; empty where there is no vessel.
    """
    spacing = checked_spacing(spacing_mm)
    if not vessel_mask.any():
        return np.zeros((0, 2), dtype=int), np.zeros(0)
    half = half_width_map(~vessel_mask, spacing)
    rows = (np.arange(half.shape[0]) + 0.5) * spacing[0]
    columns = (np.arange(half.shape[1]) + 0.5) * spacing[1]
    to_border = np.minimum(np.minimum(rows, rows[::-1])[:, None], np.minimum(columns, columns[::-1])[None, :])
    peak = (half > 0) & (half == maximum_filter(half, size=3)) & (half <= to_border)
    if exclude is not None:
        peak &= ~exclude
    return np.argwhere(peak), 2 * half[peak]
