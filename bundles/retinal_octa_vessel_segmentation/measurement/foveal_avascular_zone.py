"""Foveal avascular zone (FAZ): the capillary-free area around the centre of the fovea, its mask and its shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from skimage.measure import find_contours

from retinal_octa_vessel_segmentation.measurement.binary_mask import binary_mask
from retinal_octa_vessel_segmentation.measurement.pixel_spacing import checked_spacing

GAP_MM = 0.10  # gaps up to this width are closed; capillary meshes of the healthy macula are 0.04 to 0.09 mm wide
SEARCH_RADIUS_MM = 0.75  # fixation and cropping place the fovea within this distance of the image centre
LARGEST_AREA_MM2 = 3.0  # healthy eyes have 0.05 to 0.6 mm2, ischaemic maculopathy up to about 2


@dataclass(frozen=True)
class FazShape:
    """Size and shape of a FAZ; lengths in mm, area in mm2.

    Attributes:
        perimeter_mm: length of the outline at half height of the mask smoothed by one pixel.
        circularity: 4 pi area / perimeter^2, 1 for a disc.
        axis_ratio: minor over major axis of the ellipse with the same second moments, 0 to 1.
        centre_mm: (row, column) of the centroid from the image's upper left corner.
    """

    area_mm2: float
    perimeter_mm: float
    circularity: float
    axis_ratio: float
    centre_mm: tuple[float, float]


def foveal_avascular_zone(
    vessels: np.ndarray,
    spacing_mm: float | Sequence[float],
    gap_mm: float = GAP_MM,
    threshold: float = 0.5,
) -> np.ndarray:
    """Mask of the FAZ: the largest region near the image centre that no disc of diameter ``gap_mm`` can leave.

    The background is opened with a disc, that is, the gaps between capillaries are closed. Among the regions that
    come within 0.75 mm of the centre of the image the largest is taken. Where the mask is sparse (larger vessels
    only, dropout) and that region leaks to the image border or beyond 3 mm2, the disc is widened in steps of 1.25 up
    to 0.5 mm until it does not.

    Args:
        vessels: (H, W) mask (boolean, {0, 1} or {0, 255}), or probability in [0, 1], then ``threshold`` applies.
        spacing_mm: mm per pixel, one number or (row, column).
        gap_mm: widest gap between vessels that does not belong to the FAZ.
        threshold: probability from which a pixel is vessel.

    Returns:
        boolean (H, W), all False when no avascular region with a closed border is found.

    Raises:
        ValueError: see ``binary_mask`` and ``checked_spacing``; ``gap_mm`` not positive.
    """
    if not gap_mm > 0:
        raise ValueError(f"gap_mm is {gap_mm}, expected a positive width in mm")
    vessels = np.asarray(vessels)
    if np.issubdtype(vessels.dtype, np.floating) and vessels.size and vessels.min() >= 0 and vessels.max() <= 1:
        vessels = vessels >= threshold
    vessel_mask = binary_mask(vessels, "vessels")
    spacing = checked_spacing(spacing_mm)
    empty = np.zeros(vessel_mask.shape, dtype=bool)
    if not vessel_mask.any():
        return empty
    to_vessel = distance_transform_edt(~vessel_mask, sampling=spacing) - 0.5 * np.mean(spacing)
    from_centre = _distance_to_centre(vessel_mask.shape, spacing)
    pixel_mm2 = spacing[0] * spacing[1]
    width = gap_mm
    while width <= 0.5 or width == gap_mm:
        region = _largest_central_region(to_vessel, from_centre, width / 2, spacing)
        if region is None:
            return empty
        if region.sum() * pixel_mm2 <= LARGEST_AREA_MM2 and not _touches_border(region):
            return region
        width *= 1.25
    return empty


def faz_shape(faz_mask: np.ndarray, spacing_mm: float | Sequence[float]) -> FazShape | None:
    """Area, perimeter, circularity, axis ratio and centre of a FAZ mask; None for an empty mask.

    Raises:
        ValueError: see ``binary_mask`` and ``checked_spacing``.
    """
    faz = binary_mask(faz_mask, "faz_mask")
    spacing = np.asarray(checked_spacing(spacing_mm))
    if not faz.any():
        return None
    pixels = (np.argwhere(faz) + 0.5) * spacing
    area = len(pixels) * spacing.prod()
    centred = pixels - pixels.mean(axis=0)
    # a pixel is a square, not a point: its own second moment keeps one-pixel-wide masks from having axis ratio 0
    moments = centred.T @ centred / len(pixels) + np.diag(spacing**2 / 12)
    minor, major = np.sqrt(np.linalg.eigvalsh(moments))
    perimeter = _perimeter(faz, spacing)
    return FazShape(
        area_mm2=float(area),
        perimeter_mm=perimeter,
        circularity=float(4 * np.pi * area / perimeter**2),
        axis_ratio=float(minor / major),
        centre_mm=(float(pixels[:, 0].mean()), float(pixels[:, 1].mean())),
    )


def _perimeter(mask: np.ndarray, spacing: np.ndarray) -> float:
    """Length of the outline in mm; smoothing by one pixel removes the staircase, which makes a disc 5 % too long."""
    smooth = gaussian_filter(np.pad(mask, 4).astype(float), 1.0)
    if smooth.max() <= 0.5:  # a few pixels only: smoothing would wipe them out
        smooth = np.pad(mask, 4).astype(float)
    return float(
        sum(np.linalg.norm(np.diff(contour, axis=0) * spacing, axis=1).sum() for contour in find_contours(smooth, 0.5))
    )


def _distance_to_centre(shape: tuple[int, ...], spacing: tuple[float, float]) -> np.ndarray:
    rows, columns = ((np.arange(side) + 0.5 - side / 2) * step for side, step in zip(shape, spacing, strict=True))
    return np.hypot(rows[:, None], columns[None, :])


def _largest_central_region(
    to_vessel: np.ndarray, from_centre: np.ndarray, radius_mm: float, spacing: tuple[float, float]
) -> np.ndarray | None:
    """Opening of the background by a disc; the largest part whose core comes near the centre."""
    core, count = label(to_vessel >= radius_mm)
    if count == 0:
        return None
    near = np.unique(core[from_centre <= SEARCH_RADIUS_MM])
    near = near[near > 0]
    if len(near) == 0:
        return None
    sizes = np.bincount(core.ravel(), minlength=count + 1)
    seed = core == near[np.argmax(sizes[near])]
    grown = distance_transform_edt(~seed, sampling=spacing) < radius_mm + 0.5 * np.mean(spacing)
    return grown & (to_vessel > 0)


def _touches_border(region: np.ndarray) -> bool:
    return bool(region[[0, -1]].any() or region[:, [0, -1]].any())
