"""The moving picture on the fine grid: the still chest once, the heart and what it carries in every sub-phase."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clinbundles.phantoms.cine_kspace.carried_chest import carried, chest_before, heart_before, in_recess
from clinbundles.phantoms.cine_kspace.chest_paint import chest_signal
from clinbundles.phantoms.cine_kspace.fine_grid import FineGrid
from clinbundles.phantoms.cine_kspace.look import Look
from clinbundles.phantoms.heart.activation import activation_at
from clinbundles.phantoms.heart.cine_image import texture_at
from clinbundles.phantoms.heart.heart import Heart
from clinbundles.phantoms.heart.tissue import heart_tissue

SUB_PHASES = 3
"""A frame is the mean of these, evenly over its share of the cycle: its temporal footprint."""

SLAB_SAMPLES = 6
"""Samples through the slab; each sub-phase of a frame takes its third of them."""

HEART_REACH_MM = 110.0
"""Nothing of the heart is farther from its long axis."""


def slab_offsets() -> NDArray[np.float64]:
    """Positions (SLAB_SAMPLES,) through the slab, in slabs."""
    return np.asarray((np.arange(SLAB_SAMPLES) + 0.5) / SLAB_SAMPLES - 0.5)


def draw_chest(heart: Heart, grid: FineGrid, look: Look) -> NDArray[np.float32]:
    """Signal (rows, columns) of the chest at end-diastole, the heart left out."""
    plane = np.linalg.inv(heart.pose(0.0)) @ grid.affine
    return np.asarray(
        _chest(
            heart.anatomy, heart.motion, heart.surroundings, heart.rotation, heart.anatomy.length, plane,
            slab_offsets(), look.signals, look.texture, look.muscle_texture, look.bones, *grid.shape,
        )
    )  # fmt: skip


def moving_box(heart: Heart, grid: FineGrid, look: Look, times: NDArray[np.float64]) -> tuple[slice, slice]:
    """Rows and columns of the fine grid within which anything moves at these times."""
    coarse = 4
    seen = np.zeros((-(-grid.shape[0] // coarse), -(-grid.shape[1] // coarse)), bool)
    still = np.linalg.inv(heart.pose(0.0)) @ grid.affine
    for time in times[:: max(1, len(times) // 8)]:
        plane = np.linalg.inv(heart.pose(float(time))) @ grid.affine
        for offset in (-0.5, 0.0, 0.5):
            seen |= _moving(
                heart.anatomy, heart.motion, heart.interior, heart.surroundings, heart.rotation, heart.anatomy.length,
                look.reach, float(time), plane, still, offset, coarse, *seen.shape,
            )  # fmt: skip
    margin = 2 * coarse
    bounds = []
    for axis, size in ((1, grid.shape[0]), (0, grid.shape[1])):
        found = np.flatnonzero(seen.any(axis=axis))
        if found.size == 0:
            raise ValueError("the slice misses the heart: expected a plane through it")
        bounds.append(slice(max(0, coarse * found[0] - margin), min(size, coarse * (found[-1] + 1) + margin)))
    return bounds[0], bounds[1]


def draw_beat(
    heart: Heart, grid: FineGrid, look: Look, box: tuple[slice, slice], time: float, frame: float
) -> NDArray[np.float32]:
    """Signal (rows, columns) within `box` of a frame: heart and chest.

    Args:
        box: of `moving_box`.
        time: middle of the frame, fraction of the cycle.
        frame: its duration, fraction of the cycle.
    """
    out = np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start), np.float32)
    corner = np.array([float(box[0].start), float(box[1].start)])
    still = np.linalg.inv(heart.pose(0.0)) @ grid.affine
    for n in range(SUB_PHASES):
        moment = time + frame * ((n + 0.5) / SUB_PHASES - 0.5)
        swing = look.inflow * np.cos(2.0 * np.pi * np.array([1.0, 2.0]) * moment + look.beats)
        _add_beat(
            heart.anatomy, heart.motion, heart.interior, heart.surroundings, heart.rotation, heart.anatomy.length,
            look.reach, moment, np.linalg.inv(heart.pose(moment)) @ grid.affine, still, corner,
            slab_offsets()[n::SUB_PHASES], look.signals, look.texture, look.muscle_texture, look.bones, look.eddies,
            swing, out,
        )  # fmt: skip
    return (out / SLAB_SAMPLES).astype(np.float32)


@njit(cache=True)
def _on(plane, u, v, w):  # type: ignore[no-untyped-def]
    return (
        plane[0, 0] * u + plane[0, 1] * v + plane[0, 2] * w + plane[0, 3],
        plane[1, 0] * u + plane[1, 1] * v + plane[1, 2] * w + plane[1, 3],
        plane[2, 0] * u + plane[2, 1] * v + plane[2, 2] * w + plane[2, 3],
    )


@njit(cache=True)
def _chest(  # type: ignore[no-untyped-def]
    shape, motion, around, rotation, length, plane, offsets, signals, texture, grain_sd, bones, rows, columns
):
    out = np.zeros((rows, columns), np.float32)
    share = np.float32(1.0 / len(offsets))
    for i in range(rows):
        for j in range(columns):
            for w in offsets:
                x, y, z = _on(plane, i, j, w)
                recess, angle = in_recess(shape, motion, length, x, y, z)
                out[i, j] += share * chest_signal(
                    around, signals, texture, grain_sd, bones, x, y, z, rotation, length, recess, angle
                )
    return out


@njit(cache=True)
def _moving(  # type: ignore[no-untyped-def]
    shape, motion, interior, around, rotation, length, reach, time, plane, still, offset, coarse, rows, columns
):
    beat = activation_at(motion.course, time)
    out = np.zeros((rows, columns), np.bool_)
    for i in range(rows):
        for j in range(columns):
            now = _on(plane, i * coarse, j * coarse, offset)
            start = _on(still, i * coarse, j * coarse, offset)
            if chest_before(shape, motion, around, rotation, length, reach, time, beat, now, start)[3] > 0.0:
                out[i, j] = True
            else:
                material = heart_before(shape, motion, length, time, beat, now)
                out[i, j] = _heart_tissue(shape, interior, length, now, material) > 0
    return out


@njit(cache=True)
def _heart_tissue(shape, interior, length, now, material):  # type: ignore[no-untyped-def]
    """Tissue of the heart at a point of its own axes, whose `heart_before` is known; 0 outside."""
    x, y, z = now
    if z <= -length or z >= shape.atrium_height or x * x + y * y >= HEART_REACH_MM**2:
        return 0
    squared, angle, _, _, height, knots = material
    shrink = math.sqrt(knots[3] / knots[0]) if knots[0] > 0.0 else 1.0
    return heart_tissue(shape, interior, knots, squared, angle, height, shrink)


@njit(cache=True)
def _add_beat(  # type: ignore[no-untyped-def]
    shape, motion, interior, around, rotation, length, reach, time, plane, still, corner, offsets, signals, texture,
    grain_sd, bones, eddies, swing, out,
):  # fmt: skip
    beat = activation_at(motion.course, time)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for w in offsets:
                now = _on(plane, i + corner[0], j + corner[1], w)
                material = heart_before(shape, motion, length, time, beat, now)
                tissue = _heart_tissue(shape, interior, length, now, material)
                if tissue == 0:
                    start = _on(still, i + corner[0], j + corner[1], w)
                    x, y, z, _, near = carried(shape, motion, around, rotation, length, reach, now, start, material)
                    recess, angle = False, 0.0
                    if near < 6.0:
                        recess, angle = in_recess(shape, motion, length, x, y, z)
                    out[i, j] += chest_signal(
                        around, signals, texture, grain_sd, bones, x, y, z, rotation, length, recess, angle
                    )
                    continue
                grain = 0.0
                if tissue == 2 or tissue == 4 or tissue == 5 or tissue == 8:
                    squared, _, cosine, sine, height, _ = material
                    radius = math.sqrt(max(squared, 0.0))
                    grain = grain_sd * texture_at(texture, radius * cosine, radius * sine, height)
                elif tissue == 1 or tissue == 3 or tissue == 9 or tissue == 16:
                    x, y, z = now
                    for m in range(2):
                        grain += swing[m] * texture_at(
                            texture, 0.4 * x + eddies[m, 0], 0.4 * y + eddies[m, 1], 0.4 * z + eddies[m, 2]
                        )
                out[i, j] += signals[tissue] * (1.0 + grain)
