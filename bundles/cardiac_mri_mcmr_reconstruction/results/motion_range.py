"""What a cine's motion amounts to: folding, change of area, the longest way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cardiac_mri_mcmr_reconstruction.results.grey_window import heart_region
from clinbundles.mcmr.flow_composition import compose_flow, invert_flow
from clinbundles.mcmr.flow_metrics import folding_share, log_determinant_sd


@dataclass(frozen=True)
class MotionRange:
    """Of the flows between neighbouring frames, in the heart's region (or the middle half of the image).

    Attributes:
        folding_percent: pixels where det(I + grad flow) <= 0.
        log_determinant_sd: standard deviation of log det(I + grad flow).
        largest_displacement_mm: longest way of a point of the template between any two frames; of pairwise motion, the
            longest of its flows.
    """

    folding_percent: float
    log_determinant_sd: float
    largest_displacement_mm: float


def motion_range(
    motion: torch.Tensor,
    *,
    roi: Sequence[int] | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0),
    cyclic: bool = True,
) -> MotionRange:
    """Folding and range of flows in pixels.

    Args:
        motion: (T, 2, X, Y), template -> frame; or (T, S, 2, X, Y) between frames, of which neighbours must be there.
        roi: (x0, y0, x1, y1), or None for the middle half.
        spacing_mm: pixel size along X and Y.
        cyclic: the last frame's neighbour is the first.
    """
    flow = motion.detach()
    x0, y0, x1, y1 = heart_region(flow.shape[-3:], roi)
    inside = torch.zeros(flow.shape[-2:], dtype=torch.bool, device=flow.device)
    inside[x0:x1, y0:y1] = True
    frames = torch.arange(len(flow), device=flow.device)
    if flow.ndim == 5:
        ahead, back = flow[frames.roll(-1), frames], flow[frames.roll(1), frames]
    else:
        to_template = invert_flow(flow)
        ahead = compose_flow(to_template, flow.roll(-1, 0))  # frame t + 1 on the grid of t
        back = compose_flow(to_template, flow.roll(1, 0))
    if not cyclic:
        ahead, back = ahead[:-1], back[1:]
    nearest = torch.cat([ahead, back])
    seen = flow[..., x0:x1, y0:y1] * torch.as_tensor(spacing_mm, dtype=flow.dtype).to(flow.device).reshape(2, 1, 1)
    if flow.ndim == 5:
        longest = float(seen.square().sum(-3).max().sqrt())
    else:
        longest = max(float((seen - frame).square().sum(1).max().sqrt()) for frame in seen)
    return MotionRange(folding_share(nearest, inside), log_determinant_sd(nearest, inside), longest)
