"""Gradients through the solve, against central differences and against autograd through unrolled iterations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from motion_compensation_step_by_step import unrolled_solve
from random_cine import complex_normal, line_encoding, random_flow

from clinbundles.mcmr.bilinear_warp import warp
from clinbundles.mcmr.motion_compensated_solve import SolveSettings, solve_motion_compensated

T, N, X, Y = 4, 3, 6, 5
EXACT = SolveSettings(tolerance=1e-13, max_iterations=300)
NAMES = ("flow", "prior", "regularisation", "weights", "adjoint_images")


def problem() -> dict[str, torch.Tensor]:
    return {
        "flow": random_flow(T, T, rows=X, columns=Y),
        "prior": complex_normal(T, X, Y, seed=4),
        "regularisation": torch.tensor(0.2, dtype=torch.float64),
        "weights": 0.2 + torch.rand(T, T, dtype=torch.float64, generator=torch.Generator().manual_seed(7)),
        "adjoint_images": line_encoding(T, N, X, Y).adjoint(complex_normal(T, N, X, Y, seed=5)),
    }


def loss_of(images: torch.Tensor) -> torch.Tensor:
    return (images - complex_normal(T, X, Y, seed=6)).abs().square().mean()


def solve(values: dict[str, torch.Tensor], path: str = "auto", settings: SolveSettings = EXACT) -> torch.Tensor:
    return solve_motion_compensated(line_encoding(T, N, X, Y, path), settings=settings, **values)[0]


def gradients(
    values: dict[str, torch.Tensor], compute: Callable[[dict[str, torch.Tensor]], torch.Tensor]
) -> dict[str, torch.Tensor]:
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    return dict(zip(leaves, torch.autograd.grad(compute(leaves), list(leaves.values())), strict=True))


@pytest.mark.parametrize("path", ["gram", "fft"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_central_differences(name, path):
    values = problem()
    gradient = gradients(values, lambda v: loss_of(solve(v, path)))[name]
    direction = torch.randn(values[name].shape, dtype=values[name].dtype, generator=torch.Generator().manual_seed(8))
    step = 1e-6
    ends = [loss_of(solve(values | {name: values[name] + sign * step * direction}, path)) for sign in (1, -1)]
    expected = float(ends[0] - ends[1]) / (2 * step)
    assert float((gradient.conj() * direction).real.sum()) == pytest.approx(expected, rel=1e-5)


def test_gradients_are_those_of_converged_unrolled_iterations():
    encoding = line_encoding(T, N, X, Y)

    def unrolled(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return loss_of(unrolled_solve(encoding.sensitivity_maps, encoding.mask, iterations=80, **values))

    expected = gradients(problem(), unrolled)
    implicit = gradients(problem(), lambda values: loss_of(solve(values)))
    for name in NAMES:
        assert (implicit[name] - expected[name]).norm() < 1e-8 * expected[name].norm(), name


def test_gradients_in_single_precision_are_close_to_those_in_double():
    values = problem()
    single = {
        name: value.to(torch.complex64 if value.is_complex() else torch.float32) for name, value in values.items()
    }
    encoding = line_encoding(T, N, X, Y)
    maps, mask = encoding.sensitivity_maps.to(torch.complex64), encoding.mask

    def solve_single(leaves: dict[str, torch.Tensor]) -> torch.Tensor:
        return loss_of(
            solve_motion_compensated(
                type(encoding)(maps, mask), settings=SolveSettings(tolerance=1e-7, max_iterations=60), **leaves
            )[0]
        )

    exact = gradients(values, lambda leaves: loss_of(solve(leaves)))
    for name, gradient in gradients(single, solve_single).items():
        assert gradient.dtype == single[name].dtype
        assert (gradient - exact[name]).norm() < 1e-4 * exact[name].norm(), name


def test_envelope_theorem_the_minimum_itself_needs_no_second_solve():
    """d/dflow of the minimised objective is that at fixed images."""
    encoding, values = line_encoding(T, N, X, Y), problem()
    kspace = encoding.forward(complex_normal(T, X, Y, seed=9))
    values["adjoint_images"] = encoding.adjoint(kspace)

    def objective(images: torch.Tensor, leaves: dict[str, torch.Tensor]) -> torch.Tensor:
        pulled = warp(images[:, None], leaves["flow"])
        misfit = torch.stack([(encoding.forward(row) - kspace).abs().square().sum((1, 2, 3)) for row in pulled])
        proximal = leaves["regularisation"] * (images - leaves["prior"]).abs().square().sum()
        return (leaves["weights"] * misfit).sum() + proximal

    through = gradients(values, lambda leaves: objective(solve(leaves), leaves))
    fixed = solve(values)
    at_fixed = gradients(
        {name: value for name, value in values.items() if name != "adjoint_images"},
        lambda leaves: objective(fixed, leaves),
    )
    for name in ("flow", "prior", "regularisation", "weights"):
        assert torch.allclose(through[name], at_fixed[name], rtol=1e-8, atol=1e-9), name


def test_pairs_of_weight_zero_get_no_gradient():
    values = problem()
    values["weights"] = values["weights"] * (1 - torch.eye(T).roll(1, 0))
    gradient = gradients(values, lambda v: loss_of(solve(v)))["flow"]
    assert torch.equal(gradient.flatten(2).any(-1), values["weights"] > 0)


def test_nothing_is_recorded_of_the_iterations():
    kept: list[int] = []
    values = problem()
    values["flow"].requires_grad_()
    sizes = []
    for iterations in (1, 50):
        kept.clear()
        settings = SolveSettings(tolerance=0, max_iterations=iterations)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x.nbytes), x)[1], lambda x: x):
            solve(values, settings=settings)
        sizes.append(sum(kept))
    assert sizes[0] == sizes[1]


def test_the_report_tells_of_the_second_solve_which_is_no_looser_than_the_first():
    values = problem()
    values["flow"].requires_grad_()
    settings = SolveSettings(tolerance=1e-8, max_iterations=200, gradient_tolerance=1e-2)
    images, report = solve_motion_compensated(line_encoding(T, N, X, Y), settings=settings, **values)
    assert report.gradient is None
    loss_of(images).backward()
    assert report.gradient is not None
    assert report.gradient.converged
    assert report.gradient.relative_residual.max() <= 1e-8


def test_a_solve_without_gradients_records_nothing():
    with torch.no_grad():
        assert not solve(problem()).requires_grad
    assert not solve(problem()).requires_grad
