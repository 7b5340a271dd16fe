"""How an acquisition looks: signals, textures, inflow, phase."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from clinbundles.phantoms.cine_kspace.chest_paint import with_bones
from clinbundles.phantoms.heart.tissue import Tissue
from clinbundles.phantoms.heart.tissue_signal import MUSCLE, RELAXATION, draw_signals

_TEXTURE_NODES = 32


@dataclass(frozen=True)
class Look:
    """How one acquisition looks.

    Attributes:
        signals: (21,) of the heart's tissues and of bones; blood of the left ventricle = 1.
        texture: (32, 32, 32) periodic, SD 1, in material coordinates: it moves with the tissue.
        muscle_texture: SD of the relative signal in muscle, fat and chest.
        inflow: SD of the relative signal of blood: a pattern in space that changes over the cycle. No motion has it.
        eddies: (2, 3) mm, where in the texture the inflow's two patterns lie; `beats` (2,) their phase in time, rad.
        waves: (2, 3) phase of the image: cycles per mm along world axes; `wave_phase` (2,) rad at the origin.
        drift: (2,) rad, cosine and sine part of the whole image's phase over the cycle.
        shading: power of the coils' sensitivity that is left in the picture (0: normalised away).
        bones: (2,) mm, where along the patient ribs and discs lie.
        reach: distance from the heart within which the chest follows it, mm.
    """

    signals: NDArray[np.float32]
    texture: NDArray[np.float32]
    muscle_texture: float
    inflow: float
    eddies: NDArray[np.float64]
    beats: NDArray[np.float64]
    waves: NDArray[np.float64]
    wave_phase: NDArray[np.float64]
    drift: NDArray[np.float64]
    shading: float
    bones: NDArray[np.float64]
    reach: float

    def phase(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Phase (...) of the image at world points (..., 3), rad: two waves of 0.5 rad."""
        return np.asarray(0.5 * np.sin(2.0 * np.pi * points @ self.waves.T + self.wave_phase).sum(-1))

    def drift_at(self, time: float) -> complex:
        """Factor exp(i drift) of a frame."""
        angle = 2.0 * math.pi * time
        return complex(np.exp(1j * (self.drift @ [math.cos(angle), math.sin(angle)])))


def draw_look(rng: np.random.Generator, contrast: tuple[float, float] = (2.2, 4.0)) -> Look:
    """How an acquisition looks.

    What varies: signals as in `draw_signals`, with the heart's muscle set so that blood is 2.2-4 times as bright;
    texture of the muscle 3-8 %, inflow 5-12 %, waves of 170-500 mm, drift 0.03 rad, reach 35-50 mm.
    """
    signals = draw_signals(rng)
    ratio = float(rng.uniform(*contrast))
    muscle = [tissue for tissue in Tissue if RELAXATION[tissue] == MUSCLE]
    signals[muscle] *= 1.0 / (ratio * signals[Tissue.LEFT_MUSCLE])
    grain = gaussian_filter(rng.normal(0.0, 1.0, (_TEXTURE_NODES,) * 3), rng.uniform(0.6, 1.2), mode="wrap")
    direction = rng.normal(0.0, 1.0, (2, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    drift = rng.uniform(0.0, 2.0 * math.pi)
    return Look(
        signals=with_bones(rng, signals.astype(np.float32)),
        texture=(grain / grain.std()).astype(np.float32),
        muscle_texture=float(rng.uniform(0.03, 0.08)),
        inflow=float(rng.uniform(0.05, 0.12)),
        eddies=rng.uniform(0.0, 128.0, (2, 3)),
        beats=rng.uniform(0.0, 2.0 * math.pi, 2),
        waves=direction / rng.uniform(170.0, 500.0, (2, 1)),
        wave_phase=rng.uniform(0.0, 2.0 * math.pi, 2),
        drift=0.03 * np.array([math.cos(drift), math.sin(drift)]),
        shading=float(rng.uniform(0.0, 0.5)),
        bones=rng.uniform(0.0, 30.0, 2),
        reach=float(rng.uniform(35.0, 50.0)),
    )
