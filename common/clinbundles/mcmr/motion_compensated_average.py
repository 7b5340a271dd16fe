"""Averages of a cine along the motion: noise falls, and what moves stays sharp."""

from __future__ import annotations

import torch

from clinbundles.mcmr.bilinear_warp import warp


def motion_compensated_average(images: torch.Tensor, flow: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """z_s = sum_t w[t, s] U_{t->s} x_t / sum_t w[t, s]; differentiable in images and flow.

    Args:
        images: x, real or complex (T, X, Y).
        flow: real (T, S, 2, X, Y) in pixels; predicts frame s from frame t.
        weights: real (T, S), at least 0; pairs of weight 0 cost nothing and their flow is not looked at.

    Returns:
        (S, X, Y).

    Raises:
        ValueError: a frame s that no frame has weight for.
    """
    if flow.shape[:2] != weights.shape or len(images) != weights.shape[0]:
        raise ValueError(
            f"images has shape {tuple(images.shape)}, flow {tuple(flow.shape)} and weights {tuple(weights.shape)}: "
            "expected (T, X, Y), (T, S, 2, X, Y) and (T, S)"
        )
    total = weights.sum(0)
    if bool((total <= 0).any()):
        raise ValueError(f"weights: frame {int(torch.nonzero(total <= 0)[0])} has no frame to be averaged from")
    averages = []
    for source in range(weights.shape[1]):
        targets = torch.nonzero(weights[:, source] > 0)[:, 0]
        shares = (weights[targets, source] / total[source]).to(images.dtype)
        averages.append((shares[:, None, None] * warp(images[targets], flow[targets, source])).sum(0))
    return torch.stack(averages)
