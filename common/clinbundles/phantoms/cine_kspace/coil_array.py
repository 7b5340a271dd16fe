"""Receive coils: loops around the body, their sensitivity by the law of Biot and Savart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clinbundles.phantoms.heart.surroundings import Surroundings

LOOP_RADIUS_MM = 70.0
SEGMENTS = 60


@dataclass(frozen=True)
class CoilArray:
    """Loops of wire: `wires` (N, SEGMENTS + 1, 3) are points along each closed loop, chest axes (R, A, S), mm."""

    wires: NDArray[np.float64]

    def sensitivity(self, points: NDArray[np.float64]) -> NDArray[np.complex64]:
        """Unnormalised sensitivity (N, P) = B_x - i B_y at points (P, 3), the main field along S.

        Bernstein, King, Zhou: Handbook of MRI Pulse Sequences (2004), chapter 3.3 (reciprocity).
        """
        return np.asarray(_field(self.wires, np.ascontiguousarray(points, dtype=np.float64)))


def draw_coils(rng: np.random.Generator, around: Surroundings, coils: int) -> CoilArray:
    """Loops evenly on an ellipse around the body that face its middle, in two rows above each other.

    Clearance 30-55 mm from the skin, rows 35-60 mm above and below the heart, each loop off by 6 mm (SD).
    """
    if coils < 1:
        raise ValueError(f"coils is {coils}, expected at least 1")
    gap, row = rng.uniform(30.0, 55.0), rng.uniform(35.0, 60.0)
    first = rng.uniform(0.0, 2.0 * math.pi)
    half = np.array([around.chest_half_width + gap, around.chest_half_depth + gap])
    around_loop = np.linspace(0.0, 2.0 * math.pi, SEGMENTS + 1)
    wires = np.empty((coils, SEGMENTS + 1, 3))
    for n in range(coils):
        angle = first + 2.0 * math.pi * n / coils
        outward = np.array([math.cos(angle) / half[0], math.sin(angle) / half[1], 0.0])
        outward /= np.linalg.norm(outward)
        tangent, up = np.array([-outward[1], outward[0], 0.0]), np.array([0.0, 0.0, 1.0])
        centre = np.array([around.midline, around.chest_middle, row * (-1.0) ** n])
        centre[:2] += half * [math.cos(angle), math.sin(angle)]
        centre += rng.normal(0.0, 6.0, 3) * (np.abs(tangent) + up)  # along the surface, never into the body
        ring = np.cos(around_loop)[:, None] * tangent + np.sin(around_loop)[:, None] * up
        wires[n] = centre + LOOP_RADIUS_MM * ring
    return CoilArray(wires)


def draw_noise_mixing(rng: np.random.Generator, coils: int, coupling: float) -> NDArray[np.complex128]:
    """Matrix (N, N) that turns white noise of N coils into theirs; its covariance is `mixing @ mixing^H`.

    Neighbours on the ring share `coupling` of their noise with a random phase; each coil's variance stays 1.
    """
    if not 0.0 <= coupling < 1.0:
        raise ValueError(f"coupling is {coupling}, expected at least 0 and less than 1")
    mixing = np.eye(coils, dtype=np.complex128)
    for n in range(coils if coils > 1 else 0):
        mixing[n, (n + 1) % coils] += coupling * np.exp(2j * math.pi * rng.random())
    return np.asarray(mixing / np.linalg.norm(mixing, axis=1, keepdims=True))


@njit(cache=True)
def _field(wires, points):  # type: ignore[no-untyped-def]
    out = np.empty((len(wires), len(points)), np.complex64)
    for n in range(len(wires)):
        wire = wires[n]
        for p in range(len(points)):
            along_x, along_y = 0.0, 0.0
            for m in range(wire.shape[0] - 1):
                dx, dy, dz = wire[m + 1, 0] - wire[m, 0], wire[m + 1, 1] - wire[m, 1], wire[m + 1, 2] - wire[m, 2]
                rx = points[p, 0] - 0.5 * (wire[m + 1, 0] + wire[m, 0])
                ry = points[p, 1] - 0.5 * (wire[m + 1, 1] + wire[m, 1])
                rz = points[p, 2] - 0.5 * (wire[m + 1, 2] + wire[m, 2])
                squared = rx * rx + ry * ry + rz * rz + 1.0
                weight = 1.0 / (squared * math.sqrt(squared))
                along_x += (dy * rz - dz * ry) * weight
                along_y += (dz * rx - dx * rz) * weight
            out[n, p] = complex(along_x, -along_y)
    return out
