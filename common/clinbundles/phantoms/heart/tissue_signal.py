"""Signal of each tissue by the sequence's own equation from its relaxation times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.heart.tissue import Tissue

BLOOD, MUSCLE, FAT = (1550.0, 240.0, 1.0), (990.0, 50.0, 1.0), (290.0, 85.0, 1.0)

RELAXATION: dict[Tissue, tuple[float, float, float]] = {
    Tissue.OUTSIDE: (1200.0, 40.0, 0.18),
    Tissue.LEFT_BLOOD: BLOOD,
    Tissue.LEFT_MUSCLE: MUSCLE,
    Tissue.RIGHT_BLOOD: (1550.0, 215.0, 1.0),
    Tissue.RIGHT_WALL: MUSCLE,
    Tissue.PAPILLARY: MUSCLE,
    Tissue.LEFT_TRABECULA: MUSCLE,
    Tissue.RIGHT_TRABECULA: MUSCLE,
    Tissue.EPICARDIAL_FAT: FAT,
    Tissue.ATRIAL_BLOOD: BLOOD,
    Tissue.VESSEL_WALL: MUSCLE,
    Tissue.LUNG: (1200.0, 40.0, 0.18),
    Tissue.FAT: FAT,
    Tissue.MUSCLE: (1000.0, 40.0, 1.0),
    Tissue.LIVER: (580.0, 45.0, 1.0),
    Tissue.STOMACH: (900.0, 70.0, 0.8),
    Tissue.VESSEL_BLOOD: BLOOD,
    Tissue.AIR: (1000.0, 50.0, 0.0),
}
"""T1 ms, T2 ms and relative proton density at 1.5 T (values as the literature gives them; see the calibration card)."""


_HEART_MUSCLE = (
    Tissue.LEFT_MUSCLE,
    Tissue.RIGHT_WALL,
    Tissue.PAPILLARY,
    Tissue.LEFT_TRABECULA,
    Tissue.RIGHT_TRABECULA,
    Tissue.VESSEL_WALL,
)


def bssfp_signal(t1_ms: float, t2_ms: float, density: float, *, flip_degrees: float, tr_ms: float = 3.2) -> float:
    """Steady-state signal of balanced SSFP on resonance at TE = TR / 2.

    S = PD sin(a) (1 - E1) / (1 - (E1 - E2) cos(a) - E1 E2) exp(-TR / (2 T2)).
    Bernstein, King, Zhou: Handbook of MRI Pulse Sequences (2004), equation 14.31.
    """
    e1, e2 = np.exp(-tr_ms / t1_ms), np.exp(-tr_ms / t2_ms)
    angle = np.radians(flip_degrees)
    steady = np.sin(angle) * (1.0 - e1) / (1.0 - (e1 - e2) * np.cos(angle) - e1 * e2)
    return float(density * steady * np.exp(-tr_ms / (2.0 * t2_ms)))


def draw_signals(rng: np.random.Generator) -> NDArray[np.float32]:
    """Signal of each `Tissue` (18,) of one examination, left ventricular blood = 1.

    What varies, and why: flip angle 45-65 degrees (limited by SAR), relaxation +-6 % (people, field), inflow of fresh
    spins brightens blood up to 1.8-fold, blood-muscle contrast of 2-5 as in clinical cine, fat from suppressed to
    brighter than blood, liver and lung with their own spread. Fat is negative in half the examinations: at TE = TR / 2
    its phase opposes water's, which draws the thin dark line between fat and muscle.
    """
    flip = rng.uniform(45.0, 65.0)
    inflow = rng.uniform(1.0, 1.8)
    fat_gain, liver_gain, lung_gain, stomach_gain = rng.uniform([0.45, 0.4, 0.3, 0.3], [1.5, 1.3, 1.6, 1.5])
    opposed = rng.random() < 0.5
    muscle_gain = rng.uniform(0.6, 1.2)
    right_gain = rng.uniform(0.88, 1.08)
    atrial_gain = rng.uniform(0.9, 1.08)
    vessel_gain = rng.uniform(0.8, 1.3)
    gains = {
        Tissue.RIGHT_BLOOD: inflow * right_gain,
        Tissue.LEFT_BLOOD: inflow,
        Tissue.ATRIAL_BLOOD: inflow * atrial_gain,
        Tissue.VESSEL_BLOOD: inflow * vessel_gain,
        Tissue.FAT: -fat_gain if opposed else fat_gain,
        Tissue.EPICARDIAL_FAT: -fat_gain if opposed else fat_gain,
        Tissue.LIVER: liver_gain,
        Tissue.LUNG: lung_gain,
        Tissue.STOMACH: stomach_gain,
        **dict.fromkeys(_HEART_MUSCLE, muscle_gain),
    }
    same: dict[tuple[float, float, float], float] = {}
    signals = np.zeros(len(Tissue), np.float32)
    for tissue, (t1, t2, density) in RELAXATION.items():
        if (t1, t2, density) not in same:  # one kind of muscle is one kind of muscle
            person = rng.normal(1.0, 0.06, 2).clip(0.85, 1.15)
            same[t1, t2, density] = bssfp_signal(t1 * person[0], t2 * person[1], density, flip_degrees=flip)
        signals[tissue] = same[t1, t2, density] * gains.get(tissue, 1.0)
    return signals / signals[Tissue.LEFT_BLOOD]
