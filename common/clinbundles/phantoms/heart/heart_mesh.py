"""Mesh of the left ventricle's muscle: endocardium and epicardium as one watertight shell of material points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.heart.anatomy import Anatomy, endocardium, epicardium
from clinbundles.phantoms.heart.heart import Heart

ENDOCARDIUM, EPICARDIUM, RIM = 1, 0, 2


@dataclass(frozen=True)
class HeartMesh:
    """`material` (V, 3) mm, `faces` (F, 3) int32 turned out of the muscle, `surface` (V,) 1 endo, 0 epi, 2 rim."""

    material: NDArray[np.float64]
    faces: NDArray[np.int32]
    surface: NDArray[np.uint8]

    def at(self, heart: Heart, time: float) -> NDArray[np.float64]:
        """Vertices (V, 3) in the world (RAS mm) at a time."""
        return heart.to_spatial(self.material, time)


def heart_mesh(heart: Heart, rows: int = 20, columns: int = 48, seed: int | None = None) -> HeartMesh:
    """The shell of `heart`, 2 surfaces of about rows x columns vertices, joined by a rim at the base.

    Args:
        rows: rings from the base to the apex of each surface.
        columns: vertices of a ring.
        seed: rows and columns are displaced at random along the surface (None: regular), so that no two hearts have
            their vertices at the same places.
    """
    rng = None if seed is None else np.random.default_rng(seed)
    shape = heart.anatomy
    inner = _rings(shape, True, rows, columns, rng)
    outer = _rings(shape, False, rows, columns, rng)
    first_outer, last_inner = outer[0], inner[0]
    rim = 0.5 * (first_outer + last_inner)
    material = np.concatenate([_with_apex(outer, shape, False), _with_apex(inner, shape, True), rim])
    start, count = rows * columns + 1, len(material)
    faces = np.concatenate(
        [
            _cap(0, rows, columns, outward=True),
            _cap(start, rows, columns, outward=False),
            _band(np.arange(columns), count - columns + np.arange(columns)),
            _band(count - columns + np.arange(columns), start + np.arange(columns)),
        ]
    ).astype(np.int32)
    surface = np.full(count, RIM, np.uint8)
    surface[:start], surface[start : 2 * start] = EPICARDIUM, ENDOCARDIUM
    return HeartMesh(material, faces, surface)


def _rings(
    shape: Anatomy, inside: bool, rows: int, columns: int, rng: np.random.Generator | None
) -> NDArray[np.float64]:
    """(rows, columns, 3) from the base to near the apex, evenly in the ellipse's angle; the first ring is the base."""
    half = shape.half_length if inside else shape.outer_half_length
    base = shape.base * shape.half_length
    start = math.acos(-base / half)  # 0 at the apex
    steps = np.arange(rows)[:, None] * np.ones(columns)
    turn = np.arange(columns) * np.ones((rows, 1))
    if rng is not None:
        steps[1:] += rng.uniform(-0.3, 0.3, (rows - 1, columns))
        turn += rng.uniform(0.0, 1.0) + rng.uniform(-0.2, 0.2, (rows, columns))
    angles = 2.0 * np.pi * turn / columns
    heights = -half * np.cos(start * (1.0 - steps / rows)) - base
    heights[0] = 0.0
    surface = endocardium if inside else epicardium
    radii = np.array(
        [
            math.sqrt(surface(shape, math.cos(angle), math.sin(angle), height))
            for angle, height in zip(angles.ravel(), heights.ravel(), strict=True)
        ]
    ).reshape(rows, columns)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles), heights], -1)


def _with_apex(rings: NDArray[np.float64], shape: Anatomy, inside: bool) -> NDArray[np.float64]:
    depth = shape.cavity_length if inside else shape.length
    return np.concatenate([rings.reshape(-1, 3), [[0.0, 0.0, -depth]]])


def _cap(start: int, rows: int, columns: int, *, outward: bool) -> NDArray[np.int64]:
    ring = np.arange(columns)
    bands = [_band(start + (row + 1) * columns + ring, start + row * columns + ring) for row in range(rows - 1)]
    last = start + (rows - 1) * columns + ring
    apex = np.full(columns, start + rows * columns)
    faces = np.concatenate([*bands, np.stack([apex, np.roll(last, -1), last], -1)])
    return faces if outward else faces[:, ::-1]


def _band(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """Triangles between two rings; seen from the side on which angles grow to the right, `low` is below."""
    low_next, high_next = np.roll(low, -1), np.roll(high, -1)
    return np.concatenate([np.stack([low, low_next, high_next], -1), np.stack([low, high_next, high], -1)])
