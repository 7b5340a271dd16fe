"""Scores of one exam's motion: against labels of the planes, and against the truth of a simulated heart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform

from cardiac_mri_multiview_motion.measurement.carried_label import carried_label, tissue_volumes_ml
from cardiac_mri_multiview_motion.measurement.tissue_at_ed import tissue_of_slices
from cardiac_mri_multiview_motion.measurement.ventricle import CAVITY, MYOCARDIUM
from clinbundles.motion.displacement_field import DisplacementField, at_rest_at_ed
from clinbundles.motion.motion_errors import (
    contour_distances,
    dice,
    end_point_errors,
    jacobian_errors,
    strain_at,
    volume_difference,
)
from clinbundles.motion.motion_grid import GRID_SPACING_MM
from clinbundles.motion.motion_truth import read_motion_truth

LABEL_SCORES = ("dice", "dice_sax", "dice_lax", "dice_cavity", "hd_mm", "mcd_mm", "volume_difference")
TRUTH_SCORES = (
    "epe", "epe_es", "epe_radial", "epe_circumferential", "epe_longitudinal", "strain_radial", "strain_circumferential",
    "strain_longitudinal", "jacobian_error", "folded_share", "ef_error", "volume_drift",
)  # fmt: skip
SCORES = (*LABEL_SCORES, *TRUTH_SCORES)


def label_scores(
    tissue: torch.Tensor,
    fields: torch.Tensor,
    labels: torch.Tensor,
    poses: torch.Tensor,
    views: int,
    pixel_mm: float = 2.0,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
) -> dict[str, float]:
    """Overlap of the carried label with the labels of all frames but end-diastole.

    Args:
        tissue: (n, I, J, K) at end-diastole.
        fields: (T, 3, I, J, K) on t.
        labels: (T, P, H, W), the first ``views`` planes long-axis; 255 unknown.
        poses: (P, 3, 4).
        views: number of long-axis planes.
        pixel_mm: of the planes.
        spacing_mm: of the motion grid.
    """
    carried = carried_label(tissue, fields, poses, labels.shape[2:], spacing_mm).numpy()
    truth = labels.numpy()
    known = [plane for plane in range(truth.shape[1]) if (truth[:, plane] != 255).any()]
    moving = slice(1, None) if len(truth) > 1 else slice(None)
    end_systole = 1 + int(np.argmin([(frame[:views] == CAVITY).sum() for frame in truth[1:]])) if len(truth) > 1 else 0

    def mean_dice(planes: list[int], value: int) -> float:
        return dice(carried[moving][:, planes], truth[moving][:, planes], value) if planes else float("nan")

    lax, sax = [plane for plane in known if plane < views], [plane for plane in known if plane >= views]
    distances = [
        contour_distances(carried[end_systole, plane] == MYOCARDIUM, truth[end_systole, plane] == MYOCARDIUM, pixel_mm)
        for plane in known
    ]
    return {
        "dice": mean_dice(known, MYOCARDIUM),
        "dice_sax": mean_dice(sax, MYOCARDIUM),
        "dice_lax": mean_dice(lax, MYOCARDIUM),
        "dice_cavity": mean_dice(known, CAVITY),
        "hd_mm": _mean([one["hd"] for one in distances]),
        "mcd_mm": _mean([one["mcd"] for one in distances]),
        "volume_difference": volume_difference(
            carried[end_systole, known] == MYOCARDIUM, truth[end_systole, known] == MYOCARDIUM
        ),
    }


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def truth_scores(
    tissue: torch.Tensor,
    fields: torch.Tensor,
    truth_file: str,
    frame_to_world: torch.Tensor,
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
) -> dict[str, float]:
    """Errors against the exact motion, means over all frames but end-diastole (mm; strain as Green-Lagrange)."""
    truth = read_motion_truth(truth_file, frame_to_world)
    field = DisplacementField(fields[1:], "t", (spacing_mm[0], spacing_mm[1], spacing_mm[2]))
    points = truth.points[None].expand(len(field.vectors), -1, -1)
    moved = field.from_ed(points)
    errors = end_point_errors(moved - points, truth.displacements[1:], truth.axes)
    end_systole = int(np.argmin(truth.lv_volume_ml))
    at_es = max(end_systole - 1, 0)
    strain = (strain_at(field, points, truth.axes) - truth.strain[1:]).abs().mean(dim=(0, 1))
    volumes, wall = tissue_volumes_ml(tissue, fields, spacing_mm)[:, [CAVITY, MYOCARDIUM]].double().numpy().T
    ef, true_ef = (1 - curve[end_systole] / max(float(curve[0]), 1e-6) for curve in (volumes, truth.lv_volume_ml))
    return {
        "epe": errors["epe"],
        "epe_es": end_point_errors((moved - points)[at_es], truth.displacements[at_es + 1], truth.axes)["epe"],
        **{f"epe_{name}": errors[name] for name in ("radial", "circumferential", "longitudinal")},
        "strain_radial": float(strain[0]),
        "strain_circumferential": float(strain[1]),
        "strain_longitudinal": float(strain[2]),
        **jacobian_errors(field, moved),
        "ef_error": float(abs(ef - true_ef)),
        "volume_drift": float(np.abs(wall / max(float(wall[0]), 1e-6) - 1).max()),
    }


class ScoreMotiond(MapTransform):
    """Score a prediction; every score becomes a tensor (1,) under its name, NaN where nothing is known.

    Args:
        keys: the prediction (T, 3 + n, I, J, K).
        truth_key: path of ``truth.npz``, where there is one.
        ed_label: "network": its tissues at end-diastole are carried; "given": the labels of the short-axis slices are.
        pixel_mm: of the planes.
        spacing_mm: of the motion grid.
    """

    def __init__(
        self,
        keys: str = "pred",
        truth_key: str = "truth",
        ed_label: str = "network",
        pixel_mm: float = 2.0,
        spacing_mm: Sequence[float] = GRID_SPACING_MM,
    ) -> None:
        super().__init__(keys)
        if ed_label not in ("network", "given"):
            raise ValueError(f"ed_label must be 'network' or 'given', not '{ed_label}'")
        self.truth_key = truth_key
        self.ed_label = ed_label
        self.pixel_mm = pixel_mm
        self.spacing_mm = tuple(float(step) for step in spacing_mm)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the scores to the sample."""
        sample = dict(data)
        prediction = torch.as_tensor(sample[self.keys[0]]).as_subclass(torch.Tensor).detach().cpu().float()
        fields, tissue = at_rest_at_ed(prediction[:, :3]), prediction[0, 3:].softmax(dim=0)
        scores = dict.fromkeys(SCORES, float("nan"))
        if "planes_label" in sample:
            labels = torch.as_tensor(sample["planes_label"]).as_subclass(torch.Tensor).cpu()
            poses = torch.as_tensor(sample["planes_pose"]).as_subclass(torch.Tensor).cpu().float()
            views = len(sample["lax_pose"])
            if self.ed_label == "given":
                there = poses[views:].abs().sum(dim=(1, 2)) > 0
                slices = poses[views:][there].double().numpy()
                tissue = tissue_of_slices(labels[0, views:][there], slices, tuple(fields.shape[2:]), self.spacing_mm)
            scores |= label_scores(tissue, fields, labels, poses, views, self.pixel_mm, self.spacing_mm)
        if sample.get(self.truth_key):
            frame_to_world = torch.as_tensor(sample["frame_to_world"]).cpu()
            scores |= truth_scores(tissue, fields, str(sample[self.truth_key]), frame_to_world, self.spacing_mm)
        return sample | {name: torch.tensor([value]) for name, value in scores.items()}
