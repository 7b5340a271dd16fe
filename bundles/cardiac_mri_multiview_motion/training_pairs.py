"""What training keeps of an exam, and what it hands to network and loss."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform

from clinbundles.motion.motion_truth import read_motion_truth

MOTION_KEYS = ("image", "lax", "lax_pose", "planes_label", "planes_pose")
WALL_POINTS = 500


def as_training_tensors(sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """What training needs of a loaded exam, as small as it may be kept in memory: images as half floats.

    Added: ``wall_points`` (N, 3) in mm and ``wall_displacements`` (T, N, 3), exact for simulated hearts (whose
    ``truth`` the sample names), NaN for others.
    """
    kept: dict[Hashable, Any] = {key: torch.as_tensor(sample[key]) for key in MOTION_KEYS}
    for key in ("image", "lax"):
        kept[key] = kept[key].as_subclass(torch.Tensor).half()
    if sample.get("truth"):
        truth = read_motion_truth(str(sample["truth"]), torch.as_tensor(sample["frame_to_world"]))
        kept["wall_points"], kept["wall_displacements"] = (
            truth.points[:WALL_POINTS].clone(),
            truth.displacements[:, :WALL_POINTS].clone(),
        )
    else:
        kept["wall_points"] = torch.zeros(WALL_POINTS, 3)
        kept["wall_displacements"] = torch.full((kept["image"].shape[0], WALL_POINTS, 3), torch.nan)
    return kept


class TrainingTensorsd(MapTransform):
    """Keep of an exam with labels what training needs (deterministic, to be cached).

    Raises:
        ValueError: an exam without label maps.
    """

    def __init__(self, keys: str = "image") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` is a sample of ``LoadImageCineExamd(labels=True, planes=True)``."""
        if "planes_label" not in data or bool((data["planes_label"] == 255).all()):
            raise ValueError(
                f"case '{data.get('case', '')}' has no label map: training needs sax_label, and "
                "lax_*_label where there are long-axis views"
            )
        return as_training_tensors(data)


def prepare_pair(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **options: Any
) -> tuple[Any, Any, tuple[()], dict[str, Any]]:
    """What MONAI's trainer hands to network and loss: image, targets, nothing more by place, the planes by name."""

    def move(key: str) -> torch.Tensor:
        return torch.as_tensor(batch[key]).to(device=device, non_blocking=non_blocking, **options)

    image = move("image")
    targets = {
        "image": image,
        "lax": move("lax_target" if "lax_target" in batch else "lax"),
        "lax_pose": move("lax_target_pose" if "lax_target_pose" in batch else "lax_pose"),
        "planes_label": move("planes_label"),
        "planes_pose": move("planes_pose"),
        "wall_points": move("wall_points"),
        "wall_displacements": move("wall_displacements"),
    }
    return image, targets, (), {"lax": move("lax"), "lax_pose": move("lax_pose")}
