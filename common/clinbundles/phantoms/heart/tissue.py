"""Tissues of the heart at a material point: where muscle, blood, fat, papillary muscles and vessels lie."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit

from clinbundles.phantoms.heart.anatomy import fat_thickness, right_wall_thickness, wrapped


class Tissue(IntEnum):
    """What a point is made of. Papillary muscles and trabeculae count as cavity (UK Biobank's convention)."""

    OUTSIDE = 0
    LEFT_BLOOD = 1
    LEFT_MUSCLE = 2
    RIGHT_BLOOD = 3
    RIGHT_WALL = 4
    PAPILLARY = 5
    LEFT_TRABECULA = 6
    RIGHT_TRABECULA = 7
    EPICARDIAL_FAT = 8
    ATRIAL_BLOOD = 9
    VESSEL_WALL = 10  # of atria and great vessels
    LUNG = 11
    FAT = 12
    MUSCLE = 13
    LIVER = 14
    STOMACH = 15
    VESSEL_BLOOD = 16
    AIR = 17


LABELS = np.zeros(len(Tissue), np.uint8)
"""Label of each tissue: 0 background, 1 LV cavity, 2 LV myocardium, 3 RV cavity."""
LABELS[[Tissue.LEFT_BLOOD, Tissue.PAPILLARY, Tissue.LEFT_TRABECULA]] = 1
LABELS[Tissue.LEFT_MUSCLE] = 2
LABELS[[Tissue.RIGHT_BLOOD, Tissue.RIGHT_TRABECULA]] = 3


class Interior(NamedTuple):
    """Structures inside the cavities."""

    papillary_size: float  # radius over the endocardium's radius
    papillary_depth: float  # centre: radius over the endocardium's radius
    papillary_angle_1: float  # anterolateral
    papillary_angle_2: float  # posteromedial
    papillary_top: float  # Z over the cavity's length
    papillary_bottom: float
    trabecular_rim: float  # mm
    trabecular_phase: float


@njit(cache=True)
def heart_tissue(shape, interior, knots, squared, angle, height, shrink):  # type: ignore[no-untyped-def]
    """Tissue (int) at the material point (R^2, Theta, Z); 0 outside the pericardial sac.

    Args:
        knots: of `kinematics.segments` at this point (R_en^2, R_ep^2, R_rv^2 first).
        shrink: how much a length in the cavity's plane has shrunk. Papillary muscles keep their thickness in space
            while the blood around them leaves; they are part of the cavity, so no truth depends on it.
    """
    inner, outer, right = knots[0], knots[1], knots[2]
    length = shape.outer_half_length + shape.base * shape.half_length
    if height < -length:
        return 0
    if height > 0.0:
        return _above_base(shape, outer, right, squared, angle, height)
    if squared < inner:
        return _inside_left(shape, interior, inner, squared, angle, height, shrink)
    if squared <= outer:
        return 2
    reach = math.sqrt(right)
    depth = reach - math.sqrt(outer)
    radius = math.sqrt(squared)
    if squared < right:
        rim = 1.3 * interior.trabecular_rim
        if reach - radius < rim * _ridges(2.0 * angle, height, interior.trabecular_phase) and depth > 2.0 * rim:
            return 7
        return 3
    reach += right_wall_thickness(shape, depth)
    if radius <= reach:
        return 4
    if radius <= reach + fat_thickness(shape, angle, height):
        return 8
    return 0


@njit(cache=True)
def sac_radius(shape, knots, angle, height):  # type: ignore[no-untyped-def]
    """Radius of the pericardial sac at end-diastole, mm."""
    reach = math.sqrt(knots[2])
    depth = reach - math.sqrt(knots[1])
    return reach + right_wall_thickness(shape, depth) + fat_thickness(shape, angle, height)


@njit(cache=True)
def _inside_left(shape, interior, inner, squared, angle, height, shrink):  # type: ignore[no-untyped-def]
    edge = math.sqrt(inner)
    radius = math.sqrt(squared)
    part = -height / (shape.half_length * (1.0 + shape.base))
    if interior.papillary_top < part < interior.papillary_bottom:
        along = (part - interior.papillary_top) / (interior.papillary_bottom - interior.papillary_top)
        size = interior.papillary_size * math.sqrt(math.sin(math.pi * min(1.0, 0.15 + 0.75 * along))) / shrink
        x, y = radius / edge * math.cos(angle), radius / edge * math.sin(angle)
        depth = min(interior.papillary_depth + 0.25 * along, 1.0)
        for centre in (interior.papillary_angle_1, interior.papillary_angle_2):
            if (x - depth * math.cos(centre)) ** 2 + (y - depth * math.sin(centre)) ** 2 < size * size:
                return 5
    rim = interior.trabecular_rim * (0.4 + 1.2 * part)
    if edge - radius < rim and edge - radius < rim * _ridges(angle, height, interior.trabecular_phase):
        return 6
    return 1


@njit(cache=True)
def _ridges(angle, height, phase):  # type: ignore[no-untyped-def]
    """How far trabeculae reach into the cavity relative to the rim: irregular ridges along the wall, below 1."""
    wave = math.sin(8.0 * angle + 0.21 * height + phase) + math.sin(13.0 * angle - 0.17 * height + 2.3 * phase)
    return 0.38 * (wave + 0.6 * math.sin(21.0 * angle + 0.29 * height - phase))


@njit(cache=True)
def _above_base(shape, outer, right, squared, angle, height):  # type: ignore[no-untyped-def]
    radius = math.sqrt(squared)
    x, y = radius * math.cos(angle), radius * math.sin(angle)
    away = shape.aorta_distance - shape.aorta_tilt * height
    distance = math.hypot(x - away * math.cos(shape.aorta_angle), y - away * math.sin(shape.aorta_angle))
    if distance < shape.aorta_radius:
        return 16
    if distance < shape.aorta_radius + 1.8:
        return 10
    away = shape.pulmonary_distance - 0.3 * height
    distance = math.hypot(x - away * math.cos(shape.pulmonary_angle), y - away * math.sin(shape.pulmonary_angle))
    if distance < shape.pulmonary_radius:
        return 16
    if distance < shape.pulmonary_radius + 1.8:
        return 10
    part = height / shape.atrium_height
    left = shape.atrium_radius * (1.0 + 0.15 * math.cos(angle - 0.6))
    if part < 0.4:
        annulus = 0.72 * math.sqrt(outer)
        left = annulus + (left - annulus) * math.sin(0.5 * math.pi * part / 0.4)
    else:
        left *= math.sqrt(max(0.0, 1.0 - ((part - 0.4) / 0.6) ** 2))
    wall = 2.0
    if radius < left:
        return 9
    if radius < left + wall:
        return 10
    turn = wrapped(angle - shape.rv_centre + 0.45) / (0.85 * shape.rv_half_span)
    if abs(turn) < 1.0 and part < 0.9:
        depth = shape.right_atrium_depth * math.sqrt(math.cos(0.5 * math.pi * turn))
        depth *= math.sqrt(max(0.0, 1.0 - ((part - 0.35) / 0.6) ** 2))
        near = max(left, 0.85 * math.sqrt(outer)) + wall
        if near < radius < near + depth:
            return 9
        if near <= radius < near + depth + wall:
            return 10
    reach = max(math.sqrt(right) + right_wall_thickness(shape, math.sqrt(right) - math.sqrt(outer)), left + wall)
    if radius <= reach * (1.0 - 0.5 * part) + fat_thickness(shape, angle, height):
        return 8
    return 0
