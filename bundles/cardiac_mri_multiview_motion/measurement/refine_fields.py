"""Test-time refinement of the fields by the exam's own pictures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform
from scipy.ndimage import binary_dilation

from cardiac_mri_multiview_motion.measurement.tissue_at_ed import tissue_at_ed
from cardiac_mri_multiview_motion.measurement.ventricle import (
    CAVITY,
    MYOCARDIUM,
    fine_labels,
    long_axis_at_ed,
    wall_points,
)
from clinbundles.motion.displacement_field import at_rest_at_ed, invert, invert_at
from clinbundles.motion.kinematic_model import KinematicModel
from clinbundles.motion.kinematic_refinement import Refinement, refine_motion
from clinbundles.motion.motion_grid import grid_points


def endocardium(tissue: torch.Tensor, step_mm: float = 2.0) -> torch.Tensor:
    """Places (N, 3) in mm where the cavity borders on the myocardium at end-diastole, of tissues (n, I, J, K)."""
    labels, points = fine_labels(tissue, step_mm)
    beside = binary_dilation((labels == CAVITY).numpy()) & (labels == MYOCARDIUM).numpy()
    return points[torch.from_numpy(beside)]


def refine_fields(
    fields: torch.Tensor,
    tissue: torch.Tensor,
    image: torch.Tensor,
    planes: torch.Tensor,
    planes_pose: torch.Tensor,
    long_axis_planes: int,
    settings: Refinement,
) -> torch.Tensor:
    """Fields on the domain t, corrected by :func:`clinbundles.motion.kinematic_refinement.refine_motion`.

    Args:
        fields: (T, 3, I, J, K) on the domain t, mm.
        tissue: (n, I, J, K) at end-diastole.
        image, planes, planes_pose, long_axis_planes, settings: see there.

    Returns:
        (T, 3, I, J, K) on the domain t; frame 0 is zero.
    """

    def motion(points: torch.Tensor) -> torch.Tensor:
        return at_rest_at_ed(invert_at(fields, points[None].expand(len(fields), -1, -1)))

    axis = long_axis_at_ed(tissue)
    apex, base = (torch.from_numpy(place).float() for place in (axis.apex, axis.base))
    model = KinematicModel(apex, base, endocardium(tissue))
    wall = wall_points(tissue, step_mm=4.0)
    refined = refine_motion(motion, model, wall, image, planes, planes_pose, long_axis_planes, settings)
    points = grid_points(fields.shape[2:])
    at_ed = refined(points.reshape(-1, 3)).reshape(len(fields), *points.shape).movedim(-1, 1)
    return torch.cat([torch.zeros_like(at_ed[:1]), invert(at_ed[1:])])


class RefineFieldsd(MapTransform):
    """Correct the motion of a prediction (T, 3 + n, I, J, K) by the exam's own pictures; the logits stay.

    Args:
        keys: the prediction.
        settings: of the refinement.
    """

    def __init__(self, keys: str, settings: Refinement) -> None:
        super().__init__(keys)
        self.settings = settings

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` has ``image``, ``lax``, ``planes``, ``planes_pose`` of ``LoadImageCineExamd``."""
        sample = dict(data)
        prediction = _plain(sample[self.keys[0]])
        tissue, _ = tissue_at_ed(prediction, sample.get("native"))
        with torch.enable_grad():
            fields = refine_fields(
                prediction[:, :3],
                tissue,
                _plain(sample["image"]),
                _plain(sample["planes"]),
                _plain(sample["planes_pose"]),
                int(sample["lax"].shape[1]),
                self.settings,
            )
        sample[self.keys[0]] = torch.cat([fields, prediction[:, 3:]], dim=1)
        return sample


def _plain(value: Any) -> torch.Tensor:
    return torch.as_tensor(value).as_subclass(torch.Tensor).detach().cpu().float()
