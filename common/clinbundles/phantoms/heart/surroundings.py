"""Chest around the heart: static tissue painted in space, in which the heart slides.

Nothing outside the pericardial sac moves. So the heart's exact inverse map is all that a picture needs, and where the
heart withdraws the tissue of the pericardial recess shows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from numba import njit


class Surroundings(NamedTuple):
    """Chest wall, liver and lung; positions in patient axes (right, anterior, superior) from the heart's centre, mm."""

    midline: float  # to the right
    chest_middle: float  # anterior
    chest_half_width: float
    chest_half_depth: float
    fat: float
    chest_wall: float
    diaphragm: float  # superior, under the heart: negative
    diaphragm_tilt: float  # rise per mm to the right
    liver_edge: float  # the liver ends here, mm to the right
    aorta_right: float
    aorta_anterior: float
    aorta_radius: float
    mediastinum_edge: float  # the mediastinum begins here, mm to the right
    mediastinum_grain: float  # above -> fat, below -> soft tissue (a wave through it)
    recess_fat: float  # angle about the long axis around which the recess holds fat, else lung
    recess_share: float  # cosine of the half width of that fat: 1 none, -1 all around


@njit(cache=True)
def depth_below_skin(around, right, anterior):  # type: ignore[no-untyped-def]
    """Depth below the skin, mm, negative outside; to first order: exact enough for layers thin against the chest."""
    x = (right - around.midline) / around.chest_half_width
    y = (anterior - around.chest_middle) / around.chest_half_depth
    radius = math.sqrt(x * x + y * y)
    return (
        (1.0 - radius)
        * radius
        / math.sqrt((x / around.chest_half_width) ** 2 + (y / around.chest_half_depth) ** 2 + 1e-12)
    )


@njit(cache=True)
def surrounding_tissue(around, right, anterior, superior, in_recess, angle):  # type: ignore[no-untyped-def]
    """Tissue (int) of the chest at a point in patient axes; `in_recess`: within the sac of end-diastole."""
    depth = depth_below_skin(around, right, anterior)
    if depth < 0.0:
        return 17
    if depth < around.fat:
        return 12
    if depth < around.fat + around.chest_wall:
        return 13
    if math.hypot(right - around.aorta_right, anterior - around.aorta_anterior) < around.aorta_radius:
        return 16
    if math.hypot(right - around.midline, anterior - around.chest_middle + 0.62 * around.chest_half_depth) < 24.0:
        return 13
    if in_recess:
        return 12 if math.cos(angle - around.recess_fat) > around.recess_share else 11
    top = around.diaphragm + around.diaphragm_tilt * right - (right * right + anterior * anterior) / 900.0
    if superior < top:
        if superior > top - 2.5:
            return 13
        return 14 if right > around.liver_edge else 15
    if right > around.mediastinum_edge and abs(anterior) < 45.0:
        wave = math.sin(0.11 * superior + 0.07 * anterior) + math.sin(0.09 * anterior - 0.13 * right)
        return 12 if wave > around.mediastinum_grain else 13
    return 11
