"""Coordinates of the left ventricle: long axis, circumference, and the anterior insertion of the right ventricle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinbundles.rasterizer.mesh_volume import boundary_loops

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LongAxis:
    """The long axis of a left ventricle at end-diastole, in any right-handed frame of mm.

    Attributes:
        apex: (3,) endocardial apex.
        base: (3,) centre of the mitral plane.
        insertion: (3,) anterior insertion of the right ventricle; only its direction around the axis counts.
    """

    apex: Array
    base: Array
    insertion: Array

    @property
    def length(self) -> float:
        """Distance from the endocardial apex to the base, mm."""
        return float(np.linalg.norm(self.base - self.apex))

    @property
    def direction(self) -> Array:
        """Unit vector from apex to base."""
        return (self.base - self.apex) / self.length

    def depth(self, points: NDArray) -> Array:
        """Position (N,) along the axis: 0 at the base, 1 at the endocardial apex."""
        return (self.base - np.asarray(points, float)) @ self.direction / self.length

    def angle(self, points: NDArray) -> Array:
        """Angle (N,) in degrees [0, 360) around the axis from the anterior insertion, first through the septum.

        Seen from the apex with the anterior wall above, that is counter-clockwise: anterior, septum, inferior, lateral.
        """
        axis = self.direction
        start = self._across(self.insertion - self.base)
        start = start / np.linalg.norm(start)
        # from base to apex anterior -> septal -> inferior is a right-handed turn about the axis base -> apex
        side = np.cross(-axis, start)
        across = self._across(np.asarray(points, float) - self.base)
        return np.degrees(np.arctan2(across @ side, across @ start)) % 360.0

    def wall_directions(self, points: NDArray, normals: NDArray | None = None) -> Array:
        """Unit vectors (N, 3, 3) at points of the wall: rows radial (outward), circumferential, longitudinal.

        Args:
            points: (N, 3).
            normals: (N, 3) of the surface, of either sign, as radial direction; without them it is across the axis.
        """
        across = self._across(np.asarray(points, float) - self.base)
        radial = across if normals is None else np.asarray(normals, float)
        radial = radial / np.maximum(np.linalg.norm(radial, axis=1, keepdims=True), 1e-12)
        radial = radial * np.where((radial * (across - 1e-9 * self.direction)).sum(1, keepdims=True) < 0, -1.0, 1.0)
        around = np.cross(self.direction, radial)
        size = np.linalg.norm(around, axis=1, keepdims=True)
        fallback = np.cross(radial, np.eye(3)[np.abs(radial).argmin(1)])  # at the very apex any direction will do
        around = np.where(size > 1e-6, around, fallback)
        around = around / np.linalg.norm(around, axis=1, keepdims=True)
        return np.stack([radial, around, np.cross(radial, around)], axis=1)

    def _across(self, offset: NDArray) -> Array:
        return offset - (offset @ self.direction)[..., None] * self.direction


def long_axis_of(vertices: NDArray, endo_faces: NDArray, insertion: NDArray) -> LongAxis:
    """The axis of an endocardial surface that is open at the base: centre of its rims to the farthest vertex.

    Args:
        vertices: (V, 3) mm at end-diastole.
        endo_faces: (F, 3), open at the base.
        insertion: (3,) anterior insertion of the right ventricle.

    Raises:
        ValueError: a closed surface, which has no base.
    """
    loops = boundary_loops(endo_faces)
    if not loops:
        raise ValueError("the endocardial surface is closed: expected it open at the base, where the valves are")
    places = np.asarray(vertices, float)
    base = places[np.concatenate(loops)[:, 0]].mean(axis=0)
    used = places[np.unique(endo_faces)]
    return LongAxis(used[np.linalg.norm(used - base, axis=1).argmax()], base, np.asarray(insertion, float))
