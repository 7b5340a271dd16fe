"""Motion of the chest beside the heart: lung, fat and diaphragm follow its surface, less with growing distance.

The shared heart slides in a still chest. Here the tissue around takes part, so that nothing opens or closes at the
heart's surface: X = x + w (h(x, t) - x), where x is a point at time t, h pulls it back to end-diastole as the heart's
own map would, continued beyond its surface, and w falls from 1 at the surface to 0 at a distance (the reach) and
towards the chest wall, which does not beat. The chest is painted at X; the heart itself moves by its exact map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clinbundles.phantoms.heart.activation import activation_at
from clinbundles.phantoms.heart.heart import Heart
from clinbundles.phantoms.heart.kinematics import axis_bend, before, segments
from clinbundles.phantoms.heart.surroundings import depth_below_skin
from clinbundles.phantoms.heart.tissue import sac_radius

WALL_MARGIN_MM = 20.0
"""Depth below the inner surface of the chest wall from which tissue is free to follow the heart."""

_NEAR_APEX = 1e-3
_ITERATIONS = 60


@dataclass(frozen=True)
class CarriedChest:
    """The chest's map between world points at a time and those at end-diastole; points are (P, 3) RAS mm.

    Args:
        heart: what carries it.
        reach: distance from the heart at which nothing moves any more, mm. It must exceed 1.5 times the movement of
            the heart's surface, so that no tissue folds.
    """

    heart: Heart
    reach: float

    def pull_back(self, points: NDArray[np.float64], time: float) -> NDArray[np.float64]:
        """Where the chest's tissue that is at these points at a time was at end-diastole."""
        start = self.heart.pose(0.0)
        still = (points - start[:3, 3]) @ start[:3, :3]
        out = _pulled(*self._fixed(time), np.ascontiguousarray(still))
        return np.asarray(out @ start[:3, :3].T + start[:3, 3])

    def push(self, points: NDArray[np.float64], time: float) -> NDArray[np.float64]:
        """Where the chest's tissue that is at these points at end-diastole is at a time: inverse of `pull_back`."""
        start = self.heart.pose(0.0)
        still = (points - start[:3, 3]) @ start[:3, :3]
        out = _pushed(*self._fixed(time), np.ascontiguousarray(still))
        return np.asarray(out @ start[:3, :3].T + start[:3, 3])

    def _fixed(self, time: float) -> tuple[object, ...]:
        heart = self.heart
        since = np.linalg.inv(heart.pose(time)) @ heart.pose(0.0)
        return (
            heart.anatomy, heart.motion, heart.surroundings, heart.rotation, heart.anatomy.length, self.reach, time,
            activation_at(heart.motion.course, time), since,
        )  # fmt: skip


@njit(cache=True)
def chest_before(shape, motion, around, rotation, length, reach, time, beat, now, still):  # type: ignore[no-untyped-def]
    """X, Y, Z of the chest's tissue at end-diastole; how much of the heart's motion it takes; `carried`'s distance.

    Args:
        reach: see `CarriedChest`.
        beat: activation at `time`.
        now: (3,) the point in the heart's axes at `time`; `still`: the same point in those of end-diastole.
    """
    if now[0] * now[0] + now[1] * now[1] > (reach + 110.0) ** 2:
        return still[0], still[1], still[2], 0.0, reach
    return carried(shape, motion, around, rotation, length, reach, now, still, heart_before(
        shape, motion, length, time, beat, now
    ))  # fmt: skip


@njit(cache=True)
def heart_before(shape, motion, length, time, beat, now):  # type: ignore[no-untyped-def]
    """Result of `before` for a point of the heart's axes; below the apex the map is continued as it is there."""
    level = max(now[2], _NEAR_APEX - length)
    return before(shape, motion, length, time, beat, now[0] - axis_bend(motion, length, level), now[1], level)


@njit(cache=True)
def carried(shape, motion, around, rotation, length, reach, now, still, material):  # type: ignore[no-untyped-def]
    """`chest_before`, where `heart_before` is known already.

    The last value is a lower bound of the distance of X, Y, Z from the heart's surface at end-diastole, mm.
    """
    x0, y0, z0 = still
    deep = z0 + 0.5 * length
    right = rotation[0, 0] * x0 + rotation[0, 1] * y0 + rotation[0, 2] * deep
    anterior = rotation[1, 0] * x0 + rotation[1, 1] * y0 + rotation[1, 2] * deep
    inside = (depth_below_skin(around, right, anterior) - around.fat - around.chest_wall) / WALL_MARGIN_MM
    squared, angle, cosine, sine, height, knots = material
    radius = math.sqrt(max(squared, 0.0))
    beside = max(0.0, radius - sac_radius(shape, knots, angle, min(height, 0.0)))
    z = now[2]
    level = max(z, _NEAR_APEX - length)
    beyond = level - z + max(0.0, z - shape.atrium_height)
    distance = math.sqrt(beside * beside + beyond * beyond)
    part = distance / reach
    weight = 0.0
    if part < 1.0 and inside > 0.0:
        weight = 1.0 - part * part * (3.0 - 2.0 * part)
        if inside < 1.0:
            weight *= inside * inside * (3.0 - 2.0 * inside)
    dx = radius * cosine + axis_bend(motion, length, height) - x0
    dy = radius * sine - y0
    dz = height + z - level - z0
    distance -= (1.0 - weight) * math.sqrt(dx * dx + dy * dy + dz * dz)
    return x0 + weight * dx, y0 + weight * dy, z0 + weight * dz, weight, distance


@njit(cache=True)
def in_recess(shape, motion, length, x, y, z):  # type: ignore[no-untyped-def]
    """Whether a point of end-diastole lies in the pericardial recess, as the shared heart has it; and Theta."""
    bent = x - axis_bend(motion, length, z)
    angle = math.atan2(y, bent)
    if z >= 8.0 or z <= -length - 3.0:
        return False, angle
    knots = segments(shape, motion, length, angle, math.cos(angle), math.sin(angle), min(z, 0.0), 0.0, 0.0)
    return math.hypot(bent, y) < 2.0 + sac_radius(shape, knots, angle, min(z, 0.0)), angle


@njit(cache=True)
def _moved_to_now(since, point):  # type: ignore[no-untyped-def]
    x, y, z = point
    return (
        since[0, 0] * x + since[0, 1] * y + since[0, 2] * z + since[0, 3],
        since[1, 0] * x + since[1, 1] * y + since[1, 2] * z + since[1, 3],
        since[2, 0] * x + since[2, 1] * y + since[2, 2] * z + since[2, 3],
    )


@njit(cache=True)
def _pulled(shape, motion, around, rotation, length, reach, time, beat, since, points):  # type: ignore[no-untyped-def]
    out = np.empty_like(points)
    for n in range(len(points)):
        still = (points[n, 0], points[n, 1], points[n, 2])
        now = _moved_to_now(since, still)
        x, y, z, _, _ = chest_before(shape, motion, around, rotation, length, reach, time, beat, now, still)
        out[n, 0], out[n, 1], out[n, 2] = x, y, z
    return out


@njit(cache=True)
def _pushed(shape, motion, around, rotation, length, reach, time, beat, since, points):  # type: ignore[no-untyped-def]
    out = np.empty_like(points)
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        for _ in range(_ITERATIONS):
            still = (x, y, z)
            now = _moved_to_now(since, still)
            bx, by, bz, _, _ = chest_before(shape, motion, around, rotation, length, reach, time, beat, now, still)
            dx, dy, dz = points[n, 0] - bx, points[n, 1] - by, points[n, 2] - bz
            x, y, z = x + dx, y + dy, z + dz
            if dx * dx + dy * dy + dz * dz < 1e-12:
                break
        out[n, 0], out[n, 1], out[n, 2] = x, y, z
    return out
