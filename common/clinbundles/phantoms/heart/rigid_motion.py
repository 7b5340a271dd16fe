"""Rigid movement of the whole heart in its sac over the cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.heart.activation import Activation, activation_at


@dataclass(frozen=True)
class RigidMotion:
    """Shift and tilt of a heart that also contracts: recoil, filling atria and great vessels move it as a whole.

    Both follow a(t - lag sin^2(pi t)), which is largest near end-systole, plus an early part that follows
    sin(2 pi t). At end-diastole there is none. A rigid movement keeps volumes, strain and det F as they are.

    Args:
        shift: (3,) mm at end-systole, in the heart's axes.
        tilt: (3,) rad, rotation vector about the middle of the long axis.
        early_shift: (3,) mm, largest at a quarter of the cycle and opposite at three quarters.
        early_tilt: (3,) rad.
        lag: behind the contraction, fraction of the cycle.
    """

    shift: NDArray[np.float64]
    tilt: NDArray[np.float64]
    early_shift: NDArray[np.float64]
    early_tilt: NDArray[np.float64]
    lag: float

    @classmethod
    def none(cls) -> RigidMotion:
        """A heart whose apex stays where it is."""
        return cls(np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3), 0.0)

    def pose(self, course: Activation, middle: float, time: float) -> NDArray[np.float64]:
        """(4, 4) heart's axes -> heart's axes at a time; ``middle`` is the height (mm) that the heart tilts about."""
        late = time - self.lag * math.sin(math.pi * time) ** 2
        beat, early = float(activation_at(course, late)), math.sin(2.0 * math.pi * time)
        pivot = np.array([0.0, 0.0, middle])
        pose = np.eye(4)
        pose[:3, :3] = rotation_matrix(beat * self.tilt + early * self.early_tilt)
        pose[:3, 3] = pivot - pose[:3, :3] @ pivot + beat * self.shift + early * self.early_shift
        return pose


def rotation_matrix(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) of a rotation vector, rad (Rodrigues' formula)."""
    angle = float(np.linalg.norm(vector))
    if angle == 0.0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross)
