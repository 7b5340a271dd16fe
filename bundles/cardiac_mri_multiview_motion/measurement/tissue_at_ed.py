"""The tissues at end-diastole on the motion grid: the user's label map where there is one, else the network's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cardiac_mri_multiview_motion.networks import TISSUES
from clinbundles.cine.exam_crops import stack_on_grid
from clinbundles.motion.motion_grid import GRID_SPACING_MM


def tissue_at_ed(
    prediction: torch.Tensor, native: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[torch.Tensor, str]:
    """Probability of each tissue at end-diastole on the motion grid.

    Args:
        prediction: (T, 3 + n, I, J, K), the network's output; its logits at frame 0 count.
        native: acquired slices (``native`` of ``LoadImageCineExamd``); a label map of the short-axis stack at
            end-diastole is taken instead of the network's, linearly between slices.

    Returns:
        (n, I, J, K) probabilities, and where they come from: "given label" or "network".
    """
    label = (native or {}).get("sax", {}).get("label")
    if label is None:
        return prediction[0, 3:].float().softmax(dim=0), "network"
    poses = np.asarray((native or {})["sax"]["pose"], dtype=float)
    return tissue_of_slices(torch.as_tensor(label)[:, 0], poses, tuple(prediction.shape[2:])), "given label"


def tissue_of_slices(
    labels: torch.Tensor,
    poses: np.ndarray,
    size: Sequence[int],
    spacing_mm: Sequence[float] = GRID_SPACING_MM,
) -> torch.Tensor:
    """Label maps (K, I', J') of short-axis slices with poses (K, 3, 4) as probabilities (n, I, J, K) on the grid.

    Linear between slices; what is not one of the tissues is background.
    """
    maps = torch.stack([(labels == value).float() for value in range(1, len(TISSUES))], dim=1)
    volume, _ = stack_on_grid(maps, poses, size, spacing_mm)
    return torch.cat([(1 - volume.sum(dim=0, keepdim=True)).clamp(min=0), volume])
