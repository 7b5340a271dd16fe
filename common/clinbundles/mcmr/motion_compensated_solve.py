"""Motion-compensated reconstruction as one solve that gradients pass through without a record of its iterations.

    x_t = argmin_x sum_s w[t, s] ||A_s U_{t->s} x - y_s||^2 + regularisation ||x - z_t||^2

(Pan et al., MICCAI 2022, with weights and a proximal term). The gradients come from a second solve with the same
operator (implicit differentiation), so that memory does not grow with the iterations; they are as exact as both solves
have converged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from clinbundles.mcmr.coil_fourier_encoding import CoilFourierEncoding
from clinbundles.mcmr.conjugate_gradient import ConvergenceReport, conjugate_gradient
from clinbundles.mcmr.motion_compensated_normal import MotionCompensatedNormal

__all__ = [
    "ConvergenceReport",
    "MotionCompensatedNormal",
    "SolveSettings",
    "distance_weights",
    "solve_motion_compensated",
]


@dataclass(frozen=True)
class SolveSettings:
    """When the solves end.

    Attributes:
        tolerance: of the residual relative to the right side.
        max_iterations: of conjugate gradients.
        gradient_tolerance: of the solve for the gradients; at most `tolerance` is used, which is the default.
        gradient_max_iterations: by default `max_iterations`.
    """

    tolerance: float = 1e-4
    max_iterations: int = 20
    gradient_tolerance: float | None = None
    gradient_max_iterations: int | None = None

    def for_gradients(self) -> tuple[float, int]:
        """Tolerance and iterations of the solve for the gradients."""
        tolerance = self.tolerance if self.gradient_tolerance is None else min(self.tolerance, self.gradient_tolerance)
        iterations = self.max_iterations if self.gradient_max_iterations is None else self.gradient_max_iterations
        return tolerance, iterations


def distance_weights(frames: int, sigma: float, cyclic: bool = True, neighbours: int | None = None) -> torch.Tensor:
    """w[t, s] = exp(-d^2 / (2 sigma^2)), d being the distance of the frames t and s.

    Args:
        frames: T = S.
        sigma: in frames; infinite for weights of 1.
        cyclic: whether the last frame is followed by the first.
        neighbours: farther frames get weight 0; by default none does.

    Returns:
        (T, T) float32.
    """
    if frames < 1 or not sigma > 0 or (neighbours is not None and neighbours < 0):
        raise ValueError(
            f"frames {frames}, sigma {sigma:g}, neighbours {neighbours}: expected at least one frame, a positive sigma "
            "and neighbours of at least 0 or None"
        )
    number = torch.arange(frames)
    distance = (number[:, None] - number[None, :]).abs()
    if cyclic:
        distance = torch.minimum(distance, frames - distance)
    weights = torch.exp(-(distance.double() ** 2) / (2 * sigma**2)).float()
    return weights if neighbours is None else weights * (distance <= neighbours)


def solve_motion_compensated(
    encoding: CoilFourierEncoding,
    adjoint_images: torch.Tensor,
    flow: torch.Tensor,
    weights: torch.Tensor,
    prior: torch.Tensor,
    regularisation: float | torch.Tensor,
    start: torch.Tensor | None = None,
    settings: SolveSettings | None = None,
) -> tuple[torch.Tensor, ConvergenceReport]:
    """Solve for all targets; differentiable in flow, prior, regularisation, weights and adjoint images.

    Args:
        encoding: of S source frames.
        adjoint_images: A^H y, complex (S, X, Y).
        flow: real (T, S, 2, X, Y) in pixels; see `clinbundles.mcmr.fourier` for its direction.
        weights: real (T, S), at least 0; pairs of weight 0 cost nothing.
        prior: z, complex (T, X, Y).
        regularisation: at least 0; a number or a tensor of one element.
        start: of the iteration, complex (T, X, Y); zero by default. No gradient passes through it.
        settings: when the solves end.

    Returns:
        Images, complex (T, X, Y), and the report, whose `gradient` is there after a backward pass. A solve that ends at
        `max_iterations` says so in `converged`, and nowhere else.
    """
    settings = SolveSettings() if settings is None else settings
    for name, values, count in (
        ("adjoint_images", adjoint_images, encoding.frames),
        ("prior", prior, weights.shape[0]),
        ("start", prior if start is None else start, weights.shape[0]),
    ):
        expected = (count, *encoding.plane)
        if tuple(values.shape) != expected or values.dtype != encoding.sensitivity_maps.dtype:
            raise ValueError(
                f"{name}: found {tuple(values.shape)} {values.dtype}, expected {expected} "
                f"{encoding.sensitivity_maps.dtype}"
            )
    regularisation = torch.as_tensor(regularisation, dtype=flow.dtype, device=flow.device)
    reports: list[ConvergenceReport] = []
    images = _ImplicitSolve.apply(
        flow, weights, adjoint_images, prior, regularisation, encoding, start, settings, reports
    )
    return images, reports[0]


class _ImplicitSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        flow: torch.Tensor,
        weights: torch.Tensor,
        adjoint_images: torch.Tensor,
        prior: torch.Tensor,
        regularisation: torch.Tensor,
        encoding: CoilFourierEncoding,
        start: torch.Tensor | None,
        settings: SolveSettings,
        reports: list[ConvergenceReport],
    ) -> torch.Tensor:
        normal = MotionCompensatedNormal(encoding, flow, weights, float(regularisation))
        solution, report = conjugate_gradient(
            normal,
            normal.right_side(adjoint_images, prior),
            None if start is None else start.detach(),
            settings.tolerance,
            settings.max_iterations,
        )
        reports.append(report)
        ctx.save_for_backward(flow, weights, adjoint_images, prior, regularisation, solution)
        ctx.encoding, ctx.settings, ctx.report = encoding, settings, report
        return solution

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flow, weights, adjoint_images, prior, regularisation, solution = ctx.saved_tensors
        by_flow, by_weights, by_adjoint_images, by_prior, by_regularisation = ctx.needs_input_grad[:5]
        normal = MotionCompensatedNormal(ctx.encoding, flow, weights, float(regularisation))
        tolerance, iterations = ctx.settings.for_gradients()
        v, ctx.report.gradient = conjugate_gradient(normal, cotangents[0].contiguous(), None, tolerance, iterations)
        gradients = [
            torch.zeros_like(values, memory_format=torch.contiguous_format) if wanted else None
            for values, wanted in ((flow, by_flow), (weights, by_weights), (adjoint_images, by_adjoint_images))
        ]
        normal.gradients(solution, v, adjoint_images, *gradients)
        z_gradient = normal.regularisation * v if by_prior else None
        scalar = None
        if by_regularisation:
            product = torch.view_as_real(v).double() * torch.view_as_real(prior - solution).double()
            scalar = product.sum().to(regularisation.dtype).reshape(regularisation.shape)
        return (*gradients, z_gradient, scalar, None, None, None, None)
