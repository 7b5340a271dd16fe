"""Exact motion of simulated hearts (``truth.npz`` of ``clinbundles.phantoms.heart``), in the exam frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

_KEYS = ("wall_points", "wall_displacements", "wall_axes", "wall_strain", "lv_volume_ml", "myocardium_volume_ml")


@dataclass(frozen=True)
class MotionTruth:
    """What is known exactly of a simulated heart; lengths in mm of the exam frame.

    Attributes:
        points: (N, 3) places in the wall at end-diastole.
        displacements: (T, N, 3) of these points.
        axes: (N, 3, 3) rows radial, circumferential, longitudinal at end-diastole.
        strain: (T, N, 3) Green-Lagrange E_rr, E_cc, E_ll.
        lv_volume_ml: (T,) of the cavity.
        myocardium_volume_ml: (T,) of the wall.
    """

    points: torch.Tensor
    displacements: torch.Tensor
    axes: torch.Tensor
    strain: torch.Tensor
    lv_volume_ml: np.ndarray
    myocardium_volume_ml: np.ndarray


def read_motion_truth(path: str | Path, frame_to_world: np.ndarray | torch.Tensor) -> MotionTruth:
    """Read ``truth.npz``, whose lengths are RAS mm of the scanner, into an exam frame.

    Args:
        path: the file.
        frame_to_world: (4, 4) rigid, exam frame -> scanner RAS.

    Raises:
        ValueError: a file without the entries of a simulated heart.
    """
    with np.load(path) as file:
        missing = [key for key in _KEYS if key not in file]
        if missing:
            raise ValueError(f"{Path(path).name} has no {', '.join(missing)}: expected the truth of a simulated heart")
        truth = {key: np.asarray(file[key], dtype=np.float64) for key in _KEYS}
    to_world = np.asarray(frame_to_world, dtype=np.float64)
    turn = to_world[:3, :3]  # rows of vectors times it: world -> exam frame

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).float()

    return MotionTruth(
        points=tensor((truth["wall_points"] - to_world[:3, 3]) @ turn),
        displacements=tensor(truth["wall_displacements"] @ turn),
        axes=tensor(truth["wall_axes"] @ turn),
        strain=tensor(truth["wall_strain"]),
        lv_volume_ml=truth["lv_volume_ml"],
        myocardium_volume_ml=truth["myocardium_volume_ml"],
    )
