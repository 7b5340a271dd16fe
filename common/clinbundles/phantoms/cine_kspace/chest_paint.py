"""What the chest around the heart is made of: the shared chest, with ribs, spine, lung and liver vessels added."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clinbundles.phantoms.heart.cine_image import texture_at
from clinbundles.phantoms.heart.surroundings import depth_below_skin, surrounding_tissue
from clinbundles.phantoms.heart.tissue import Tissue

MARROW, CORTEX, SPINAL_FLUID = 18, 19, 20
"""Tissues beyond those of the heart phantom; their signals follow its 18."""

_RIB_PITCH_MM = 27.0
_DISC_PITCH_MM = 32.0


def with_bones(rng: np.random.Generator, signals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signals (21,) with marrow (a share of fat), cortex (nearly none) and spinal fluid (brighter than blood)."""
    share, fluid = rng.uniform(0.35, 0.7), rng.uniform(1.0, 1.5)
    return np.append(signals, [share * signals[Tissue.FAT], 0.02, fluid]).astype(np.float32)


@njit(cache=True)
def chest_signal(around, signals, texture, grain_sd, origin, x, y, z, rotation, length, recess, angle):  # type: ignore[no-untyped-def]
    """Signal of the chest at a point of the heart's axes at end-diastole.

    Args:
        signals: of `with_bones`.
        grain_sd: SD of the relative signal.
        origin: (2,) phase of ribs and discs along the patient's axis, mm.
        recess: whether the point lies in the pericardial recess, at the angle `angle`.
    """
    deep = z + 0.5 * length
    right = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * deep
    anterior = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * deep
    superior = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * deep
    tissue = surrounding_tissue(around, right, anterior, superior, recess, angle)
    if tissue == 17 or tissue == 16:
        return signals[tissue]
    grain = texture_at(texture, 0.8 * x, 0.8 * y, 0.8 * z)
    if tissue == 13:
        tissue = _bone(around, origin, right, anterior, superior)
        return signals[tissue] * (1.0 + grain_sd * grain)
    if tissue == 11:  # vessels of the lung
        return signals[11] * (1.0 + 0.3 * grain) + 0.8 * min(max(1.5 * grain - 2.2, 0.0), 1.0)
    if tissue == 14:  # vessels of the liver
        vein = texture_at(texture, 0.5 * x + 40.0, 0.5 * y, 0.5 * z)
        share = min(max(4.0 * (abs(vein) - 1.7), 0.0), 1.0)
        return signals[14] * (1.0 + grain_sd * grain) * (1.0 - share) + 0.7 * share
    return signals[tissue] * (1.0 + grain_sd * grain)


@njit(cache=True)
def _bone(around, origin, right, anterior, superior):  # type: ignore[no-untyped-def]
    """Ribs in the chest wall, falling towards the front; vertebra, disc and canal of the spine; else muscle."""
    behind = anterior - around.chest_middle + 0.62 * around.chest_half_depth
    beside = right - around.midline
    spine = math.hypot(beside, behind)
    if spine < 24.0:
        if math.hypot(beside, behind - 5.0) < 16.0:
            disc = (superior + origin[1]) % _DISC_PITCH_MM
            if disc < 7.0:
                return 13
            return 19 if disc < 8.2 or disc > _DISC_PITCH_MM - 1.2 or spine > 24.0 else 18
        if math.hypot(beside, behind + 16.0) < 6.5:
            return 20
        return 13
    deep = depth_below_skin(around, right, anterior) - around.fat
    if deep <= 0.0 or deep >= around.chest_wall:
        return 13
    front = (anterior - around.chest_middle) / around.chest_half_depth
    along = (superior + origin[0] + 45.0 * front) % _RIB_PITCH_MM - 0.5 * _RIB_PITCH_MM
    across = deep - 0.6 * around.chest_wall
    half = min(4.5, 0.33 * around.chest_wall)
    size = math.sqrt((along / 7.0) ** 2 + (across / half) ** 2)
    if size >= 1.0:
        return 13
    return 18 if size < 0.75 else 19
