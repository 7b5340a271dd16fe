"""The simulated heart: anatomy, motion and pose, every truth in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from clinbundles.phantoms.heart.activation import activation_at
from clinbundles.phantoms.heart.anatomy import (
    Anatomy,
    cavity_volume,
    endocardium,
    epicardium,
    muscle_volume,
    quadrature,
    right_cavity_volume,
)
from clinbundles.phantoms.heart.kinematics import (
    Motion,
    axis_bend,
    before,
    bend_slope,
    contraction,
    long_scale,
    moved,
    squeezed,
    twist_slope,
)
from clinbundles.phantoms.heart.rigid_motion import RigidMotion
from clinbundles.phantoms.heart.surroundings import Surroundings
from clinbundles.phantoms.heart.tissue import LABELS, Interior, heart_tissue

Points = NDArray[np.float64]
_STEP = 1e-30  # of complex-step derivatives: exact to rounding


@dataclass(frozen=True)
class Heart:
    """One heart in its chest. Points are (N, 3) mm, times are fractions of the cycle with end-diastole at 0.

    *Material* points are heart coordinates at end-diastole (origin on the base, z = long axis apex -> base, x =
    lateral, y = inferior) before the axis is bent; *world* points are RAS. The muscle keeps its volume exactly.

    Args:
        anatomy, motion, interior, surroundings: what the heart is.
        rotation: (3, 3), columns = the heart's x, y, z in RAS.
        base: (3,) RAS mm of the centre of the base at end-diastole.
        rigid: movement of the whole heart.
    """

    anatomy: Anatomy
    motion: Motion
    interior: Interior
    surroundings: Surroundings
    rotation: NDArray[np.float64]
    base: NDArray[np.float64]
    rigid: RigidMotion

    # ------------------------------------------------------------------ maps

    def to_spatial(self, material: ArrayLike, time: float) -> Points:
        """World position (N, 3) of material points at a time."""
        return self.to_world(_forward(self.anatomy, self.motion, self.anatomy.length, time, _points(material)), time)

    def to_material(self, points: ArrayLike, time: float) -> Points:
        """Material points (N, 3) that are at these world points at a time: the exact inverse of `to_spatial`."""
        return _backward(self.anatomy, self.motion, self.anatomy.length, time, self._to_heart(points, time))

    def pull_back(self, points: ArrayLike, time: float) -> Points:
        """Where the tissue that is at these world points at a time was at end-diastole (world)."""
        return self.to_spatial(self.to_material(points, time), 0.0)

    def displacement(self, points: ArrayLike, time: float) -> Points:
        """Movement (N, 3), mm RAS, from end-diastole to `time` of the tissue at these world points at end-diastole."""
        start = _points(points)
        return self.to_spatial(self.to_material(start, 0.0), time) - start

    def to_world(self, points: ArrayLike, time: float) -> Points:
        """World coordinates of points in the heart's frame at a time (rigid motion and pose, no deformation)."""
        pose = self.pose(time)
        return _points(points) @ pose[:3, :3].T + pose[:3, 3]

    def pose(self, time: float) -> NDArray[np.float64]:
        """(4, 4) from the heart's frame to RAS mm at a time."""
        still = np.eye(4)
        still[:3, :3], still[:3, 3] = self.rotation, self.base
        return still @ self.rigid.pose(self.motion.course, -0.5 * self.anatomy.length, float(time))

    def _to_heart(self, points: ArrayLike, time: float) -> Points:
        pose = self.pose(time)
        return np.ascontiguousarray((_points(points) - pose[:3, 3]) @ pose[:3, :3])

    # ---------------------------------------------------------------- labels

    def labels(self, points: ArrayLike, time: float) -> NDArray[np.uint8]:
        """Labels (N,) at world points: 0 background, 1 LV cavity, 2 LV myocardium, 3 RV cavity. Exact."""
        return LABELS[self.tissues(points, time)]

    def tissues(self, points: ArrayLike, time: float) -> NDArray[np.uint8]:
        """`Tissue` (N,) at world points; 0 outside the pericardial sac."""
        here = self._to_heart(points, time)
        return _tissues(self.anatomy, self.motion, self.interior, self.anatomy.length, time, here)

    # ------------------------------------------------------------ deformation

    def deformation_gradient(self, material: ArrayLike, time: float) -> NDArray[np.float64]:
        """F (N, 3, 3) = dx / dX from end-diastole to `time` in the heart's axes; NaN outside the left muscle.

        Without the rotation of the whole heart, which is no strain.
        """
        return _gradients(self.anatomy, self.motion, self.anatomy.length, time, _points(material))

    def strain(self, material: ArrayLike, time: float) -> NDArray[np.float64]:
        """Green-Lagrange strain (N, 3) = E_rr, E_cc, E_ll along `local_axes` of material points of the left muscle."""
        gradient = self.deformation_gradient(material, time)
        axes = self.local_axes(material)
        stretched = np.einsum("nij,naj->nai", gradient, axes)  # F a for each axis a
        return 0.5 * ((stretched**2).sum(-1) - 1.0)

    def local_axes(self, material: ArrayLike) -> NDArray[np.float64]:
        """Wall axes (N, 3, 3) at end-diastole in the heart's axes: rows radial, circumferential, longitudinal.

        Radial is the normal of the surface of equal depth in the wall (outward), circumferential the horizontal
        direction in that surface, longitudinal the third (apex -> base).
        """
        return _wall_axes(self.anatomy, self.motion, self.anatomy.length, _points(material))

    # --------------------------------------------------------------- volumes

    def volumes(self, time: float) -> tuple[float, float, float]:
        """Left cavity, left muscle and right cavity at a time, mL."""
        angles, heights, weights, inner = self._cavity_nodes
        k = _contractions(self.motion, self.anatomy.length, angles, heights, time)
        left = float(((1.0 - k) * inner @ weights).sum()) / 1000.0
        right = self._right_volume * (1.0 - self.motion.rv_contraction * activation_at(self.motion.course, float(time)))
        return left, self._muscle_volume, float(right)

    @cached_property
    def _cavity_nodes(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        angles, heights, weights = quadrature(-self.anatomy.cavity_length)
        cosine, sine = np.cos(angles), np.sin(angles)
        inner = np.array(
            [[endocardium(self.anatomy, c, s, z) for z in heights] for c, s in zip(cosine, sine, strict=True)]
        )
        return angles, heights, weights, inner

    @cached_property
    def _muscle_volume(self) -> float:
        return muscle_volume(self.anatomy)

    @cached_property
    def _right_volume(self) -> float:
        return right_cavity_volume(self.anatomy)

    @property
    def edv_ml(self) -> float:
        """End-diastolic volume of the left ventricle, mL."""
        return cavity_volume(self.anatomy)

    @property
    def mass_g(self) -> float:
        """Left ventricular mass at 1.05 g/mL, papillary muscles not counted."""
        return 1.05 * self._muscle_volume

    @cached_property
    def end_systole(self) -> float:
        """Time of the least left ventricular volume, fraction of the cycle."""
        if self.motion.delay == 0.0:
            return self.motion.course.end_systole  # k is largest there everywhere
        times = np.linspace(0.2, 0.7, 251)
        return float(times[np.argmin([self.volumes(t)[0] for t in times])])

    @property
    def ejection_fraction(self) -> float:
        """Left ventricular EF in [0, 1]: <k> at end-systole, weighted by R_en^2."""
        return 1.0 - self.volumes(self.end_systole)[0] / self.edv_ml

    # ------------------------------------------------------------- landmarks

    def landmark(self, name: str, time: float = 0.0) -> Points:
        """World position (3,) of "apex" (epicardial), "base_centre" or "rv_insertion_anterior"."""
        return self.to_spatial(self._landmarks[name][None], time)[0]

    @cached_property
    def _landmarks(self) -> dict[str, Points]:
        angle = self.anatomy.rv_centre + 0.97 * self.anatomy.rv_half_span
        height = -0.4 * self.anatomy.length
        radius = math.sqrt(epicardium(self.anatomy, math.cos(angle), math.sin(angle), height))
        return {
            "apex": np.array([0.0, 0.0, -self.anatomy.length]),
            "base_centre": np.zeros(3),
            "rv_insertion_anterior": np.array([radius * math.cos(angle), radius * math.sin(angle), height]),
        }


def _points(points: ArrayLike) -> Points:
    array = np.asarray(points, np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"points have the shape {array.shape}, expected (N, 3) in mm")
    return np.ascontiguousarray(array)


@njit(cache=True)
def _forward(shape, motion, length, time, points):  # type: ignore[no-untyped-def]
    out = np.empty_like(points)
    for n in range(len(points)):
        x, y, z = moved(shape, motion, length, time, points[n, 0], points[n, 1], points[n, 2])
        out[n, 0], out[n, 1], out[n, 2] = x + axis_bend(motion, length, z), y, z
    return out


@njit(cache=True)
def _backward(shape, motion, length, time, points):  # type: ignore[no-untyped-def]
    beat = activation_at(motion.course, time)
    out = np.empty_like(points)
    for n in range(len(points)):
        x = points[n, 0] - axis_bend(motion, length, points[n, 2])
        squared, _, cosine, sine, height, _ = before(shape, motion, length, time, beat, x, points[n, 1], points[n, 2])
        radius = math.sqrt(max(squared, 0.0))
        out[n, 0], out[n, 1], out[n, 2] = radius * cosine, radius * sine, height
    return out


@njit(cache=True)
def _tissues(shape, motion, interior, length, time, points):  # type: ignore[no-untyped-def]
    beat = activation_at(motion.course, time)
    out = np.empty(len(points), np.uint8)
    for n in range(len(points)):
        x = points[n, 0] - axis_bend(motion, length, points[n, 2])
        squared, angle, _, _, height, knots = before(shape, motion, length, time, beat, x, points[n, 1], points[n, 2])
        shrink = math.sqrt(knots[3] / knots[0]) if knots[0] > 0.0 else 1.0
        out[n] = heart_tissue(shape, interior, knots, squared, angle, height, shrink)
    return out


@njit(cache=True)
def _contractions(motion, length, angles, heights, time):  # type: ignore[no-untyped-def]
    out = np.empty((angles.size, heights.size))
    for i in range(angles.size):
        cosine, sine = math.cos(angles[i]), math.sin(angles[i])
        for j in range(heights.size):
            out[i, j] = contraction(motion, length, cosine, sine, heights[j], time)
    return out


@njit(cache=True)
def _gradients(shape, motion, length, time, points):  # type: ignore[no-untyped-def]
    beat = activation_at(motion.course, time)
    scale = long_scale(motion, time)
    out = np.full((len(points), 3, 3), np.nan)
    for n in range(len(points)):
        height = points[n, 2]
        radius = math.hypot(points[n, 0], points[n, 1])
        if radius == 0.0 or not -length <= height <= 0.0:
            continue
        cosine, sine = points[n, 0] / radius, points[n, 1] / radius
        inner = endocardium(shape, cosine, sine, height)
        if not inner * (1.0 - 1e-9) <= radius * radius <= epicardium(shape, cosine, sine, height) * (1.0 + 1e-9):
            continue
        turn = 1j * _STEP
        squeeze = squeezed(shape, motion, length, cosine, sine, height, time)
        by_angle = squeezed(shape, motion, length, cosine - turn * sine, sine + turn * cosine, height + 0j, time)
        by_height = squeezed(shape, motion, length, cosine + 0j, sine + 0j, height + turn, time)
        now = math.sqrt((radius * radius - squeeze) / scale)
        slope = twist_slope(motion, length, beat)
        cylinder = np.zeros((3, 3))
        cylinder[0, 0] = radius / (scale * now)
        cylinder[0, 1] = -by_angle.imag / _STEP / (2.0 * scale * now * radius)
        cylinder[0, 2] = -by_height.imag / _STEP / (2.0 * scale * now)
        cylinder[1, 1] = now / radius
        cylinder[1, 2] = now * slope
        cylinder[2, 2] = scale
        x, y, z = moved(shape, motion, length, time, points[n, 0], points[n, 1], height)
        new_radius = math.hypot(x, y)
        then = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        here = np.array([[x, -y, 0.0], [y, x, 0.0], [0.0, 0.0, new_radius]]) / new_radius
        bent, unbent = np.eye(3), np.eye(3)
        bent[0, 2] = bend_slope(motion, length, z)
        unbent[0, 2] = -bend_slope(motion, length, height)
        out[n] = bent @ here @ cylinder @ then.T @ unbent
    return out


@njit(cache=True)
def _wall_axes(shape, motion, length, points):  # type: ignore[no-untyped-def]
    out = np.full((len(points), 3, 3), np.nan)
    for n in range(len(points)):
        height = points[n, 2]
        radius = math.hypot(points[n, 0], points[n, 1])
        if radius == 0.0 or not -length < height <= 0.0:
            continue
        c, s = points[n, 0] / radius, points[n, 1] / radius
        turn = 1j * _STEP
        inner = math.sqrt(endocardium(shape, c, s, height))
        outer = math.sqrt(epicardium(shape, c, s, height))
        depth = (radius - inner) / (outer - inner)
        around, along = 0.0, 0.0
        if inner > 0.0:
            weight = (1.0 - depth) / (2.0 * inner)
            around += weight * endocardium(shape, c - turn * s, s + turn * c, height + 0j).imag / _STEP
            along += weight * endocardium(shape, c + 0j, s + 0j, height + turn).imag / _STEP
        weight = depth / (2.0 * outer)
        around += weight * epicardium(shape, c - turn * s, s + turn * c, height + 0j).imag / _STEP
        along += weight * epicardium(shape, c + 0j, s + 0j, height + turn).imag / _STEP
        ring = np.array([around * c - radius * s, around * s + radius * c, 0.0])
        meridian = np.array([along * c + bend_slope(motion, length, height), along * s, 1.0])
        radial = np.cross(ring, meridian)
        radial /= np.linalg.norm(radial)
        ring /= np.linalg.norm(ring)
        out[n, 0], out[n, 1], out[n, 2] = radial, ring, np.cross(radial, ring)
    return out
