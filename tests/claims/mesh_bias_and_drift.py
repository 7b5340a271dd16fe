"""Scores of the mesh bundle that its claims need beyond those of its evaluation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from cine_motion_baselines import exact_mesh
from motion_claims import truth_of

from cardiac_mri_mesh_motion.evaluation.score_mesh_motion import ScoreMeshMotiond
from cardiac_mri_mesh_motion.ventricle.move_mesh import field_motion
from clinbundles.rasterizer.mesh_volume import signed_volume


class ScoreMeshMotionClaimsd(ScoreMeshMotiond):
    """Adds ``z_bias``, how much higher (to the base, mm) than in truth the wall's points end up, mean over points and
    frames; and ``exact_mesh_drift``, the largest relative change of volume when the field moves the exact mesh.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the scores to the sample."""
        motion = field_motion(torch.as_tensor(data[self.keys[0]]).detach().cpu().float()[:, :3])
        truth = truth_of(data)
        bias = (motion(truth.points) - truth.displacements)[1:, :, 2].mean()
        vertices, faces = exact_mesh(data)
        volumes = signed_volume(vertices + motion(vertices), faces)
        drift = (volumes / volumes[0] - 1).abs().max()
        scores = {"z_bias": bias, "abs_z_bias": bias.abs(), "exact_mesh_drift": drift}
        return super().__call__(data) | {name: value.reshape(1) for name, value in scores.items()}
