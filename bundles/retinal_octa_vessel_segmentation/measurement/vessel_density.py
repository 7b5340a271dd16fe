"""Vessel area density and skeleton density of the regions of an image."""

from __future__ import annotations

import numpy as np

from retinal_octa_vessel_segmentation.measurement.binary_mask import same_shape
from retinal_octa_vessel_segmentation.measurement.skeleton_graph import SkeletonGraph


def vessel_area_density(vessel_mask: np.ndarray, region: np.ndarray | None = None) -> float:
    """Fraction of the pixels of a region (boolean (H, W), default: the whole image) that are vessel, 0 to 1.

    Raises:
        ValueError: when the shapes differ or the region is empty.
    """
    if region is None:
        return float(np.mean(vessel_mask))
    same_shape(vessel_mask, region, "vessel_mask", "region")
    if not region.any():
        raise ValueError("the region holds no pixel: its density is not defined")
    return float(np.mean(vessel_mask[region]))


def skeleton_density(skeleton: SkeletonGraph, area_mm2: float, inside: np.ndarray | None = None) -> float:
    """Length of centreline per area, mm/mm2.

    Args:
        skeleton: the traced centreline; its lengths are those of smoothed Freeman chains.
        area_mm2: area of the region.
        inside: boolean (n,), the skeleton pixels that lie in the region; default: all.

    Raises:
        ValueError: when the area is not positive.
    """
    if not area_mm2 > 0:
        raise ValueError(f"area_mm2 is {area_mm2}, expected a positive area")
    length = skeleton.pixel_length_mm if inside is None else skeleton.pixel_length_mm[inside]
    return float(length.sum() / area_mm2)
