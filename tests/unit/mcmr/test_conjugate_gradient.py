from __future__ import annotations

import pytest
import torch
from random_cine import complex_normal

from clinbundles.mcmr.conjugate_gradient import conjugate_gradient

T, SIZE = 3, 12


def systems(dtype: torch.dtype = torch.complex128) -> tuple[torch.Tensor, torch.Tensor]:
    """Hermitian positive definite matrices of very different condition, and right sides of very different size."""
    root = complex_normal(T, SIZE, SIZE)
    values = torch.stack([torch.logspace(0, power, SIZE).double() for power in (0.2, 1.0, 2.0)])
    basis = torch.linalg.qr(root).Q
    matrices = basis @ (values[:, :, None] * basis.mH)
    right_side = complex_normal(T, SIZE, seed=1) * torch.tensor([1e-3, 1.0, 1e3])[:, None]
    return matrices.to(dtype), right_side.to(dtype)


def product(matrices):
    return lambda x: (matrices @ x[..., None])[..., 0]


def test_solution_is_that_of_the_direct_solve():
    matrices, b = systems()
    solution, report = conjugate_gradient(product(matrices), b, tolerance=1e-12, max_iterations=50)
    assert torch.allclose(solution, torch.linalg.solve(matrices, b), rtol=1e-9)
    assert report.converged
    assert report.relative_residual.shape == (T,)
    assert report.history.shape == (report.iterations + 1, T)
    assert torch.equal(report.history[-1], report.relative_residual)
    true = torch.linalg.vector_norm(b - product(matrices)(solution), dim=1) / torch.linalg.vector_norm(b, dim=1)
    assert (true < 1e-11).all()


def test_every_target_is_solved_as_if_it_were_alone():
    matrices, b = systems()
    together, report = conjugate_gradient(product(matrices), b, tolerance=1e-6)
    for target in range(T):
        alone, own = conjugate_gradient(product(matrices[target : target + 1]), b[target : target + 1], None, 1e-6)
        assert torch.allclose(together[target], alone[0], rtol=1e-12)
        assert torch.allclose(report.relative_residual[target], own.relative_residual[0])
        assert own.iterations <= report.iterations


def test_error_in_the_norm_of_the_operator_falls_at_every_iteration():
    matrices, b = systems()
    exact = torch.linalg.solve(matrices, b)
    before = torch.full((T,), torch.inf, dtype=torch.float64)
    for iterations in range(11):
        solution, _ = conjugate_gradient(product(matrices), b, tolerance=0, max_iterations=iterations)
        error = solution - exact
        energy = (error.conj() * product(matrices)(error)).sum(1).real
        assert (energy < before * (1 + 1e-9)).all()
        before = energy


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])  # exact also in single precision
def test_iterations_and_result_do_not_depend_on_the_scale(dtype, scale):
    matrices, b = systems(dtype)
    one, report = conjugate_gradient(product(matrices), b, tolerance=1e-5)
    other, scaled = conjugate_gradient(product(matrices), scale * b, tolerance=1e-5)
    assert report.iterations == scaled.iterations
    assert torch.allclose(scale * one, other, rtol=1e-3)


def test_a_start_at_the_solution_needs_no_iteration():
    matrices, b = systems()
    exact = torch.linalg.solve(matrices, b)
    solution, report = conjugate_gradient(product(matrices), b, exact)
    assert report.iterations == 0
    assert report.converged
    assert torch.equal(solution, exact)


def test_a_right_side_of_zero_gives_zero():
    matrices, b = systems()
    b[1] = 0
    solution, report = conjugate_gradient(product(matrices), b, tolerance=1e-10, max_iterations=40)
    assert not solution[1].any()
    assert report.converged
    assert torch.isfinite(solution.abs()).all()


def test_a_solve_that_stopped_early_says_so_and_has_done_what_was_asked():
    matrices, b = systems()
    solution, report = conjugate_gradient(product(matrices), b, tolerance=1e-12, max_iterations=2)
    assert not report.converged
    assert report.iterations == 2
    untouched, none = conjugate_gradient(product(matrices), b, max_iterations=0)
    assert not untouched.any()
    assert torch.equal(none.relative_residual, torch.ones(T, dtype=torch.float64))
    assert solution.any()


def test_real_systems_are_solved_too_and_input_stays_as_it_was():
    matrix = torch.diag(torch.arange(1.0, 5.0))[None]
    b, start = torch.ones(1, 4), torch.zeros(1, 4)
    solution, _ = conjugate_gradient(product(matrix), b, start, tolerance=1e-6)
    assert torch.allclose(solution, 1 / torch.arange(1.0, 5.0), rtol=1e-5)
    assert torch.equal(b, torch.ones(1, 4))
    assert not start.any()


@pytest.mark.parametrize("spoil", ["matrix", "right side"])
def test_what_is_not_finite_or_not_positive_is_refused(spoil):
    matrices, b = systems()
    if spoil == "matrix":
        matrices[2] = -matrices[2]
    else:
        b[2, 0] = torch.nan
    with pytest.raises(ValueError, match=r"target 2, iteration 1: <p, H p> is .* expected a positive number"):
        conjugate_gradient(product(matrices), b)
