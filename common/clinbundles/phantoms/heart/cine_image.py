"""Cine images of a heart on planes: slice profile, tissue signal, material texture, coil shading, blur, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from clinbundles.phantoms.heart.activation import activation_at
from clinbundles.phantoms.heart.heart import Heart
from clinbundles.phantoms.heart.kinematics import axis_bend, before, segments
from clinbundles.phantoms.heart.scanner_planes import View
from clinbundles.phantoms.heart.surroundings import surrounding_tissue
from clinbundles.phantoms.heart.tissue import LABELS, heart_tissue, sac_radius

# Five samples of a voxel, in units of its pixel, pixel and slab: the whole slab and a turned grid within the pixel, so
# that partial volume is right in all three directions. The middle one decides a draw of the labels.
_SAMPLES = np.array([[0, 0, 0], [0.18, 0.34, -0.2], [-0.34, 0.18, 0.2], [-0.18, -0.34, 0.4], [0.34, -0.18, -0.4]])
_TEXTURE_NODES = 32
_TEXTURE_STEP_MM = 4.0


@dataclass(frozen=True)
class Scan:
    """How one examination looks: what is drawn once and kept for all its views.

    Attributes:
        signals: (18,) signal of each tissue, blood = 1.
        texture: (32, 32, 32) periodic, SD 1, in material coordinates: it moves with the muscle.
        muscle_texture, flow: SD of the relative signal in solid tissue and in blood. The pattern in blood is coarser,
            lies in space and changes from frame to frame: it must teach nobody any motion.
        blur_pixels: SD of the point spread in plane, pixels.
        noise: SD of the noise in each channel, relative to blood.
        coil: (4,) gradient of the log sensitivity per 100 mm along patient axes, and its curvature.
        scale: stored value of blood.
    """

    signals: NDArray[np.float32]
    texture: NDArray[np.float32]
    muscle_texture: float
    flow: float
    blur_pixels: float
    noise: float
    coil: NDArray[np.float64]
    scale: float


def draw_scan(
    rng: np.random.Generator, signals: NDArray[np.float32], *, noise: tuple[float, float], texture: tuple[float, float]
) -> Scan:
    """How an examination looks.

    Args:
        signals: of the tissues.
        noise: range of the noise's SD relative to blood (SNR of blood 12-60 in clinical cine).
        texture: range of the SD of the muscle's texture.
    """
    grain = gaussian_filter(rng.normal(0.0, 1.0, (_TEXTURE_NODES,) * 3), rng.uniform(0.6, 1.5), mode="wrap")
    coil = np.array([rng.normal(-0.1, 0.25), rng.uniform(0.1, 1.0), rng.normal(0.0, 0.25), rng.normal(0.0, 0.4)])
    return Scan(
        signals=signals,
        texture=(grain / grain.std()).astype(np.float32),
        muscle_texture=float(rng.uniform(*texture)),
        flow=float(rng.uniform(0.0, 0.15)),
        blur_pixels=float(rng.uniform(0.35, 0.75)),
        noise=float(np.exp(rng.uniform(*np.log(noise)))),
        coil=coil,
        scale=float(rng.uniform(350.0, 650.0)),
    )


def draw_cine(
    heart: Heart, view: View, times: NDArray[np.float64], scan: Scan, rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Magnitude images and labels (I, J, slices, T) of a view.

    A label is what most of the voxel's samples are (the slab's majority); the image is their mean.
    """
    size = view.size
    images = np.empty((*size, len(times)), np.float32)
    labels = np.empty((*size, len(times)), np.uint8)
    to_heart = np.linalg.inv(heart.pose(0.0)) @ view.affine
    middle = np.array([0.0, 0.0, -0.5 * heart.anatomy.length])
    thickness = view.slab_mm / float(np.linalg.norm(view.affine[:3, 2]))
    offsets = _SAMPLES * [1.0, 1.0, thickness]
    since_start = [np.linalg.inv(heart.pose(float(time))) @ heart.pose(0.0) for time in times]
    for k in range(size[2]):
        plane = to_heart.copy()
        plane[:3, 3] += heart.rotation.T @ view.shifts[k]
        static = chest_tissue(
            heart.anatomy, heart.motion, heart.surroundings, heart.anatomy.length, heart.rotation, middle, plane, k,
            offsets, size[0], size[1],
        )  # fmt: skip
        shading = _coil_shading(scan.coil, heart.rotation, plane, middle, k, size)
        for t, time in enumerate(times):
            signal, labels[:, :, k, t] = _draw_frame(
                heart.anatomy, heart.motion, heart.interior, heart.anatomy.length, float(time),
                since_start[t] @ plane, plane, k, offsets, static, scan.signals, scan.texture,
                scan.muscle_texture, scan.flow, rng.uniform(0.0, 60.0, 3), LABELS,
            )  # fmt: skip
            signal = gaussian_filter(signal, scan.blur_pixels, mode="nearest") * shading
            real, imaginary = scan.noise * rng.standard_normal((2, *signal.shape), np.float32)
            images[:, :, k, t] = np.hypot(signal + real, imaginary)
    return np.minimum(np.rint(scan.scale * images), 32767).astype(np.int16), labels


def _coil_shading(
    coil: NDArray[np.float64],
    rotation: NDArray[np.float64],
    plane: NDArray[np.float64],
    middle: NDArray[np.float64],
    k: int,
    size: tuple[int, int, int],
) -> NDArray[np.float64]:
    """Sensitivity (I, J) of the receiving coil: smooth, 1 at the middle of the heart, mostly brighter in front."""
    i, j = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    here = np.stack([i, j, np.full_like(i, k)], -1) @ plane[:3, :3].T + plane[:3, 3] - middle
    patient = here @ rotation.T / 100.0
    return np.asarray(np.exp(patient @ coil[:3] + coil[3] * (patient**2).sum(-1)))


@njit(cache=True)
def chest_tissue(shape, motion, around, length, rotation, middle, plane, k, offsets, rows, columns):  # type: ignore[no-untyped-def]
    """Tissue (rows, columns, len(offsets)) of the chest at the samples of a slice's voxels, the heart left out.

    Args:
        plane: (4, 4) from voxel indices to the heart's axes at end-diastole.
        middle: (3,) middle of the long axis, from which the chest's positions count.
        k: slice.
        offsets: (S, 3) of the samples in voxels.
    """
    out = np.empty((rows, columns, len(offsets)), np.uint8)
    for i in range(rows):
        for j in range(columns):
            for n in range(len(offsets)):
                u, v, w = i + offsets[n, 0], j + offsets[n, 1], k + offsets[n, 2]
                x = plane[0, 0] * u + plane[0, 1] * v + plane[0, 2] * w + plane[0, 3]
                y = plane[1, 0] * u + plane[1, 1] * v + plane[1, 2] * w + plane[1, 3]
                z = plane[2, 0] * u + plane[2, 1] * v + plane[2, 2] * w + plane[2, 3]
                deep = z - middle[2]
                right = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * deep
                front = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * deep
                up = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * deep
                bent = x - axis_bend(motion, length, z)
                angle = math.atan2(y, bent)
                knots = segments(shape, motion, length, angle, math.cos(angle), math.sin(angle), min(z, 0.0), 0.0, 0.0)
                recess = z < 8.0 and math.hypot(bent, y) < 2.0 + sac_radius(shape, knots, angle, min(z, 0.0))
                recess = recess and z > -length - 3.0
                out[i, j, n] = surrounding_tissue(around, right, front, up, recess, angle)
    return out


@njit(cache=True)
def _draw_frame(  # type: ignore[no-untyped-def]
    shape, motion, interior, length, time, plane, still, k, offsets, static, signals, texture, muscle_texture, flow,
    eddies, tissue_labels,
):  # fmt: skip
    rows, columns, samples = static.shape
    beat = activation_at(motion.course, time)
    signal = np.empty((rows, columns), np.float32)
    labels = np.empty((rows, columns), np.uint8)
    votes = np.zeros(4, np.int64)
    for i in range(rows):
        for j in range(columns):
            total = 0.0
            votes[:] = 0
            middle = 0
            for n in range(samples):
                u, v, w = i + offsets[n, 0], j + offsets[n, 1], k + offsets[n, 2]
                x = plane[0, 0] * u + plane[0, 1] * v + plane[0, 2] * w + plane[0, 3]
                y = plane[1, 0] * u + plane[1, 1] * v + plane[1, 2] * w + plane[1, 3]
                z = plane[2, 0] * u + plane[2, 1] * v + plane[2, 2] * w + plane[2, 3]
                tissue = 0
                grain = 0.0
                if z > -length and z < shape.atrium_height and x * x + y * y < 110.0 * 110.0:
                    x -= axis_bend(motion, length, z)
                    squared, angle, cosine, sine, height, knots = before(shape, motion, length, time, beat, x, y, z)
                    shrink = math.sqrt(knots[3] / knots[0]) if knots[0] > 0.0 else 1.0
                    tissue = heart_tissue(shape, interior, knots, squared, angle, height, shrink)
                    if tissue == 2 or tissue == 4 or tissue == 5 or tissue == 8:
                        radius = math.sqrt(squared)
                        grain = muscle_texture * texture_at(texture, radius * cosine, radius * sine, height)
                    elif tissue == 1 or tissue == 3 or tissue == 9 or tissue == 16:
                        grain = flow * texture_at(
                            texture, 0.4 * x + eddies[0], 0.4 * y + eddies[1], 0.4 * z + eddies[2]
                        )
                if tissue == 0:
                    tissue = static[i, j, n]
                    if tissue >= 11 and tissue <= 15:
                        # the chest's own pattern; the strongest spots in the lung are its vessels
                        x = still[0, 0] * u + still[0, 1] * v + still[0, 2] * w + still[0, 3]
                        y = still[1, 0] * u + still[1, 1] * v + still[1, 2] * w + still[1, 3]
                        z = still[2, 0] * u + still[2, 1] * v + still[2, 2] * w + still[2, 3]
                        grain = texture_at(texture, 0.8 * x, 0.8 * y, 0.8 * z)
                        if tissue == 11:
                            grain = 4.0 * max(grain - 1.6, 0.0)
                        else:
                            grain *= muscle_texture
                total += signals[tissue] * (1.0 + grain)
                label = tissue_labels[tissue]
                votes[label] += 1
                if n == 0:
                    middle = label
            signal[i, j] = total / samples
            best = middle
            for label in range(4):
                if votes[label] > votes[best]:
                    best = label
            labels[i, j] = best
    return signal, labels


@njit(cache=True)
def texture_at(texture, x, y, z):  # type: ignore[no-untyped-def]
    """Texture at a point, mm: trilinear, periodic."""
    size = texture.shape[0]
    x, y, z = x / _TEXTURE_STEP_MM, y / _TEXTURE_STEP_MM, z / _TEXTURE_STEP_MM
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    x, y, z = x - i, y - j, z - k
    i, j, k = int(i) % size, int(j) % size, int(k) % size
    i1, j1, k1 = (i + 1) % size, (j + 1) % size, (k + 1) % size
    low = (1 - x) * ((1 - y) * texture[i, j, k] + y * texture[i, j1, k])
    low += x * ((1 - y) * texture[i1, j, k] + y * texture[i1, j1, k])
    high = (1 - x) * ((1 - y) * texture[i, j, k1] + y * texture[i, j1, k1])
    high += x * ((1 - y) * texture[i1, j, k1] + y * texture[i1, j1, k1])
    return (1 - z) * low + z * high
