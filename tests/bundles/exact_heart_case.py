"""A simulated heart as the bundle's tests need it: exact mesh, planes, and labels that no rasterizer drew."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

from cardiac_mri_mesh_motion.ventricle.lv_mesh import LvMesh
from cardiac_mri_mesh_motion.ventricle.template import read_template
from clinbundles.phantoms.heart.simulated_exam import simulate_heart_exam


@cache
def exam(folder: Any, seed: int = 500020) -> dict[str, Any]:
    """Files of one simulated exam, 3 frames, 14 mm between slices."""
    case = simulate_heart_exam(folder, seed, frames=[0.0, 0.2, 0.36], slice_spacing_mm=14.0, wall_points=500)
    files = ("sax", "lax_2ch", "lax_3ch", "lax_4ch", "truth")
    return {
        key: str(folder / value) if key in files or key.endswith("_label") else value for key, value in case.items()
    }


def exact_vertices(case: dict[str, Any], frame_to_world: torch.Tensor) -> torch.Tensor:
    """(T, V, 3) exact mesh in the exam frame."""
    world = np.asarray(frame_to_world, float)
    with np.load(case["truth"]) as truth:
        vertices = np.asarray(truth["vertices"], float)
    return torch.from_numpy((vertices - world[:3, 3]) @ world[:3, :3]).float()


def exact_mesh(case: dict[str, Any], frame_to_world: torch.Tensor) -> LvMesh:
    """The exact mesh at end-diastole; its faces and surfaces are the template's."""
    return read_template().at(exact_vertices(case, frame_to_world)[0], "truth")
