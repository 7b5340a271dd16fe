"""Flows in pixels: inversion, composition, from template flows to pair flows, gauge, Jacobian determinant.

A flow (..., 2, X, Y) holds pixels, component 0 = row (X) and 1 = column (Y), and pulls: frame(p) ~ image(p + flow(p)).

Border: where a place p + flow(p) leaves the image, the flow that is looked up there is that of the nearest border
pixel. Images are zero outside; a flow that dropped to zero there would tear the tissue at the border.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import grid_sample

SMALLEST_DETERMINANT = 0.05  # below it a flow is all but folded and has no inverse to differentiate
BILINEAR, BORDER = 0, 1  # how ATen numbers the modes of grid_sample


def check_flow(flow: torch.Tensor, name: str = "flow") -> None:
    """Raise ValueError unless the shape is (..., 2, X, Y) with at least 2 x 2 pixels, and the values are real."""
    if flow.ndim < 3 or flow.shape[-3] != 2 or min(flow.shape[-2:]) < 2:
        raise ValueError(
            f"{name} has shape {tuple(flow.shape)}: expected (..., 2, X, Y), component 0 = row and 1 = column in "
            "pixels, X and Y at least 2"
        )
    if not flow.is_floating_point():
        raise ValueError(f"{name} has type {flow.dtype}: expected float32 or float64 pixels")


def pixel_places(flow: torch.Tensor) -> torch.Tensor:
    """(2, X, Y): row and column of each pixel, in the flow's type and on its device."""
    axes = [torch.arange(count, dtype=flow.dtype, device=flow.device) for count in flow.shape[-2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def sampling_grid(places: torch.Tensor) -> torch.Tensor:
    """(B, 2, X, Y) rows and columns in pixels as (B, X, Y, 2), the order and range of ``grid_sample``: column, row."""
    rows, columns = places.shape[-2:]
    return torch.stack([places[:, 1] * (2 / (columns - 1)) - 1, places[:, 0] * (2 / (rows - 1)) - 1], dim=-1)


def _look_up(flow: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Flow (B, 2, X, Y) at places (B, 2, X, Y) in pixels, bilinear, constant beyond the border."""
    return grid_sample(flow, sampling_grid(places), mode="bilinear", padding_mode="border", align_corners=True)


def compose_flow(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The flow of going along ``first`` and then along ``second``: first(p) + second(p + first(p)).

    Args:
        first: (..., 2, X, Y) in pixels.
        second: the same grid; leading axes broadcast.

    Returns:
        (..., 2, X, Y), differentiable in both.
    """
    check_flow(first, "first")
    check_flow(second, "second")
    if first.shape[-2:] != second.shape[-2:]:
        raise ValueError(
            f"first has {tuple(first.shape[-2:])} pixels and second {tuple(second.shape[-2:])}: they must have one grid"
        )
    first, second = torch.broadcast_tensors(first, second)
    start = first.reshape(-1, *first.shape[-3:])
    moved = start + _look_up(second.reshape(start.shape), pixel_places(first) + start)
    return moved.reshape(first.shape)


def invert_flow(v: torch.Tensor, steps: int = 20, tolerance: float = 1e-5) -> torch.Tensor:
    """The flow w that goes back: w(p) = -v(p + w(p)), by fixed-point iteration (Chen et al., Med Phys 35, 2008).

    It converges where v changes by less than one pixel per pixel; the error shrinks by that factor in a step.

    The gradient is that of the solution, not of the steps: differentiating w + v(p + w) = 0 gives
    (I + grad v) dw = -dv at p + w, which is one 2 x 2 system per pixel. It costs one look-up, however many steps
    were done. Where det(I + grad v) falls below ``SMALLEST_DETERMINANT``, that bound stands in its place.

    Args:
        v: (..., 2, X, Y) in pixels.
        steps: at most.
        tolerance: in pixels; the iteration ends when no pixel changes by more.

    Returns:
        (..., 2, X, Y) in pixels.
    """
    check_flow(v, "v")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    flows = v.reshape(-1, *v.shape[-3:])
    places = pixel_places(v)
    with torch.no_grad():
        inverse = -flows
        for _ in range(steps):
            before, inverse = inverse, -_look_up(flows, places + inverse)
            if (inverse - before).abs().amax() <= tolerance:
                break
    if torch.is_grad_enabled() and v.requires_grad:
        here = places + inverse
        found = _look_up(flows, here)
        # The value stays; the derivative becomes -(I + grad v)^-1 dv(p + w).
        inverse = inverse - _solve_2x2(_spatial_derivative(flows.detach(), here), found - found.detach())
    return inverse.reshape(v.shape)


def _spatial_derivative(flows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(B, 2, 2, X, Y): derivative of component [:, c] along axis [:, :, a] of the bilinear surface at places."""
    with torch.enable_grad():
        at = places.detach().requires_grad_()
        found = _look_up(flows, at)
        parts = [torch.autograd.grad(found[:, part].sum(), at, retain_graph=part == 0)[0] for part in range(2)]
    return torch.stack(parts, dim=1)


def _solve_2x2(gradient: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(I + gradient)^-1 right per pixel, (B, 2, X, Y)."""
    a, b = 1 + gradient[:, 0, 0], gradient[:, 0, 1]
    c, d = gradient[:, 1, 0], 1 + gradient[:, 1, 1]
    determinant = (a * d - b * c).clamp(min=SMALLEST_DETERMINANT)
    r, s = right.unbind(1)
    return torch.stack([d * r - b * s, a * s - c * r], dim=1) / determinant[:, None]


def pair_flows(v: torch.Tensor, weights: torch.Tensor | None = None, steps: int = 20) -> torch.Tensor:
    """Flows between all pairs of frames by way of the template: flow[t, s](p) = w_s(p) + v_t(p + w_s(p)).

    v_t goes from the template to frame t: frame_t(p + v_t(p)) ~ template(p); w_s is the inverse of v_s. The diagonal
    is zero exactly. Memory: the result, and in the backward pass its gradient; nothing is kept per pair.

    Args:
        v: (T, 2, X, Y) in pixels.
        weights: (T, S) with S = T; a pair of weight 0 is not computed, and its flow is 0. None: all pairs.
        steps: of the inversion, at most.

    Returns:
        (T, S, 2, X, Y) in pixels: predicts frame s from frame t. Differentiable in v.
    """
    check_flow(v, "v")
    if v.ndim != 4:
        raise ValueError(f"v has shape {tuple(v.shape)}: expected (T, 2, X, Y), one flow from the template per frame")
    frames = len(v)
    if weights is None:
        wanted = torch.ones(frames, frames, dtype=torch.bool)
    elif weights.shape != (frames, frames):
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}: expected ({frames}, {frames}), target and source frames of v"
        )
    else:
        wanted = weights.detach().cpu() != 0
    wanted = wanted & ~torch.eye(frames, dtype=torch.bool)
    result: torch.Tensor = _PairFlows.apply(v, invert_flow(v, steps), wanted)
    return result


class _PairFlows(torch.autograd.Function):
    """v (T, 2, X, Y) and its inverse w to pair flows; all targets of a source frame share one look-up grid."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor, w: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(v, w)
        ctx.wanted = wanted
        flow = v.new_zeros(len(v), *w.shape)
        for source, targets in enumerate(wanted.T):
            if targets.any():
                chosen = v[targets.to(v.device)]
                grid = sampling_grid(pixel_places(w) + w[source : source + 1])
                moved = grid_sample(
                    chosen.flatten(0, 1)[None], grid, mode="bilinear", padding_mode="border", align_corners=True
                )
                flow[targets.to(v.device), source] = w[source] + moved.reshape(chosen.shape)
        return flow

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        (gradient,) = gradients
        v, w = ctx.saved_tensors
        to_v, to_w = torch.zeros_like(v), torch.zeros_like(w)
        scale = torch.tensor([v.shape[-2] - 1, v.shape[-1] - 1], dtype=v.dtype, device=v.device).reshape(2, 1, 1) / 2
        for source, targets in enumerate(ctx.wanted.T):
            if targets.any():
                chosen = targets.to(v.device)
                cotangent = gradient[chosen, source]
                grid = sampling_grid(pixel_places(w) + w[source : source + 1])
                to_flow, to_grid = torch.ops.aten.grid_sampler_2d_backward(
                    cotangent.flatten(0, 1)[None], v[chosen].flatten(0, 1)[None], grid, BILINEAR, BORDER, True,
                    [True, True],
                )  # fmt: skip
                to_v[chosen] += to_flow.reshape(cotangent.shape)
                to_w[source] = cotangent.sum(0) + to_grid[0].movedim(-1, 0).flip(0) / scale
        return to_v, to_w, None


def remove_mean(v: torch.Tensor) -> torch.Tensor:
    """The gauge of template flows (..., T, 2, X, Y): their mean over T is taken away, so that none is free to drift.

    Any common deformation of the template gives the same pair flows; a zero mean picks one.
    """
    check_flow(v, "v")
    if v.ndim < 4:
        raise ValueError(f"v has shape {tuple(v.shape)}: expected (..., T, 2, X, Y)")
    return v - v.mean(dim=-4, keepdim=True)


def jacobian_determinant(flow: torch.Tensor) -> torch.Tensor:
    """det(I + grad flow), (..., X, Y): 1 keeps area, at most 0 folds. Central differences, one-sided at the border."""
    check_flow(flow)
    rows, columns = flow.unbind(-3)
    row_row, row_column = torch.gradient(rows, dim=(-2, -1))
    column_row, column_column = torch.gradient(columns, dim=(-2, -1))
    return (1 + row_row) * (1 + column_column) - row_column * column_row
