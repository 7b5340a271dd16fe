"""Simulated cine examinations: the files of one case and its truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from clinbundles.phantoms.heart.cine_image import draw_cine, draw_scan
from clinbundles.phantoms.heart.heart import Heart
from clinbundles.phantoms.heart.heart_mesh import heart_mesh
from clinbundles.phantoms.heart.population import draw_heart
from clinbundles.phantoms.heart.scanner_planes import plan_views
from clinbundles.phantoms.heart.tissue_signal import draw_signals

SIMULATOR_REVISION = 5


def simulate_heart_exam(
    folder: Path,
    seed: int,
    *,
    frames: int | list[float] = 10,
    pixels: int = 64,
    pixel_mm: float = 2.0,
    slice_spacing_mm: float | list[float] = 10.0,
    slab_mm: float = 8.0,
    lax_slab_mm: float = 6.0,
    shift_mm: float | list[float] = 0.0,
    diseased_share: float = 0.45,
    noise: tuple[float, float] = (0.015, 0.07),
    texture: tuple[float, float] = (0.03, 0.10),
    wall_points: int = 1500,
) -> dict[str, Any]:
    """Simulate one cine examination: short-axis stack and 2CH, 3CH, 4CH planes with labels and exact truth.

    Args:
        folder: where the case's files go.
        seed: of everything random.
        frames: number of frames, evenly over the cycle from end-diastole; or their times as fractions of the cycle
            (the first must be 0).
        pixels: of a side of each square image.
        pixel_mm: size of a pixel.
        slice_spacing_mm: between short-axis slices; [low, high] draws it per case.
        slab_mm: slice thickness of the stack.
        lax_slab_mm: slice thickness of the long-axis planes.
        shift_mm: SD along each axis of the breath-hold shift of each slice; a list: one of them is drawn per case. The
            shift is in the picture and in its labels; affines and truth.npz keep the nominal heart.
        diseased_share: probability of a diseased heart.
        noise: range of the SD of noise relative to blood.
        texture: range of the SD of the muscle's texture.
        wall_points: number of points in the muscle whose motion and strain are stored.

    Returns:
        the case: files sax, lax_2ch, lax_3ch, lax_4ch with their _label (all frames), truth; ed_frame, es_frame,
        edv_ml, esv_ml, ef (of the shown frames), mass_g, sex, shift_mm, slice_spacing_mm.
    """
    times = _frame_times(frames)
    _, plan_rng, look_rng, noise_rng, truth_rng, case_rng = np.random.default_rng(seed).spawn(6)
    heart, sex = exam_heart(seed, diseased_share=diseased_share)
    period_s = float(case_rng.uniform(0.70, 1.15))
    spacing, shift = _drawn(case_rng.random(), slice_spacing_mm, between=True), _drawn(case_rng.random(), shift_mm)
    scan = draw_scan(look_rng, draw_signals(look_rng), noise=noise, texture=texture)
    views = plan_views(
        heart, plan_rng, pixels=pixels, pixel_mm=pixel_mm, slice_spacing_mm=spacing, slab_mm=slab_mm,
        lax_slab_mm=lax_slab_mm, shift_mm=shift,
    )  # fmt: skip
    case: dict[str, Any] = {}
    for view, view_rng in zip(views, noise_rng.spawn(len(views)), strict=True):
        images, labels = draw_cine(heart, view, times, scan, view_rng)
        for key, values in ((view.name, images), (f"{view.name}_label", labels)):
            case[key] = _write_cine(folder / f"{key}.nii.gz", values, view.affine, period_s / len(times))
    truth = _truth(heart, times, truth_rng, wall_points)
    np.savez(folder / "truth.npz", **truth)  # type: ignore[arg-type]  # the stubs know no ** of arrays
    volumes = truth["lv_volume_ml"].astype(float)
    end_systole = int(np.argmin(volumes))
    return case | {
        "truth": "truth.npz",
        "ed_frame": 0,
        "es_frame": end_systole,
        "edv_ml": float(volumes[0]),
        "esv_ml": float(volumes[end_systole]),
        "ef": float(1.0 - volumes[end_systole] / volumes[0]),
        "mass_g": heart.mass_g,
        "sex": sex,
        "shift_mm": shift,
        "slice_spacing_mm": spacing,
    }


def exam_heart(seed: int, *, diseased_share: float = 0.45) -> tuple[Heart, str]:
    """The heart of the case of this seed, and its sex: exact truth at any point and time, not only the stored ones."""
    anatomy_rng, sex_rng = np.random.default_rng(seed).spawn(7)[::6]
    sex = "MF"[int(sex_rng.integers(2))]
    return draw_heart(anatomy_rng, sex, diseased_share=diseased_share), sex


def _frame_times(frames: int | list[float]) -> NDArray[np.float64]:
    if isinstance(frames, int):
        if frames < 2:
            raise ValueError(f"frames is {frames}, expected at least 2 (end-diastole and another one)")
        return np.arange(frames) / frames
    times = np.asarray(frames, float)
    if times[0] != 0.0 or (times >= 1.0).any() or (np.diff(times) <= 0.0).any():
        raise ValueError(f"frames are {frames}, expected growing fractions of the cycle in [0, 1) that begin with 0")
    return times


def _drawn(score: float, choice: float | list[float], *, between: bool = False) -> float:
    """A number of a choice by a uniform score: the number itself, one of the list, or one between low and high."""
    if isinstance(choice, (int, float)):
        return float(choice)
    if between:
        low, high = choice
        return float(low + score * (high - low))
    return float(choice[int(score * len(choice))])


def _write_cine(path: Path, values: NDArray, affine: NDArray[np.float64], frame_s: float) -> str:
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((*image.header.get_zooms()[:3], frame_s))
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    nib.save(image, path)
    return path.name


def _truth(heart: Heart, times: NDArray[np.float64], rng: np.random.Generator, count: int) -> dict[str, NDArray]:
    """Everything exact about the motion: world RAS, mm, float32."""
    mesh = heart_mesh(heart, seed=int(rng.integers(2**31)))
    wall = points_in_wall(heart, count, rng)
    start = heart.to_spatial(wall, 0.0)
    volumes = np.array([heart.volumes(time) for time in times])
    truth = {
        "times": times,
        "vertices": np.stack([mesh.at(heart, time) for time in times]),
        "wall_points": start,
        "wall_displacements": np.stack([heart.to_spatial(wall, time) - start for time in times]),
        "wall_axes": heart.local_axes(wall) @ heart.rotation.T,
        "wall_strain": np.stack([heart.strain(wall, time) for time in times]),
        "lv_volume_ml": volumes[:, 0],
        "myocardium_volume_ml": volumes[:, 1],
        "rv_volume_ml": volumes[:, 2],
        **{name: heart.landmark(name) for name in ("apex", "base_centre", "rv_insertion_anterior")},
    }
    return {key: value.astype(np.float32) for key, value in truth.items()} | {
        "faces": mesh.faces,
        "surface": mesh.surface,
    }


def points_in_wall(heart: Heart, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Material points (count, 3), uniform in the left ventricle's muscle at end-diastole."""
    shape = heart.anatomy
    reach = 1.3 * (shape.radius + shape.wall)
    found = np.empty((0, 3))
    while len(found) < count:
        tries = rng.uniform([-reach, -reach, -shape.length], [reach, reach, 0.0], (4 * count, 3))
        found = np.concatenate([found, tries[heart.labels(heart.to_spatial(tries, 0.0), 0.0) == 2]])
    return found[:count]
