"""What training sees of an examination: one pair of frames, its labels, the mesh at end-diastole; and variations."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform

from cardiac_mri_mesh_motion.ventricle.fit_to_labels import fit_to_labels
from cardiac_mri_mesh_motion.ventricle.template import read_template

_IMAGES = ("image", "lax")
_KEPT = ("image", "lax", "lax_pose", "planes_label", "planes_pose")


class MeshTrainingTensorsd(MapTransform):
    """Keep of a loaded exam what training needs (deterministic, to be cached); images as half floats.

    Adds ``ed_vertices`` (V, 3), the mesh at end-diastole with the template's faces: of a simulated heart the exact one,
    else the template fitted to the labels at end-diastole; and ``wall_points`` (N, 3) with ``wall_displacements``
    (T, N, 3), exact for simulated hearts, NaN for others. All in mm of the exam frame.

    Args:
        keys: the image, of ``LoadImageCineExamd(labels=True)``.
        truth_key: path of ``truth.npz``; cases of patients have none.
        template: file of the template; None: the bundle's own.
        wall_points: how many points are kept, half in the wall and half of the mesh's vertices.

    Raises:
        ValueError: an exam without label maps; a truth whose mesh has other faces than the template.
    """

    def __init__(
        self,
        keys: str = "image",
        truth_key: str = "truth",
        template: str | None = None,
        wall_points: int = 800,
    ) -> None:
        super().__init__(keys)
        self.truth_key = truth_key
        self.template = read_template(template)
        self.wall_points = wall_points

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` is a sample of ``LoadImageCineExamd(labels=True, planes=True)``."""
        if "planes_label" not in data or bool((torch.as_tensor(data["planes_label"]) == 255).all()):
            raise ValueError(
                f"case '{data.get('case', '')}' has no label map: training needs sax_label, and lax_*_label where "
                "there are long-axis views"
            )
        kept: dict[Hashable, Any] = {key: torch.as_tensor(data[key]).as_subclass(torch.Tensor) for key in _KEPT}
        for key in _IMAGES:
            kept[key] = kept[key].half()
        if data.get(self.truth_key):
            return kept | self._truth(str(data[self.truth_key]), data["frame_to_world"])
        fitted = fit_to_labels(self.template, kept["planes_label"][0], kept["planes_pose"])
        frames = kept["image"].shape[0]
        return kept | {
            "ed_vertices": fitted.vertices,
            "wall_points": torch.zeros(self.wall_points, 3),
            "wall_displacements": torch.full((frames, self.wall_points, 3), torch.nan),
        }

    def _truth(self, path: str, frame_to_world: Any) -> dict[Hashable, torch.Tensor]:
        to_world = np.asarray(frame_to_world, dtype=np.float64)
        turn, origin = to_world[:3, :3], to_world[:3, 3]
        with np.load(path) as truth:
            if not np.array_equal(truth["faces"], self.template.faces.numpy()):
                raise ValueError(
                    f"{path}: its mesh has {len(truth['faces'])} triangles that are not those of the template "
                    f"({len(self.template.faces)}): simulate with the same rows and columns"
                )
            vertices = (np.asarray(truth["vertices"], np.float64) - origin) @ turn
            points = (np.asarray(truth["wall_points"], np.float64) - origin) @ turn
            moves = np.asarray(truth["wall_displacements"], np.float64) @ turn
        # half of them on the surfaces, where the gradient across the wall is steepest and volumes are measured
        half = self.wall_points // 2
        spread = np.linspace(0, vertices.shape[1] - 1, self.wall_points - half).round().astype(int)
        inside = np.linspace(0, len(points) - 1, half).round().astype(int)
        values = {
            "ed_vertices": vertices[0],
            "wall_points": np.concatenate([points[inside], vertices[0][spread]]),
            "wall_displacements": np.concatenate([moves[:, inside], (vertices - vertices[:1])[:, spread]], axis=1),
        }
        return {key: torch.from_numpy(value).float() for key, value in values.items()}


def prepare_pair(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **options: Any
) -> tuple[Any, Any, tuple[()], dict[str, Any]]:
    """What MONAI's trainer hands to network and loss: image, targets, nothing more by place, the planes by name."""
    keys = (
        "image",
        "lax",
        "lax_pose",
        "planes_label",
        "planes_pose",
        "ed_vertices",
        "wall_points",
        "wall_displacements",
    )
    moved = {
        key: torch.as_tensor(batch[key])
        .as_subclass(torch.Tensor)
        .to(device=device, non_blocking=non_blocking, **options)
        for key in keys
    }
    return moved["image"], moved, (), {"lax": moved["lax"], "lax_pose": moved["lax_pose"]}
