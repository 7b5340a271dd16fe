"""Scores of one exam's moving mesh: against labels of the planes, and against the truth of a simulated heart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform

from cardiac_mri_mesh_motion.losses import MYOCARDIUM, UNKNOWN
from cardiac_mri_mesh_motion.ventricle.lv_mesh import ENDOCARDIUM, EPICARDIUM, LvMesh
from cardiac_mri_mesh_motion.ventricle.measure_mesh import measure_mesh
from cardiac_mri_mesh_motion.ventricle.move_mesh import (
    MESH_KEY,
    MOTION_KEY,
    TRACKED_KEY,
    VERTICES_KEY,
    MoveMeshd,
)
from clinbundles.motion.kinematic_refinement import Motion, Refinement
from clinbundles.motion.motion_errors import boundary_f, contour_distances, dice, end_point_errors
from clinbundles.motion.motion_truth import read_motion_truth
from clinbundles.motion.plane_slicing import planes_from_poses
from clinbundles.rasterizer.plane_coverage import plane_coverage
from clinbundles.rasterizer.wall_thickness import distance_to_surface

LABEL_SCORES = ("dice", "dice_sax", "dice_lax", "hd_sax", "hd_lax", "mcd_sax", "mcd_lax", "boundf_sax", "boundf_lax")
TRUTH_SCORES = (
    "motion_explained", "epe", "epe_es", "epe_radial", "epe_circumferential", "epe_longitudinal", "epe_static",
    "ed_surface", "ef_error", "edv_error", "esv_error",
)  # fmt: skip
MESH_SCORES = ("volume_drift", "inverted")
SCORES = (*LABEL_SCORES, *TRUTH_SCORES, *MESH_SCORES)
_PIXEL_MM = 2.0
_LARGE = (MESH_KEY, VERTICES_KEY, MOTION_KEY, TRACKED_KEY)  # what metrics have no use for


def mesh_label_maps(vertices: torch.Tensor, faces: torch.Tensor, poses: torch.Tensor, size: tuple[int, int]) -> Any:
    """(T, P, H, W) bool: pixels of which the mesh covers half or more."""
    planes, present = planes_from_poses(poses)
    found = torch.zeros(len(vertices), len(poses), *size, dtype=torch.bool)
    coverage = plane_coverage(vertices, faces, planes[present], size)
    found[:, present] = coverage >= 0.5
    return found.numpy()


def label_scores(
    mesh: LvMesh, vertices: torch.Tensor, labels: torch.Tensor, poses: torch.Tensor, views: int
) -> dict[str, float]:
    """Overlap and contour distances (mm; boundary F over 1 to 5 pixels) of the myocardium.

    Dice over all frames but end-diastole, the contours' measures at end-systole, mean over planes.

    Args:
        mesh: its faces count.
        vertices: (T, V, 3).
        labels: (T, P, H, W), 255 unknown.
        poses: (P, 3, 4), the first ``views`` long-axis.
        views: number of long-axis planes.
    """
    truth = labels.numpy()
    found = mesh_label_maps(vertices, mesh.faces, poses, (truth.shape[2], truth.shape[3]))
    known = [plane for plane in range(truth.shape[1]) if (truth[:, plane] != UNKNOWN).any()]
    groups = {"lax": [p for p in known if p < views], "sax": [p for p in known if p >= views]}
    moving = slice(1, None) if len(truth) > 1 else slice(None)
    value = found.astype(np.uint8) * MYOCARDIUM
    scores = {"dice": dice(value[moving][:, known], truth[moving][:, known], MYOCARDIUM)}
    areas = (truth[:, known] == 1).sum(axis=(1, 2, 3))
    systole = int(areas.argmin())
    for name, planes in groups.items():
        if not planes:
            continue
        scores[f"dice_{name}"] = dice(value[moving][:, planes], truth[moving][:, planes], MYOCARDIUM)
        pairs = [(found[systole, plane], truth[systole, plane] == MYOCARDIUM) for plane in planes]
        distances = [contour_distances(ours, theirs, _PIXEL_MM) for ours, theirs in pairs]
        scores[f"hd_{name}"] = _mean([one["hd"] for one in distances])
        scores[f"mcd_{name}"] = _mean([one["mcd"] for one in distances])
        scores[f"boundf_{name}"] = _mean([boundary_f(ours, theirs) for ours, theirs in pairs])
    return scores


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def truth_scores(
    mesh: LvMesh, vertices: torch.Tensor, motion: Motion, truth_file: str, frame_to_world: torch.Tensor
) -> dict[str, float]:
    """Errors against the exact heart: of the motion at points of the wall (mm), of the mesh at ED, of volumes.

    ``motion_explained`` is 1 - EPE / EPE of no motion: 1 is perfect, 0 is staying at end-diastole.
    """
    truth = read_motion_truth(truth_file, frame_to_world)
    moved = motion(truth.points)
    errors = end_point_errors(moved[1:], truth.displacements[1:], truth.axes)
    static = float(truth.displacements[1:].norm(dim=-1).mean())
    systole = int(np.argmin(truth.lv_volume_ml))
    cavity = mesh.cavity_ml(vertices)
    ef, true_ef = (1 - curve[systole] / curve[0] for curve in (cavity, truth.lv_volume_ml))
    world = np.asarray(frame_to_world, dtype=float)
    gaps = []
    with np.load(truth_file) as file:
        true_vertices = (np.asarray(file["vertices"][0], float) - world[:3, 3]) @ world[:3, :3]
        for side in (ENDOCARDIUM, EPICARDIUM):
            side_faces = file["faces"][(file["surface"][file["faces"]] == side).all(axis=1)]
            ours = mesh.vertices[mesh.surface == side].numpy()
            gaps.append(distance_to_surface(ours, true_vertices, side_faces))
    return {
        "motion_explained": 1 - errors["epe"] / static,
        "epe": errors["epe"],
        "epe_es": end_point_errors(moved[systole], truth.displacements[systole], truth.axes)["epe"],
        **{f"epe_{name}": errors[name] for name in ("radial", "circumferential", "longitudinal")},
        "epe_static": static,
        "ed_surface": float(np.concatenate(gaps).mean()),
        "ef_error": float(abs(ef - true_ef)),
        "edv_error": float(abs(cavity[0] - truth.lv_volume_ml[0])),
        "esv_error": float(abs(cavity[systole] - truth.lv_volume_ml[systole])),
    }


class ScoreMeshMotiond(MapTransform):
    """Move the mesh by a prediction and score it; every score becomes a tensor (1,), NaN where nothing is known.

    Args:
        keys: the prediction (T, 6, I, J, K).
        truth_key: path of ``truth.npz``, where there is one.
        select_by: the score that also stands under ``score``, for choosing the best epoch.
        ed_mesh, template: see ``MoveMeshd``.
        refine_steps: steps of test-time refinement; 0: none.
    """

    def __init__(
        self,
        keys: str = "pred",
        truth_key: str = "truth",
        select_by: str = "motion_explained",
        ed_mesh: str = "network",
        refine_steps: int = 0,
        template: str | None = None,
    ) -> None:
        super().__init__(keys)
        if select_by not in SCORES:
            raise ValueError(f"select_by is '{select_by}', expected one of {', '.join(SCORES)}")
        self.truth_key = truth_key
        self.select_by = select_by
        refinement = Refinement(steps=refine_steps) if refine_steps else None
        self.move = MoveMeshd(keys, ed_mesh, refinement=refinement, template=template, check=False)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the scores to the sample."""
        sample = self.move(data)
        mesh: LvMesh = sample[MESH_KEY]
        vertices = sample[VERTICES_KEY]
        scores = dict.fromkeys(SCORES, float("nan"))
        if "planes_label" in sample:
            labels = torch.as_tensor(sample["planes_label"]).as_subclass(torch.Tensor).cpu()
            poses = torch.as_tensor(sample["planes_pose"]).as_subclass(torch.Tensor).cpu().float()
            scores |= label_scores(mesh, vertices, labels, poses, int(sample["lax_pose"].shape[0]))
        if sample.get(self.truth_key):
            world = torch.as_tensor(sample["frame_to_world"]).as_subclass(torch.Tensor).cpu()
            scores |= truth_scores(mesh, vertices, sample[MOTION_KEY], str(sample[self.truth_key]), world)
        measures = measure_mesh(mesh, vertices, np.full(len(vertices), np.nan))
        scores |= {"volume_drift": measures.volume_drift, "inverted": float(measures.inverted.max())}
        scores["score"] = scores[self.select_by]
        kept = {key: value for key, value in sample.items() if key not in _LARGE}
        return kept | {name: torch.tensor([value]) for name, value in scores.items()}
