"""Activation of the heart over one cycle: 0 at end-diastole, 1 at end-systole."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit


class Activation(NamedTuple):
    """Time course of contraction, all times in fractions of the cycle, frame 0 = end-diastole.

    A sin^2 rise to end-systole, early filling down to `diastasis`, a plateau, and the atrial kick to 0.
    """

    end_systole: float = 0.36
    filled: float = 0.62  # end of early filling
    diastasis: float = 0.15  # what is left for the atrial kick
    kick: float = 0.80  # begin of the atrial contraction


@njit(cache=True)
def activation_at(course, time):  # type: ignore[no-untyped-def]
    """a(t) in [0, 1], periodic, with a continuous first derivative.

    `time` may be complex: the derivatives of the motion are taken by a complex step.
    """
    tau = time - np.floor(time.real)
    if tau.real < course.end_systole:
        return np.sin(0.5 * np.pi * tau / course.end_systole) ** 2
    if tau.real < course.filled:
        part = (tau - course.end_systole) / (course.filled - course.end_systole)
        return course.diastasis + (1.0 - course.diastasis) * np.cos(0.5 * np.pi * part) ** 2
    if tau.real < course.kick:
        return course.diastasis + 0.0 * tau
    return course.diastasis * np.cos(0.5 * np.pi * (tau - course.kick) / (1.0 - course.kick)) ** 2
