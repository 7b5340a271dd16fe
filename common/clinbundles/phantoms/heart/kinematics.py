"""Motion of the heart in closed form, and its exact inverse.

In heart coordinates (capitals at end-diastole, small letters at time t)::

    z = -L + lz (Z + L)     theta = Theta + phi(t, Z)     r^2 = (R^2 - k R_en^2) / lz   in the left ventricle's muscle

so that det F = (r / R) (dr / dR) (dz / dZ) = 1 whatever k(t, Theta, Z), anatomy and twist are. r^2 is piecewise linear
in R^2 from the axis outward: blood (slope (1 - k) / lz), muscle (1 / lz), right ventricular blood ((1 - k_rv) / lz),
its wall and the fat (1 / lz); every slope is positive, so the map is monotone and inverted segment by segment.
Above the base Z runs linearly to the roof of the atrium, which stays, and the radial map fades to the identity.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from clinbundles.phantoms.heart.activation import Activation, activation_at
from clinbundles.phantoms.heart.anatomy import endocardium, epicardium, right_cavity_depth

FADING_MM = 12.0  # height above the base within which the ventricles' radial motion and twist fade out


class Motion(NamedTuple):
    """Motion of one heart over the cycle."""

    course: Activation
    contraction: float  # k at end-systole in healthy muscle
    apical_gain: float  # relative increase of k from base to apex
    shortening: float  # 1 - lz at end-systole
    twist_base: float  # rad at end-systole, about the axis apex -> base
    twist_apex: float
    rv_contraction: float  # RVEF
    region_angle: float  # diseased region: centre
    region_height: float
    region_width: float  # its SD, rad
    region_length: float  # its SD, mm
    hypokinesia: float  # part of the contraction lost in its centre
    delay: float  # of its contraction, fraction of the cycle
    bend: float  # mm, of the long axis at mid height


@njit(cache=True)
def contraction(motion, length, cosine, sine, height, time):  # type: ignore[no-untyped-def]
    """k(t, Theta, Z); complex angle parts and height allowed."""
    facing = cosine * math.cos(motion.region_angle) + sine * math.sin(motion.region_angle)
    region = np.exp(
        (facing - 1.0) / motion.region_width**2 - 0.5 * ((height - motion.region_height) / motion.region_length) ** 2
    )
    late = time - motion.delay * math.sin(math.pi * time) ** 2 * region
    strength = motion.contraction * (1.0 - motion.hypokinesia * region) * (1.0 - motion.apical_gain * height / length)
    return strength * activation_at(motion.course, late)


@njit(cache=True)
def squeezed(shape, motion, length, cosine, sine, height, time):  # type: ignore[no-untyped-def]
    """Squeeze k R_en^2: how much R^2 of the muscle falls; complex angle parts and height allowed."""
    return contraction(motion, length, cosine, sine, height, time) * endocardium(shape, cosine, sine, height)


@njit(cache=True)
def long_scale(motion, time):  # type: ignore[no-untyped-def]
    """lz(t)."""
    return 1.0 - motion.shortening * activation_at(motion.course, time)


@njit(cache=True)
def _faded(height):  # type: ignore[no-untyped-def]
    if height <= 0.0:
        return 0.0
    part = min(height / FADING_MM, 1.0)
    return part * part * (3.0 - 2.0 * part)


@njit(cache=True)
def _twist(motion, length, height, beat):  # type: ignore[no-untyped-def]
    depth = min(max(-height / length, 0.0), 1.0)
    angle = motion.twist_base + (motion.twist_apex - motion.twist_base) * depth
    return beat * angle * (1.0 - _faded(height))


@njit(cache=True)
def twist_slope(motion, length, beat):  # type: ignore[no-untyped-def]
    """Slope d phi / dZ within the ventricle, rad/mm."""
    return -beat * (motion.twist_apex - motion.twist_base) / length


@njit(cache=True)
def height_at(shape, length, scale, height):  # type: ignore[no-untyped-def]
    """Height z at time t of the material height Z."""
    if height <= -length or height >= shape.atrium_height:
        return height
    if height <= 0.0:
        return -length + scale * (height + length)
    base = -(1.0 - scale) * length
    return base + (shape.atrium_height - base) * height / shape.atrium_height


@njit(cache=True)
def _height_before(shape, length, scale, height):  # type: ignore[no-untyped-def]
    if height <= -length or height >= shape.atrium_height:
        return height
    base = -(1.0 - scale) * length
    if height <= base:
        return (height + length) / scale - length
    return shape.atrium_height * (height - base) / (shape.atrium_height - base)


@njit(cache=True)
def segments(shape, motion, length, angle, cosine, sine, height, time, beat):  # type: ignore[no-untyped-def]
    """Knots of the map R^2 -> r^2 at (Theta, Z): R_en^2, R_ep^2, R_rv^2, r_en^2, r_ep^2, r_rv^2; slope in muscle."""
    level = min(height, 0.0)
    fade = _faded(height)
    inner = endocardium(shape, cosine, sine, level)
    outer = epicardium(shape, cosine, sine, level)
    depth = right_cavity_depth(shape, angle, level)
    right = (math.sqrt(outer) + depth) ** 2
    slope = (1.0 - fade) / (1.0 - motion.shortening * beat) + fade
    if height <= -length:
        slope = 1.0
    k = (1.0 - fade) * contraction(motion, length, cosine, sine, level, time)
    now_inner = slope * (1.0 - k) * inner
    now_outer = slope * (outer - k * inner)
    now_right = now_outer + slope * (1.0 - (1.0 - fade) * motion.rv_contraction * beat) * (right - outer)
    return inner, outer, right, now_inner, now_outer, now_right, slope


@njit(cache=True)
def axis_bend(motion, length, height):  # type: ignore[no-untyped-def]
    """Shift of the long axis along x at height z, mm: a shear, which keeps volume."""
    part = min(max((height + length) / length, 0.0), 1.0)
    return 0.5 * motion.bend * (1.0 - math.cos(2.0 * math.pi * part))


@njit(cache=True)
def bend_slope(motion, length, height):  # type: ignore[no-untyped-def]
    """d(axis_bend) / dz."""
    part = min(max((height + length) / length, 0.0), 1.0)
    return motion.bend * math.pi / length * math.sin(2.0 * math.pi * part)


@njit(cache=True)
def moved(shape, motion, length, time, x, y, height):  # type: ignore[no-untyped-def]
    """The point (x, y, z) at time t of the material point (X, Y, Z), mm, before bending and pose."""
    beat = activation_at(motion.course, time)
    angle = math.atan2(y, x)
    squared = x * x + y * y
    inner, outer, right, now_inner, now_outer, now_right, slope = segments(
        shape, motion, length, angle, math.cos(angle), math.sin(angle), height, time, beat
    )
    if squared < inner:
        squared *= now_inner / inner
    elif squared <= outer:
        squared = now_inner + slope * (squared - inner)
    elif squared < right:
        squared = now_outer + (now_right - now_outer) / (right - outer) * (squared - outer)
    else:
        squared = now_right + slope * (squared - right)
    angle += _twist(motion, length, height, beat)
    radius = math.sqrt(max(squared, 0.0))
    z = height_at(shape, length, long_scale(motion, time), height)
    return radius * math.cos(angle), radius * math.sin(angle), z


@njit(cache=True)
def before(shape, motion, length, time, beat, x, y, z):  # type: ignore[no-untyped-def]
    """R^2, Theta, cos Theta, sin Theta, Z, knots of the material point at (x, y, z) at time t; `beat` = a(t)."""
    height = _height_before(shape, length, 1.0 - motion.shortening * beat, z)
    angle = math.atan2(y, x) - _twist(motion, length, height, beat)
    squared = x * x + y * y
    cosine, sine = math.cos(angle), math.sin(angle)
    knots = segments(shape, motion, length, angle, cosine, sine, height, time, beat)
    inner, outer, right, now_inner, now_outer, now_right, slope = knots
    if squared < now_inner:
        squared *= inner / now_inner
    elif squared <= now_outer:
        squared = inner + (squared - now_inner) / slope
    elif squared < now_right:
        squared = outer + (right - outer) / (now_right - now_outer) * (squared - now_outer)
    else:
        squared = right + (squared - now_right) / slope
    return squared, angle, cosine, sine, height, knots
