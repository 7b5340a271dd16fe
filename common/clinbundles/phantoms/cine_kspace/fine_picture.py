"""The moving picture on the fine grid: chest once, the heart in every sub-phase of every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from clinbundles.phantoms.cine_kspace.kspace_sampling import FINE, OVERSAMPLING, fine_coordinates
from clinbundles.phantoms.cine_kspace.slice_plan import EDGE_MM, SlicePlan
from clinbundles.phantoms.heart.activation import activation_at
from clinbundles.phantoms.heart.cine_image import chest_tissue, texture_at
from clinbundles.phantoms.heart.heart import Heart
from clinbundles.phantoms.heart.kinematics import axis_bend, before
from clinbundles.phantoms.heart.tissue import Tissue, heart_tissue
from clinbundles.phantoms.heart.tissue_signal import MUSCLE, RELAXATION, draw_signals

SUB_PHASES = 3
"""A frame is the mean of these, evenly over its share of the cycle: its temporal footprint."""

SLAB_SAMPLES = 4
"""Samples through the slab."""

_TEXTURE_NODES = 32


@dataclass(frozen=True)
class Look:
    """How one acquisition looks: signals, textures, inflow, phase.

    Attributes:
        signals: (18,) of each tissue, blood of the left ventricle = 1.
        texture: (32, 32, 32) periodic, SD 1: the muscle's own in material coordinates, the chest's in space.
        muscle_texture: SD of the relative signal in muscle, fat and chest.
        inflow: SD of the relative signal of blood: a pattern in space that changes over the cycle. No motion has it.
        eddies: (2, 3) mm, where in the texture the inflow's two patterns lie; `beats` (2,) their phase in time, rad.
        waves: (2, 3) phase of the image: cycles per mm along world axes; `wave_phase` (2,) rad at the origin.
        drift: (2,) rad, cosine and sine part of the whole image's phase over the cycle.
        shading: power of the coils' sensitivity that is left in the picture (0: normalised away).
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
    texture of the muscle 3-8 %, inflow 5-12 %, waves of 170-500 mm, drift 0.03 rad.
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
        signals=signals.astype(np.float32),
        texture=(grain / grain.std()).astype(np.float32),
        muscle_texture=float(rng.uniform(0.03, 0.08)),
        inflow=float(rng.uniform(0.05, 0.12)),
        eddies=rng.uniform(0.0, 128.0, (2, 3)),
        beats=rng.uniform(0.0, 2.0 * math.pi, 2),
        waves=direction / rng.uniform(170.0, 500.0, (2, 1)),
        wave_phase=rng.uniform(0.0, 2.0 * math.pi, 2),
        drift=0.03 * np.array([math.cos(drift), math.sin(drift)]),
        shading=float(rng.uniform(0.0, 0.5)),
    )


@dataclass(frozen=True)
class FineGrid:
    """Fine samples of a slice: FINE per pixel, OVERSAMPLING fields of view along the readout.

    Attributes:
        affine: (4, 4) RAS mm of fine sample (i, j, 0); a step along the third axis is the slab.
        rows, columns: coordinates of the samples in pixels of the reconstruction grid.
    """

    affine: NDArray[np.float64]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]

    @classmethod
    def of(cls, plan: SlicePlan) -> FineGrid:
        """The fine grid of a slice."""
        rows, columns = fine_coordinates(plan.size[0], OVERSAMPLING), fine_coordinates(plan.size[1])
        affine = plan.affine.copy()
        affine[:3, :2] /= FINE
        affine[:3, 3] += plan.affine[:3, :2] @ [rows[0], columns[0]]
        return cls(affine, rows, columns)

    def points(self) -> NDArray[np.float64]:
        """World position (rows, columns, 3) of the samples in the middle of the slab."""
        i, j = np.arange(len(self.rows)), np.arange(len(self.columns))
        step = self.affine[:3, :3]
        return np.asarray(self.affine[:3, 3] + i[:, None, None] * step[:, 0] + j[None, :, None] * step[:, 1])

    def saturation(self, spacing_mm: float) -> NDArray[np.float64]:
        """Signal (columns,) that the bands beside the field of view leave: from 1 to 0 towards both of its ends."""
        low, high = self.columns[0] - 0.5 / FINE, self.columns[-1] + 0.5 / FINE
        inside = np.minimum(self.columns - low, high - self.columns) * spacing_mm / EDGE_MM
        return np.asarray(np.sin(0.5 * np.pi * np.clip(inside, 0.0, 1.0)) ** 2)


def slab_offsets() -> NDArray[np.float64]:
    """Positions (SLAB_SAMPLES,) through the slab, in slabs."""
    return np.asarray((np.arange(SLAB_SAMPLES) + 0.5) / SLAB_SAMPLES - 0.5)


def draw_chest(heart: Heart, grid: FineGrid, look: Look) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Signal and tissue (rows, columns, SLAB_SAMPLES) of the still chest, the heart left out."""
    plane = np.linalg.inv(heart.pose(0.0)) @ grid.affine
    middle = np.array([0.0, 0.0, -0.5 * heart.anatomy.length])
    offsets = np.zeros((SLAB_SAMPLES, 3))
    offsets[:, 2] = slab_offsets()
    tissue = chest_tissue(
        heart.anatomy, heart.motion, heart.surroundings, heart.anatomy.length, heart.rotation, middle, plane, 0,
        offsets, len(grid.rows), len(grid.columns),
    )  # fmt: skip
    return _chest_signal(plane, offsets[:, 2], tissue, look.signals, look.texture, look.muscle_texture), tissue


def heart_box(heart: Heart, grid: FineGrid, times: NDArray[np.float64]) -> tuple[slice, slice]:
    """Rows and columns of the fine grid that the heart may reach at any of these times."""
    coarse = 4
    seen = np.zeros((-(-len(grid.rows) // coarse), -(-len(grid.columns) // coarse)), bool)
    for time in times[:: max(1, len(times) // 8)]:
        plane = np.linalg.inv(heart.pose(float(time))) @ grid.affine
        for offset in (-0.5, 0.0, 0.5):
            seen |= _heart_seen(
                heart.anatomy, heart.motion, heart.interior, heart.anatomy.length, float(time), plane, offset, coarse,
                seen.shape[0], seen.shape[1],
            )  # fmt: skip
    if not seen.any():
        raise ValueError("the slice misses the heart: expected a plane through it")
    margin = 2 * coarse
    bounds = []
    for axis, size in ((1, len(grid.rows)), (0, len(grid.columns))):
        found = np.flatnonzero(seen.any(axis=axis))
        bounds.append(slice(max(0, coarse * found[0] - margin), min(size, coarse * (found[-1] + 1) + margin)))
    return bounds[0], bounds[1]


def draw_beat(
    heart: Heart,
    grid: FineGrid,
    look: Look,
    chest: NDArray[np.float32],
    box: tuple[slice, slice],
    time: float,
    frame: float,
) -> NDArray[np.float32]:
    """What the heart adds to the chest's picture in a frame: difference (rows, columns) within `box`.

    Args:
        chest: signal of `draw_chest`.
        box: of `heart_box`.
        time: middle of the frame, fraction of the cycle.
        frame: its duration, fraction of the cycle.
    """
    within = np.ascontiguousarray(chest[box])
    out = np.zeros(within.shape[:2], np.float32)
    corner = np.array([float(box[0].start), float(box[1].start)])
    offsets = slab_offsets()
    for n in range(SUB_PHASES):
        moment = time + frame * ((n + 0.5) / SUB_PHASES - 0.5)
        swing = look.inflow * np.cos(2.0 * np.pi * np.array([1.0, 2.0]) * moment + look.beats)
        _add_beat(
            heart.anatomy, heart.motion, heart.interior, heart.anatomy.length, moment,
            np.linalg.inv(heart.pose(moment)) @ grid.affine, corner, offsets, within, look.signals, look.texture,
            look.muscle_texture, look.eddies, swing, out,
        )  # fmt: skip
    return out / np.float32(SUB_PHASES * SLAB_SAMPLES)


@njit(cache=True)
def _chest_signal(plane, offsets, tissues, signals, texture, muscle_texture):  # type: ignore[no-untyped-def]
    rows, columns, samples = tissues.shape
    out = np.empty((rows, columns, samples), np.float32)
    for i in range(rows):
        for j in range(columns):
            for n in range(samples):
                tissue = tissues[i, j, n]
                grain = 0.0
                if tissue >= 11 and tissue <= 15:
                    x = plane[0, 0] * i + plane[0, 1] * j + plane[0, 2] * offsets[n] + plane[0, 3]
                    y = plane[1, 0] * i + plane[1, 1] * j + plane[1, 2] * offsets[n] + plane[1, 3]
                    z = plane[2, 0] * i + plane[2, 1] * j + plane[2, 2] * offsets[n] + plane[2, 3]
                    grain = texture_at(texture, 0.8 * x, 0.8 * y, 0.8 * z)
                    # the strongest spots in the lung are its vessels
                    grain = 4.0 * max(grain - 1.6, 0.0) if tissue == 11 else grain * muscle_texture
                out[i, j, n] = signals[tissue] * (1.0 + grain)
    return out


@njit(cache=True)
def _heart_seen(shape, motion, interior, length, time, plane, offset, coarse, rows, columns):  # type: ignore[no-untyped-def]
    beat = activation_at(motion.course, time)
    out = np.zeros((rows, columns), np.bool_)
    for i in range(rows):
        for j in range(columns):
            x = plane[0, 0] * i * coarse + plane[0, 1] * j * coarse + plane[0, 2] * offset + plane[0, 3]
            y = plane[1, 0] * i * coarse + plane[1, 1] * j * coarse + plane[1, 2] * offset + plane[1, 3]
            z = plane[2, 0] * i * coarse + plane[2, 1] * j * coarse + plane[2, 2] * offset + plane[2, 3]
            out[i, j] = _tissue_now(shape, motion, interior, length, time, beat, x, y, z)[0] > 0
    return out


@njit(cache=True)
def _tissue_now(shape, motion, interior, length, time, beat, x, y, z):  # type: ignore[no-untyped-def]
    """Tissue of the heart at a point of its own axes, and the material point's R^2, cos, sin of Theta, and Z."""
    if z <= -length or z >= shape.atrium_height or x * x + y * y >= 110.0 * 110.0:
        return 0, 0.0, 0.0, 0.0, 0.0
    bent = x - axis_bend(motion, length, z)
    squared, angle, cosine, sine, height, knots = before(shape, motion, length, time, beat, bent, y, z)
    shrink = math.sqrt(knots[3] / knots[0]) if knots[0] > 0.0 else 1.0
    return heart_tissue(shape, interior, knots, squared, angle, height, shrink), squared, cosine, sine, height


@njit(cache=True)
def _add_beat(  # type: ignore[no-untyped-def]
    shape, motion, interior, length, time, plane, corner, offsets, chest, signals, texture, muscle_texture,
    eddies, swing, out,
):  # fmt: skip
    rows, columns = out.shape
    beat = activation_at(motion.course, time)
    for i in range(rows):
        for j in range(columns):
            for n in range(len(offsets)):
                u, v, w = i + corner[0], j + corner[1], offsets[n]
                x = plane[0, 0] * u + plane[0, 1] * v + plane[0, 2] * w + plane[0, 3]
                y = plane[1, 0] * u + plane[1, 1] * v + plane[1, 2] * w + plane[1, 3]
                z = plane[2, 0] * u + plane[2, 1] * v + plane[2, 2] * w + plane[2, 3]
                tissue, squared, cosine, sine, height = _tissue_now(
                    shape, motion, interior, length, time, beat, x, y, z
                )
                if tissue == 0:
                    continue
                grain = 0.0
                if tissue == 2 or tissue == 4 or tissue == 5 or tissue == 8:
                    radius = math.sqrt(max(squared, 0.0))
                    grain = muscle_texture * texture_at(texture, radius * cosine, radius * sine, height)
                elif tissue == 1 or tissue == 3 or tissue == 9 or tissue == 16:
                    for m in range(2):
                        grain += swing[m] * texture_at(
                            texture, 0.4 * x + eddies[m, 0], 0.4 * y + eddies[m, 1], 0.4 * z + eddies[m, 2]
                        )
                out[i, j] += signals[tissue] * (1.0 + grain) - chest[i, j, n]
