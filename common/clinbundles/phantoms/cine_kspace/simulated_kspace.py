"""Simulated cine k-space: the files of one case and its truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_fill_holes

from clinbundles.phantoms.cine_kspace.acquisition import Acquisition, draw_acquisition
from clinbundles.phantoms.cine_kspace.coil_array import draw_noise_mixing
from clinbundles.phantoms.cine_kspace.fine_grid import FineGrid
from clinbundles.phantoms.cine_kspace.fine_picture import draw_beat, draw_chest, moving_box
from clinbundles.phantoms.cine_kspace.kspace_sampling import FINE, OVERSAMPLING, phase_encoding, readout
from clinbundles.phantoms.cine_kspace.slice_plan import chest_origin
from clinbundles.phantoms.cine_kspace.true_motion import heart_tissues, true_flow
from clinbundles.phantoms.heart.tissue import LABELS, Tissue

SIMULATOR_REVISION = 2

ROI_MARGIN_MM = 20.0
"""The region of interest is the box of both ventricles at end-diastole, widened by this."""

_SUPPORT_MARGIN = 3  # pixels by which the maps' support goes beyond the skin: ringing lies there


def simulate_cine_kspace(
    folder: Path,
    seed: int,
    *,
    frames: int = 25,
    matrix: int = 128,
    spacing_mm: float = 2.25,
    coils: int = 8,
    slab_mm: float = 8.0,
    long_axis_share: float = 0.2,
    diseased_share: float = 0.3,
    long_axis_motion: bool = True,
    snr: tuple[float, float] = (15.0, 40.0),
    noise_coupling: float = 0.0,
) -> dict[str, Any]:
    """Simulate one slice of cine, fully sampled, as its coils receive it.

    Axes: T frames, N coils, X readout, Y phase encoding; images of X rows and Y columns. The heart is drawn on a grid
    three times finer than the reconstruction, each frame as the mean over its share of the cycle, multiplied there by
    phase and coil sensitivities, Fourier transformed and cut to the matrix: no pixel was ever warped.

    Args:
        folder: where the case's files go.
        seed: of everything random.
        frames: evenly over the cycle, the first is end-diastole.
        matrix: X = Y, pixels.
        spacing_mm: size of a pixel.
        coils: number of loops around the body.
        slab_mm: slice thickness.
        long_axis_share: probability of a long-axis plane instead of a short-axis slice.
        diseased_share: probability of a diseased heart.
        long_axis_motion: whether the heart shortens and moves along its axis. Without, tissue stays in a short-axis
            slice; it then has the same volumes and ejection fraction, but is no real heart.
        snr: range of the blood's mean signal over `noise_sd`, in images of all samples.
        noise_coupling: share of its noise that a coil takes from its neighbour; 0 is white noise.

    Returns:
        the case. Files: `kspace` (T, N, X, Y) complex64 with noise, `sensitivity_maps` (N, X, Y) complex64 of unit
        root-sum-of-squares in the body and 0 outside, `reference` (T, X, Y) complex64, `truth`. Numbers: spacing_mm
        [row, column], thickness_mm, frame_ms, cyclic, affine (4, 4) RAS mm, roi [x0, y0, x1, y1] (half-open), noise_sd
        (root of the mean |noise|^2 of a sample of k-space), view, level, sex, snr, ef.

    `reference` is sum_c conj(S_c) F^-1 y_c of the noise-free k-space: band-limited to the matrix, and what any exact
    reconstruction with these maps gives from all samples. `truth.npz`: flow_from_ed, flow_to_ed (T, 2, X, Y) (see
    `true_flow`), myocardium, left_blood, heart (X, Y) at end-diastole, roi, noise_sd, noise_covariance (N, N),
    frame_ms, spacing_mm, times, affine.
    """
    case = draw_acquisition(
        seed, frames=frames, matrix=matrix, spacing_mm=spacing_mm, coils=coils, slab_mm=slab_mm,
        long_axis_share=long_axis_share, diseased_share=diseased_share, long_axis_motion=long_axis_motion, snr=snr,
    )  # fmt: skip
    clean, maps = _noise_free(case)
    reference = _combined(clean, maps)
    truth = _truth(case)
    blood = truth["left_blood"] if truth["left_blood"].any() else truth["heart"]
    noise_sd = float(np.abs(reference[0])[blood].mean()) / case.snr
    mixing = draw_noise_mixing(case.noise_rng, coils, noise_coupling)
    for frame in clean:  # in place: k-space is the largest array
        white = case.noise_rng.standard_normal((2, *frame.shape), np.float32)
        noise = np.float32(noise_sd / math.sqrt(2.0)) * (white[0] + 1j * white[1])
        frame += noise if noise_coupling == 0.0 else np.einsum("nm,mxy->nxy", mixing, noise)
    np.save(folder / "kspace.npy", clean)
    np.save(folder / "maps.npy", maps)
    np.save(folder / "reference.npy", reference)
    frame_ms = case.cycle_ms / frames
    truth |= {
        "noise_sd": np.array(noise_sd),
        "thickness_mm": np.array(slab_mm),
        "cyclic": np.array(True),
        "noise_covariance": (noise_sd**2 * mixing @ mixing.conj().T).astype(np.complex64),
        "frame_ms": np.array(frame_ms),
        "spacing_mm": np.full(2, spacing_mm),
    }
    np.savez_compressed(folder / "truth.npz", **truth)  # type: ignore[arg-type]  # the stubs know no ** of arrays
    return {
        "kspace": "kspace.npy",
        "sensitivity_maps": "maps.npy",
        "reference": "reference.npy",
        "truth": "truth.npz",
        "spacing_mm": [spacing_mm, spacing_mm],
        "frame_ms": frame_ms,
        "cyclic": True,
        "affine": case.plan.affine.tolist(),
        "thickness_mm": slab_mm,
        "noise_sd": noise_sd,
        "roi": truth["roi"].tolist(),
        "view": case.plan.view,
        "level": None if math.isnan(case.plan.level) else case.plan.level,
        "sex": case.sex,
        "snr": case.snr,
        "ef": case.heart.ejection_fraction,
    }


def true_pair_flows(seed: int, **arguments: Any) -> NDArray[np.float32]:
    """True flow (T, S, 2, X, Y) between all frames of the case of this seed: 82 MB at 128 x 128 and 25 frames.

    Args:
        seed: of the case.
        arguments: those that the case was simulated with (`simulate_cine_kspace`).
    """
    arguments.pop("noise_coupling", None)
    case = draw_acquisition(seed, **arguments)
    return true_flow(case.chest, case.plan, case.times)


def _noise_free(case: Acquisition) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """K-space (T, N, X, Y) without noise, and the maps (N, X, Y)."""
    grid = FineGrid.of(case.plan)
    size = case.plan.size
    chest = draw_chest(case.heart, grid, case.look)
    box = moving_box(case.heart, grid, case.look, case.times)
    received, maps = _sensitivity(case, grid)
    points = grid.points()
    weight = np.exp(1j * case.look.phase(points)) * grid.saturation(case.plan.spacing_mm)
    received *= weight.astype(np.complex64)
    along_x, along_y = readout(size[0]), phase_encoding(size[1]).T
    inner, box_x, box_y = np.ascontiguousarray(received[:, box[0], box[1]]), along_x[:, box[0]], along_y[box[1]]
    support = _support(chest, size)
    chest[box] = 0.0
    still = along_x @ ((received * chest) @ along_y)
    kspace = np.empty((len(case.times), len(maps), *size), np.complex64)
    for t, time in enumerate(case.times):
        beat = draw_beat(case.heart, grid, case.look, box, float(time), 1.0 / len(case.times))
        kspace[t] = (still + box_x @ ((inner * beat) @ box_y)) * np.complex64(case.look.drift_at(float(time)))
    return kspace, maps * support


def _support(chest: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where maps are given (X, Y): the body, a little beyond its skin."""
    body = chest != 0.0  # air alone has no signal
    first = FINE * (OVERSAMPLING * size[0] // 2 - size[0] // 2) + FINE // 2
    shown = body[first : first + FINE * size[0] : FINE, FINE // 2 :: FINE]
    return np.asarray(binary_dilation(binary_fill_holes(shown), iterations=_SUPPORT_MARGIN))


def _sensitivity(case: Acquisition, grid: FineGrid) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Sensitivity (N, rows, columns) on the fine grid, with the shading left in the picture; maps (N, X, Y)."""
    origin = chest_origin(case.heart)
    points = grid.points()
    fine = case.coils.sensitivity(points.reshape(-1, 3) - origin).reshape(-1, *points.shape[:2])
    strength = np.sqrt((np.abs(fine) ** 2).sum(0))
    fine /= strength
    usual = float(np.sqrt((np.abs(case.coils.sensitivity(np.zeros((1, 3)))) ** 2).sum()))
    fine *= np.minimum((strength / usual) ** case.look.shading, 4.0).astype(np.float32)
    maps = case.coils.sensitivity(case.plan.centres() - origin).reshape(-1, *case.plan.size)
    return fine, maps / np.sqrt((np.abs(maps) ** 2).sum(0))


def _combined(kspace: NDArray[np.complex64], maps: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Images (T, X, Y): sum_c conj(S_c) F^-1 y_c, centred and orthonormal."""
    axes = (-2, -1)
    images = [np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(frame, axes), norm="ortho"), axes) for frame in kspace]
    return np.stack([(np.conj(maps) * image).sum(0) for image in images]).astype(np.complex64)


def _truth(case: Acquisition) -> dict[str, NDArray[Any]]:
    size, times = case.plan.size, case.times
    start = heart_tissues(case.heart, case.plan.centres(), float(times[0])).reshape(size)
    label = LABELS[start]
    ventricles = (label > 0) | (start == Tissue.RIGHT_WALL)
    margin = ROI_MARGIN_MM / case.plan.spacing_mm
    roi = []
    for axis in (1, 0):
        found = np.flatnonzero(ventricles.any(axis=axis))
        roi.append((max(0, round(found[0] - margin)), min(size[1 - axis], round(found[-1] + 1 + margin))))
    return {
        "flow_from_ed": true_flow(case.chest, case.plan, times, targets=[0])[0],
        "flow_to_ed": true_flow(case.chest, case.plan, times, sources=[0])[:, 0],
        "myocardium": label == 2,
        "left_blood": start == Tissue.LEFT_BLOOD,
        "heart": start > 0,
        "roi": np.array([roi[0][0], roi[1][0], roi[0][1], roi[1][1]], np.int64),
        "times": times,
        "affine": case.plan.affine,
    }
