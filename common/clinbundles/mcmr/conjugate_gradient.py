"""Conjugate gradients for a batch of Hermitian positive definite systems that share one operator call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass
class ConvergenceReport:
    """How a solve went.

    Attributes:
        iterations: calls of the operator within the iteration.
        relative_residual: (T,) float64, ||b - H x|| / ||b|| of each target at the end (that of the recursion).
        converged: whether all targets reached the tolerance.
        history: (iterations + 1, T) float64, relative residuals from the start on.
        gradient: the same of the solve that gave the gradients, after a backward pass.
    """

    iterations: int
    relative_residual: torch.Tensor
    converged: bool
    history: torch.Tensor
    gradient: ConvergenceReport | None = None


def conjugate_gradient(
    apply: Callable[[torch.Tensor], torch.Tensor],
    right_side: torch.Tensor,
    start: torch.Tensor | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 20,
) -> tuple[torch.Tensor, ConvergenceReport]:
    """Solve H_t x_t = b_t for all targets t (Hestenes and Stiefel 1952); one step length for each target.

    Scalar products are summed in float64. A target that has reached the tolerance is left as it is; the iteration ends
    when all have. Every target's result is the same as if it were solved alone.

    Args:
        apply: x (T, ...) -> H x (T, ...), without mixing targets.
        right_side: b, real or complex (T, ...).
        start: (T, ...); zero by default.
        tolerance: of ||b_t - H_t x_t|| relative to ||b_t||.
        max_iterations: at which the iteration ends in any case.

    Returns:
        The solution and the report.

    Raises:
        ValueError: if numbers stop being finite, or if H is seen not to be positive.
    """
    if start is None:
        solution, residual = torch.zeros_like(right_side), right_side.clone()
    else:
        solution, residual = start.clone(), right_side - apply(start)
    size = _products(right_side, right_side)
    size = torch.where(size > 0, size, torch.ones_like(size))  # b = 0: the residual itself
    energy = _products(residual, residual)
    history = [(energy / size).sqrt()]
    direction = residual.clone()
    iterations = 0
    while iterations < max_iterations:
        open_targets = ~(history[-1] <= tolerance)  # not-a-number stays open and is refused below
        if not bool(open_targets.any()):
            break
        image = apply(direction)
        iterations += 1
        curvature = _products(direction, image)
        if bool((open_targets & ~(curvature > 0)).any()):
            _refuse(curvature, open_targets, iterations)
        step = torch.where(open_targets, energy / curvature, torch.zeros_like(energy))
        solution.addcmul_(_along(step, direction), direction)
        residual.addcmul_(_along(-step, image), image)
        previous, energy = energy, torch.where(open_targets, _products(residual, residual), energy)
        growth = torch.where(open_targets, energy / previous, torch.zeros_like(energy))
        direction.mul_(_along(growth, direction)).add_(residual)
        history.append((energy / size).sqrt())
    table = torch.stack(history)
    return solution, ConvergenceReport(iterations, table[-1], bool((table[-1] <= tolerance).all()), table)


def _products(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Re <first, second> of each target, in float64."""
    if first.is_complex():
        first, second = torch.view_as_real(first), torch.view_as_real(second)
    return torch.linalg.vecdot(first.flatten(1).double(), second.flatten(1).double())


def _along(factors: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return factors.to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))


def _refuse(curvature: torch.Tensor, open_targets: torch.Tensor, iteration: int) -> None:
    target = int(torch.nonzero(open_targets & ~(curvature > 0))[0])
    raise ValueError(
        f"conjugate gradients, target {target}, iteration {iteration}: <p, H p> is {float(curvature[target]):g}, "
        "expected a positive number. Check the input for values that are not finite, and that the regularisation and "
        "the weights are not negative"
    )
