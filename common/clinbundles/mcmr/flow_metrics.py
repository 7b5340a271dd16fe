"""How good and how plausible a flow is: end-point error, photometric residual, folding, area change, cycle error.

Flows are (..., 2, X, Y) in pixels, pull; flow[t, s] lives on the grid of frame s, and so does its mask.
"""

from __future__ import annotations

import math

import torch

from clinbundles.mcmr.bilinear_warp import warp
from clinbundles.mcmr.flow_composition import check_flow, compose_flow, jacobian_determinant


def _chosen(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Values (..., X, Y) inside a mask whose leading axes broadcast, as one row."""
    if mask is None:
        return values.reshape(-1)
    if mask.shape[-2:] != values.shape[-2:]:
        raise ValueError(
            f"mask has {tuple(mask.shape[-2:])} pixels and the flow {tuple(values.shape[-2:])}: they must have one grid"
        )
    inside = mask.to(torch.bool).expand(values.shape)
    if not inside.any():
        raise ValueError("mask is empty: no pixel to look at")
    return values[inside]


def endpoint_error(flow: torch.Tensor, true_flow: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Mean |flow - true_flow| in pixels inside a mask (..., X, Y), such as the myocardial ring on the flow's grid."""
    check_flow(flow)
    if flow.shape != true_flow.shape:
        raise ValueError(f"flow has shape {tuple(flow.shape)} and true_flow {tuple(true_flow.shape)}: they must agree")
    error = (flow.detach().double() - true_flow.double()).square().sum(-3).sqrt()
    return float(_chosen(error, mask).mean())


def photometric_error(
    reference: torch.Tensor,
    flow: torch.Tensor,
    mask: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> float:
    """RMSE of reference frames predicted from one another, relative to max |reference| inside the mask.

    The magnitudes of frame t, warped by flow[t, s], are compared with those of frame s, for t != s. In dB it is
    -20 log10 of this. What a flow pulls from outside the image is zero.

    Args:
        reference: (T, X, Y), fully sampled, complex or magnitudes.
        flow: (T, S, 2, X, Y) with S = T.
        mask: (X, Y), or (S, X, Y) on the grids of the source frames.
        weights: (T, S); only pairs whose weight is not 0 count, all of these alike.
    """
    check_flow(flow)
    frames = len(reference)
    if reference.ndim != 3 or flow.shape != (frames, frames, 2, *reference.shape[-2:]):
        raise ValueError(
            f"reference has shape {tuple(reference.shape)} and flow {tuple(flow.shape)}: expected (T, X, Y) and "
            "(T, T, 2, X, Y)"
        )
    images = reference.detach().abs()
    used = ~torch.eye(frames, dtype=torch.bool, device=flow.device)
    if weights is not None:
        used &= weights.to(flow.device) != 0
    total, count, peak = 0.0, 0, 0.0
    for source in range(frames):
        here = mask[source] if mask is not None and mask.ndim == 3 else mask
        peak = max(peak, float(_chosen(images[source], here).max()))
        targets = used[:, source]
        if targets.any():
            predicted = warp(images[targets], flow[targets, source].detach().to(images.dtype))
            error = _chosen(predicted - images[source], here).double()
            total, count = total + float(error.square().sum()), count + len(error)
    if count == 0 or peak == 0:
        raise ValueError(f"nothing to compare: {count} predicted pixels, max |reference| {peak}")
    return math.sqrt(total / count) / peak


def folding_share(flow: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Pixels in percent where det(I + grad flow) <= 0: there the flow folds and cannot be tissue."""
    return 100 * float((_chosen(jacobian_determinant(flow.detach()), mask) <= 0).double().mean())


def log_determinant_sd(flow: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Standard deviation of log det(I + grad flow) inside a mask; folded pixels have no logarithm and are left out.

    NaN if less than two pixels are left.
    """
    determinant = _chosen(jacobian_determinant(flow.detach().double()), mask)
    unfolded = determinant[determinant > 0]
    return float(unfolded.log().std()) if len(unfolded) > 1 else math.nan


def cycle_error(flow: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Mean length in pixels of what is left of going from frame s to frame t and back, over all pairs t != s.

    Args:
        flow: (T, S, 2, X, Y) with S = T.
        mask: (X, Y), or (S, X, Y) on the grids of the source frames.
    """
    check_flow(flow)
    if flow.ndim != 5 or flow.shape[0] != flow.shape[1] or len(flow) < 2:
        raise ValueError(f"flow has shape {tuple(flow.shape)}: expected (T, T, 2, X, Y) with at least two frames")
    frames, total = len(flow), 0.0
    for source in range(frames):
        here = mask[source] if mask is not None and mask.ndim == 3 else mask
        others = [frame for frame in range(frames) if frame != source]
        left = compose_flow(flow[others, source].detach(), flow[source, others].detach())
        total += float(_chosen(left.double().square().sum(-3).sqrt(), here).mean())
    return total / frames
