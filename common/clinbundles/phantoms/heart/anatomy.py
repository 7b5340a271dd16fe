"""Anatomy at end-diastole: radii of the ventricles' surfaces about the long axis of the left ventricle.

Heart coordinates (mm): Z along the long axis, base Z = 0, epicardial apex Z = -L; (R, Theta) around it with Theta = 0
at the lateral wall, pi/2 inferior, pi septum, 3 pi/2 anterior. All radii come squared: the motion is linear in R^2.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import brentq


class Anatomy(NamedTuple):
    """Shape of one heart at end-diastole, mm and rad.

    The endocardium is an ellipsoid of half axes `radius` and `half_length` (times an angular form), cut by the base at
    `base` half lengths above its equator; the epicardium is one of half length `outer_half_length`.
    """

    radius: float
    half_length: float
    base: float
    wall: float
    outer_half_length: float
    oval_cos: float
    oval_sin: float
    trefoil_cos: float
    trefoil_sin: float
    wall_cos: float
    wall_sin: float
    septum: float  # thickness of the septum relative to the rest
    rv_depth: float
    rv_centre: float
    rv_half_span: float
    rv_power: float
    rv_apex: float  # in half lengths below the equator
    rv_skew: float  # 0: deepest in the middle of its sector
    rv_turn: float  # rad by which the right ventricle turns forward from its apex to its base
    rv_wall: float
    fat: float
    fat_angle: float
    fat_uneven: float
    atrium_height: float
    atrium_radius: float
    right_atrium_depth: float
    aorta_radius: float
    aorta_angle: float
    aorta_distance: float
    aorta_tilt: float
    pulmonary_radius: float
    pulmonary_angle: float
    pulmonary_distance: float

    @property
    def length(self) -> float:
        """L: from the base to the epicardial apex, mm."""
        return self.outer_half_length + self.base * self.half_length

    @property
    def cavity_length(self) -> float:
        """From the base to the endocardial apex, mm."""
        return self.half_length * (1.0 + self.base)


@njit(cache=True)
def endocardium(shape, cosine, sine, height):  # type: ignore[no-untyped-def]
    """R_en^2(Theta, Z), 0 below the endocardial apex; complex arguments allowed."""
    level = height + shape.base * shape.half_length
    taper = 1.0 - (level / shape.half_length) ** 2
    if taper.real <= 0.0:
        return 0.0 * taper * cosine
    return taper * (shape.radius * _outline(shape, cosine, sine)) ** 2


@njit(cache=True)
def epicardium(shape, cosine, sine, height):  # type: ignore[no-untyped-def]
    """R_ep^2(Theta, Z), 0 below the apex; complex arguments allowed."""
    level = height + shape.base * shape.half_length
    taper = 1.0 - (level / shape.outer_half_length) ** 2
    if taper.real <= 0.0:
        return 0.0 * taper * cosine
    thickness = (
        shape.wall_cos * (cosine * cosine - sine * sine)
        + shape.wall_sin * 2.0 * sine * cosine
        + (shape.septum - 1.0) * np.exp((-1.0 - cosine) / 0.36)  # a von Mises bump of 0.6 rad at the septum
    )
    return taper * ((shape.radius + shape.wall) * _outline(shape, cosine, sine) + shape.wall * thickness) ** 2


@njit(cache=True)
def _outline(shape, cosine, sine):  # type: ignore[no-untyped-def]
    return (
        1.0
        + shape.oval_cos * (cosine * cosine - sine * sine)
        + shape.oval_sin * 2.0 * sine * cosine
        + shape.trefoil_cos * cosine * (4.0 * cosine * cosine - 3.0)
        + shape.trefoil_sin * sine * (3.0 - 4.0 * sine * sine)
    )


@njit(cache=True)
def right_cavity_depth(shape, angle, height):  # type: ignore[no-untyped-def]
    """Depth of the right ventricular cavity outside the epicardium, mm, 0 outside its sector."""
    level = height + shape.base * shape.half_length
    bottom = -shape.rv_apex * shape.half_length
    part = (level - bottom) / (shape.base * shape.half_length - bottom)
    if part <= 0.0:
        return 0.0
    part = min(part, 1.0)
    turn = wrapped(angle - shape.rv_centre - shape.rv_turn * (part - 0.6)) / shape.rv_half_span
    if abs(turn) >= 1.0:
        return 0.0
    turn += shape.rv_skew * (1.0 - turn * turn)
    depth = math.sqrt(1.0 - (1.0 - part) ** 2) * (1.0 - 0.25 * part**4)
    return shape.rv_depth * depth * math.cos(0.5 * math.pi * turn) ** shape.rv_power


@njit(cache=True)
def right_wall_thickness(shape, depth):  # type: ignore[no-untyped-def]
    """Thickness of the right ventricle's free wall, mm: fades out where the cavity ends."""
    return shape.rv_wall * depth / (depth + 1.0)


@njit(cache=True)
def fat_thickness(shape, angle, height):  # type: ignore[no-untyped-def]
    """Epicardial fat, mm: thickest in the atrioventricular groove and on one side."""
    groove = 1.0 + 1.5 * math.exp(-((height / 10.0) ** 2))
    return shape.fat * groove * (1.0 + shape.fat_uneven * math.cos(angle - shape.fat_angle))


@njit(cache=True)
def wrapped(angle):  # type: ignore[no-untyped-def]
    """The angle in [-pi, pi)."""
    return angle - 2.0 * math.pi * math.floor(angle / (2.0 * math.pi) + 0.5)


@njit(cache=True)
def _squared_radii(shape, angles, heights, which):  # type: ignore[no-untyped-def]
    out = np.zeros((angles.size, heights.size))
    for i in range(angles.size):
        for j in range(heights.size):
            cosine, sine = math.cos(angles[i]), math.sin(angles[i])
            if which == 0:
                out[i, j] = endocardium(shape, cosine, sine, heights[j])
            else:
                out[i, j] = epicardium(shape, cosine, sine, heights[j])
                if which == 2:
                    depth = right_cavity_depth(shape, angles[i], heights[j])
                    out[i, j] = (math.sqrt(out[i, j]) + depth) ** 2 - out[i, j]
    return out


@lru_cache(maxsize=64)
def _gauss(nodes: int) -> tuple[NDArray, NDArray]:
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return points, weights


def quadrature(lowest: float, angles: int = 96, heights: int = 64) -> tuple[NDArray, NDArray, NDArray]:
    """Nodes (A,), (H,) and weights (H,) of the volume integral over [0, 2 pi) x [lowest, 0].

    Uniform in the angle, Gauss-Legendre in the height: spectrally exact for the smooth left ventricle.
    The weights hold the step of the angle and the 1/2 of the area in polar coordinates.
    """
    nodes, weights = _gauss(heights)
    z = 0.5 * lowest * (1.0 - nodes)
    return np.arange(angles) * 2.0 * np.pi / angles, z, -0.5 * lowest * weights * np.pi / angles


def cavity_volume(shape: Anatomy) -> float:
    """End-diastolic volume of the left ventricle, mL."""
    angles, heights, weights = quadrature(-shape.cavity_length)
    return float((_squared_radii(shape, angles, heights, 0) @ weights).sum()) / 1000.0


def muscle_volume(shape: Anatomy) -> float:
    """Volume of the left ventricle's muscle, mL."""
    angles, heights, weights = quadrature(-shape.length)
    return float((_squared_radii(shape, angles, heights, 1) @ weights).sum()) / 1000.0 - cavity_volume(shape)


def right_cavity_volume(shape: Anatomy) -> float:
    """End-diastolic volume of the right ventricle, mL."""
    bottom = -(shape.rv_apex + shape.base) * shape.half_length
    angles, heights, weights = quadrature(bottom, angles=360, heights=48)  # to 1e-6
    return float((_squared_radii(shape, angles, heights, 2) @ weights).sum()) / 1000.0


def solve_anatomy(
    form: Anatomy, *, slenderness: float, apex_wall: float, edv_ml: float, muscle_ml: float, rv_edv_ml: float
) -> Anatomy:
    """The anatomy of this form that has exactly the wanted volumes.

    Args:
        form: its sizes `radius`, `half_length`, `wall`, `outer_half_length` and `rv_depth` are replaced.
        slenderness: half length over radius of the endocardial ellipsoid.
        apex_wall: thickness of the apex relative to the wall.
        edv_ml: left ventricular cavity.
        muscle_ml: left ventricular muscle (mass in g / 1.05).
        rv_edv_ml: right ventricular cavity.
    """
    unit = form._replace(radius=1.0, half_length=slenderness)
    radius = (1000.0 * edv_ml / (1000.0 * cavity_volume(unit))) ** (1 / 3)
    shape = form._replace(radius=radius, half_length=slenderness * radius)

    def thick(wall: float) -> Anatomy:
        return shape._replace(wall=wall, outer_half_length=shape.half_length + apex_wall * wall)

    shape = thick(brentq(lambda wall: muscle_volume(thick(wall)) - muscle_ml, 0.5, 40.0, xtol=1e-12, rtol=1e-12))
    depth = brentq(
        lambda deep: right_cavity_volume(shape._replace(rv_depth=deep)) - rv_edv_ml, 1.0, 150.0, xtol=1e-10, rtol=1e-12
    )
    return shape._replace(rv_depth=depth)
